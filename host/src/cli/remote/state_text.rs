//! States of calls and maps in the words of people. The API and `--json` have their own, which are finer.

use console::style;

use crate::api::{Call, CallOrMap, CallState, Map, MapCounts, MapState};
use crate::cli::output;
use crate::logs::printable;

/// Words of `ps --state` that stand for several states of the API.
const WORDS: [(&str, &[&str]); 4] = [
    ("waiting", &["accepted", "waiting"]),
    ("retrying", &["waiting"]),
    ("running", &["leased", "running"]),
    ("failed", &["failed", "dead"]),
];

/// Returns the states of the API that a word stands for.
pub(crate) fn api_states(word: &str) -> Vec<&str> {
    let states = WORDS.iter().find(|(known, _)| *known == word);
    states.map_or_else(|| vec![word], |(_, states)| states.to_vec())
}

/// Returns the state of a call or map in a few words, for a list.
pub(crate) fn short(entry: &CallOrMap) -> String {
    match entry {
        CallOrMap::Call(call) => call_short(call),
        CallOrMap::Map(map) => map_short(map),
    }
}

fn call_short(call: &Call) -> String {
    let attempts = call.attempts;
    match call.state {
        CallState::Accepted => "waiting".to_owned(),
        CallState::Leased if attempts > 1 => format!("running, attempt {attempts}"),
        CallState::Leased => "running".to_owned(),
        CallState::Waiting => format!("retrying after {attempts}"),
        CallState::Failed | CallState::Dead if attempts > 1 => format!("failed, attempt {attempts}"),
        CallState::Failed | CallState::Dead => "failed".to_owned(),
        state @ (CallState::Done | CallState::Cancelled) => state.to_string(),
    }
}

fn map_short(map: &Map) -> String {
    let MapCounts { accepted, done, failed, dead, cancelled, .. } = map.counts;
    let failed = failed + dead;
    let settled = output::count(done + failed + cancelled);
    let state = match map.state {
        MapState::Open => format!("open for inputs, {settled}/{}", output::count(accepted)),
        MapState::Running => format!("running {settled}/{}", output::count(accepted)),
        MapState::Done => format!("done {}", output::count(done)),
        MapState::Cancelled => format!("cancelled, done {}", output::count(done)),
    };
    if failed > 0 { format!("{state}, failed {}", output::count(failed)) } else { state }
}

/// Colours a state for standard output.
pub(crate) fn coloured(entry: &CallOrMap, text: String) -> String {
    let is_failed = match entry {
        CallOrMap::Call(call) => matches!(call.state, CallState::Failed | CallState::Dead),
        CallOrMap::Map(map) => map.counts.failed + map.counts.dead > 0,
    };
    let is_done = match entry {
        CallOrMap::Call(call) => call.state == CallState::Done,
        CallOrMap::Map(map) => map.state == MapState::Done,
    };
    let text = style(text);
    match (is_failed, is_done) {
        (true, _) => text.red(),
        (false, true) => text.green(),
        (false, false) => text.yellow(),
    }
    .to_string()
}

/// Returns the state of a call that has not ended, in a sentence. `since_ms` is the time that its attempt has run.
pub(crate) fn of_live_call(call: &Call, since_ms: Option<u64>) -> String {
    let attempts = call.attempts;
    match call.state {
        CallState::Accepted => "waiting for its turn".to_owned(),
        CallState::Leased => {
            let since = since_ms.map(|ms| format!(", for {}", output::micros(ms.saturating_mul(1_000))));
            format!("running, attempt {attempts}{}", since.unwrap_or_default())
        }
        CallState::Waiting => {
            let next = call.next_ms.unwrap_or(0).saturating_sub(crate::clock::unix_ms());
            let why = call.failed_attempts.last().map(|attempt| format!(": {}", printable(&attempt.failure.message)));
            let why = why.unwrap_or_default();
            format!("retrying: {attempts} attempts failed, the next in {:.1} s{why}", next as f64 / 1e3)
        }
        state => state.to_string(),
    }
}

