//! What the host keeps of a schedule: where it stands, and its latest runs. Plain data.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::app::metadata::Schedule;
use crate::ids::{CallId, FunctionId, Version};

/// Runs that are kept of each function.
pub const HISTORY_LEN: u64 = 100;

/// Where one function's schedule stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the times below are of; its policies are left out.
    pub timetable: Schedule,
    /// From where a period counts.
    #[serde(rename = "start_ms", with = "ms")]
    pub start: Timestamp,
    /// Until when everything that was due is dealt with.
    #[serde(rename = "through_ms", with = "ms")]
    pub through: Timestamp,
    /// The first time behind that at which it is due.
    #[serde(rename = "next_ms", with = "ms_or_none")]
    pub next: Option<Timestamp>,
    pub is_paused: bool,
    /// It was taken off the host, or is scheduled no more.
    pub is_gone: bool,
    /// What waits until the run before it has ended.
    pub waiting: Option<Owed>,
    /// What waited so when the host ended, and what could not be put on record.
    pub left: Option<Owed>,
    /// What a run stood for that the host's end cut off.
    pub interrupted: Option<Owed>,
    /// Number of its last run; 0 before the first. Some may be passed over.
    pub runs: u64,
}

/// Times that were due and that one run stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The first of them.
    #[serde(rename = "from_ms", with = "ms")]
    pub from: Timestamp,
    /// The last of them.
    #[serde(rename = "due_ms", with = "ms")]
    pub due: Timestamp,
    pub times: u64,
    /// How often in a row the host's end cut off such a run.
    #[serde(default)]
    pub interruptions: u32,
}

impl Owed {
    pub fn one(due: Timestamp) -> Self {
        Self { from: due, due, times: 1, interruptions: 0 }
    }

    /// Returns both as one.
    pub fn with(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            due: self.due.max(other.due),
            times: self.times.saturating_add(other.times),
            interruptions: self.interruptions.max(other.interruptions),
        }
    }
}

/// One run, or several in a row that were skipped for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// 1 for a function's first.
    pub number: u64,
    /// The times that it stands for; none for a run by hand.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Owed>,
    #[serde(rename = "started_ms", with = "ms_or_none")]
    pub started: Option<Timestamp>,
    #[serde(rename = "ended_ms", with = "ms_or_none")]
    pub ended: Option<Timestamp>,
    pub call: Option<CallId>,
    pub version: Option<Version>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// On record, and not ended.
    Running,
    Done,
    /// The code of the failure.
    Failed {
        code: String,
    },
    /// The host ended before the run did.
    Interrupted,
    Skipped {
        why: Why,
    },
}

/// Why a run was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its time passed while the host was down or asleep.
    Missed,
    /// The run before it went on.
    Overlap,
    /// It waited for the run before it, and the schedule was paused.
    Paused,
    /// It waited for the run before it, and the app was stopped.
    Stopped,
}

/// Returns the key of a function's state. Those of its runs are behind it, in their order.
pub fn state_key(function: &FunctionId) -> Vec<u8> {
    // Names hold no NUL, so no function's keys begin with another's.
    [function.app.as_str().as_bytes(), b"\0", function.function.as_str().as_bytes(), b"\0"].concat()
}

/// Returns the key of a run.
pub fn run_key(function: &FunctionId, number: u64) -> Vec<u8> {
    [state_key(function).as_slice(), &number.to_be_bytes()].concat()
}

/// Returns what a key is of: a function and, of a run, its number.
pub fn read_key(key: &[u8]) -> Option<(FunctionId, Option<u64>)> {
    let mut parts = key.splitn(3, |byte| *byte == 0);
    let mut name = || std::str::from_utf8(parts.next()?).ok();
    let (app, function) = (name()?.parse().ok()?, name()?.parse().ok()?);
    let number = match parts.next()? {
        [] => None,
        number => Some(u64::from_be_bytes(number.try_into().ok()?)),
    };
    Some((FunctionId { app, function }, number))
}

/// Times as milliseconds since 1970.
mod ms {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.as_millisecond())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::from_millisecond(i64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

mod ms_or_none {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Timestamp::as_millisecond).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let ms = Option::<i64>::deserialize(deserializer)?;
        ms.map(Timestamp::from_millisecond).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn a_run_reads_as_it_was_written() {
        let mut run = Run {
            number: 7,
            owed: Some(Owed { from: time(1_000), due: time(3_000), times: 3, interruptions: 1 }),
            started: Some(time(3_001)),
            ended: None,
            call: Some(CallId::generate()),
            version: Some(Version::of_digest(&[7; 32])),
            outcome: Outcome::Failed { code: "timeout".into() },
        };
        let again = |run: &Run| serde_json::from_slice::<Run>(&serde_json::to_vec(run).unwrap()).unwrap();
        assert_eq!(again(&run), run);
        run = Run { owed: None, call: None, outcome: Outcome::Skipped { why: Why::Missed }, ..run };
        assert_eq!(again(&run), run);
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!((&json["outcome"], &json["why"]), (&"skipped".into(), &"missed".into()));
    }

    #[test]
    fn keys_of_one_function_are_in_order_and_apart_from_others() {
        let id = |text: &str| {
            let (app, function) = text.split_once("::").unwrap();
            FunctionId { app: app.parse().unwrap(), function: function.parse().unwrap() }
        };
        let (f, fg) = (id("a::f"), id("a::fg"));
        let mut keys = [run_key(&fg, 1), run_key(&f, 256), state_key(&fg), run_key(&f, 255), state_key(&f)];
        keys.sort();
        assert_eq!(keys, [state_key(&f), run_key(&f, 255), run_key(&f, 256), state_key(&fg), run_key(&fg, 1)]);
        assert_eq!(read_key(&run_key(&f, 256)), Some((f.clone(), Some(256))));
        assert_eq!(read_key(&state_key(&f)), Some((f, None)));
        assert_eq!(read_key(b"a\0f"), None);
        assert_eq!(read_key(b"a\0f\x00123"), None);
    }
}