/// Returns the progress of a map in one line.
pub(crate) fn map_line(map: &Map) -> String {
    let MapCounts { accepted, done, failed, dead, cancelled, retried } = map.counts;
    let state = match map.state {
        MapState::Open => "open for inputs: ",
        MapState::Running => "running: ",
        MapState::Done => "",
        MapState::Cancelled => "cancelled: ",
    };
    let mut line = format!("{state}{} of {} done", output::count(done), output::count(accepted));
    for (count, name) in [(failed + dead, "failed"), (cancelled, "cancelled"), (retried, "retried")] {
        if count > 0 {
            line += &format!(", {} {name}", output::count(count));
        }
    }
    line + &format!("; cpu {}", output::micros(map.receipt.cpu_us))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(state: &str, attempts: u32) -> Call {
        serde_json::from_value(json!({
            "id": "0199c0de-0000-7000-8000-000000000000", "kind": "call", "app": "hello", "function": "hello::add",
            "state": state, "principal": "operator", "priority": "normal", "attempts": attempts,
        }))
        .unwrap()
    }

    fn map(state: &str, counts: [u64; 6]) -> Map {
        let [accepted, done, failed, dead, cancelled, retried] = counts;
        serde_json::from_value(json!({
            "id": "0199c0de-0000-7000-8000-000000000000", "kind": "map", "app": "hello", "function": "hello::add",
            "state": state, "principal": "operator", "priority": "normal", "created_ms": 1, "closed": true,
            "counts": {
                "accepted": accepted, "done": done, "failed": failed, "dead": dead, "cancelled": cancelled,
                "retried": retried,
            },
            "receipt": { "cpu_us": 7 },
        }))
        .unwrap()
    }

    #[test]
    fn states_of_the_queue_have_words_of_people() {
        let texts = [("accepted", 0), ("leased", 1), ("leased", 3), ("waiting", 2), ("dead", 4), ("failed", 1)];
        assert_eq!(
            texts.map(|(state, attempts)| call_short(&call(state, attempts))),
            ["waiting", "running", "running, attempt 3", "retrying after 2", "failed, attempt 4", "failed"]
        );
        assert_eq!(of_live_call(&call("leased", 1), Some(2_000)), "running, attempt 1, for 2.0 s");
        assert_eq!(of_live_call(&call("leased", 2), None), "running, attempt 2");
        assert_eq!(of_live_call(&call("accepted", 0), None), "waiting for its turn");
    }

    #[test]
    fn a_map_tells_how_many_inputs_failed_in_whatever_way() {
        assert_eq!(map_short(&map("done", [4_536, 4_530, 1, 5, 0, 33])), "done 4,530, failed 6");
        assert_eq!(map_short(&map("running", [4_536, 2_143, 6, 0, 0, 0])), "running 2,149/4,536, failed 6");
        assert_eq!(map_short(&map("open", [3, 1, 0, 0, 0, 0])), "open for inputs, 1/3");
        assert_eq!(map_short(&map("cancelled", [9, 4, 0, 0, 5, 0])), "cancelled, done 4");
        let line = map_line(&map("done", [4_536, 4_530, 1, 5, 0, 33]));
        assert_eq!(line, "4,530 of 4,536 done, 6 failed, 33 retried; cpu 7 µs");
        assert_eq!(map_line(&map("cancelled", [9, 4, 0, 0, 5, 0])), "cancelled: 4 of 9 done, 5 cancelled; cpu 7 µs");
    }

    #[test]
    fn a_word_stands_for_the_states_that_it_shows() {
        assert_eq!(api_states("failed"), ["failed", "dead"]);
        assert_eq!(api_states("live"), ["live"]);
        for (word, states) in WORDS {
            assert!(states.iter().all(|state| crate::api::STATES.contains(state)), "{word}");
        }
    }
}
