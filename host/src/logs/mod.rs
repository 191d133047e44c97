//! The latest log lines of each app, for whoever asks: by filter, and as they come.
//!
//! Not here: how a call's log is bounded (`sandbox::log`).
//!
//! Invariants: each app keeps its own newest `APP_BYTES_MAX`, so a flood of one loses nothing of another; who follows sees
//! each line once, in order, and is told how many were lost if it reads too slowly.

mod disk;
mod follow;
mod line;
mod printable;
mod query;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::unix_ms;
use crate::ids::{AppName, CallId, FunctionName, Version};

use self::disk::{LogFiles, Writer};
use self::follow::Followers;

pub use self::follow::{Follow, Followed};
pub use self::line::{Level, Line, LogSink, NoLog, Source};
pub use self::printable::{printable, printable_within};
pub use self::query::Query;

/// What is kept of one app.
const APP_BYTES_MAX: usize = 4 << 20;
/// What a line costs besides its text.
const LINE_OVERHEAD_BYTES: usize = 128;

/// One kept line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Increases with every line of the host.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub app: AppName,
    pub function: FunctionName,
    pub version: Version,
    pub call: CallId,
    pub source: Source,
    pub level: Level,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "as_map", deserialize_with = "from_map")]
    pub fields: Vec<(String, String)>,
}

fn as_map<S: Serializer>(fields: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(key, value)| (key, value)))
}

fn from_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    BTreeMap::deserialize(deserializer).map(|fields| fields.into_iter().collect())
}

impl Record {
    fn bytes(&self) -> usize {
        let of_field = |(key, value): &(String, String)| size_of::<(String, String)>() + key.len() + value.len();
        let fields: usize = self.fields.iter().map(of_field).sum();
        LINE_OVERHEAD_BYTES + self.message.len() + fields
    }
}

/// The lines of one host. Passes each on to another sink, too.
pub struct Logs {
    next: Arc<dyn LogSink>,
    kept: Mutex<Kept>,
    files: OnceLock<Writer>,
}

#[derive(Default)]
struct Kept {
    number: u64,
    apps: BTreeMap<AppName, App>,
    followers: Followers,
}

impl Kept {
    fn push(&mut self, mut record: Record) -> Arc<Record> {
        self.number += 1;
        record.number = self.number;
        let record = Arc::new(record);
        let app = self.apps.entry(record.app.clone()).or_default();
        app.bytes += record.bytes();
        app.lines.push_back(record.clone());
        while app.bytes > APP_BYTES_MAX
            && let Some(oldest) = app.lines.pop_front()
        {
            app.bytes -= oldest.bytes();
        }
        record
    }
}

#[derive(Default)]
struct App {
    bytes: usize,
    lines: VecDeque<Arc<Record>>,
}

impl Logs {
    /// Keeps lines and passes them on to `next`.
    pub fn new(next: Arc<dyn LogSink>) -> Arc<Self> {
        Arc::new(Self { next, kept: Mutex::default(), files: OnceLock::new() })
    }

    /// Takes in what earlier hosts kept in `data`, and keeps lines there from now on. Blocks while it reads.
    pub fn keep_in(&self, data: &Path) -> io::Result<()> {
        let files = LogFiles::open(data)?;
        let mut records = files.read()?;
        records.sort_by_key(|record| record.at_ms);
        let mut kept = self.lock();
        for record in records {
            kept.push(record);
        }
        let _ = self.files.set(Writer::start(files)?);
        Ok(())
    }

    /// Returns the kept lines that `query` wants, oldest first.
    pub fn read(&self, query: &Query) -> Vec<Arc<Record>> {
        Self::select(&self.lock(), query)
    }

    /// Returns the kept lines that `query` wants and those that will come, without a gap between them.
    pub fn follow(&self, query: Query) -> (Vec<Arc<Record>>, Follow) {
        let mut kept = self.lock();
        // Lines are sent under the same lock.
        (Self::select(&kept, &query), kept.followers.add(query))
    }

    fn select(kept: &Kept, query: &Query) -> Vec<Arc<Record>> {
        let apps = kept.apps.iter().filter(|(app, _)| query.app.as_ref().is_none_or(|wanted| wanted == *app));
        let mut found: Vec<Arc<Record>> =
            apps.flat_map(|(_, app)| &app.lines).filter(|line| query.wants(line)).cloned().collect();
        found.sort_unstable_by_key(|line| line.number);
        if let Some(tail) = query.tail {
            found.drain(..found.len().saturating_sub(tail));
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for Logs {
    fn line(&self, line: &Line<'_>) {
        let record = Record {
            number: 0,
            at_ms: unix_ms(),
            app: line.function.app.clone(),
            function: line.function.function.clone(),
            version: line.version.clone(),
            call: line.call,
            source: line.source,
            level: line.level,
            message: line.message.to_owned(),
            fields: line.fields.to_vec(),
        };
        {
            let mut kept = self.lock();
            let record = kept.push(record);
            if let Some(files) = self.files.get() {
                files.line(record.clone());
            }
            kept.followers.send(&record);
        }
        self.next.line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FunctionId;
    use crate::limits::{LOG_FOLLOWER_BYTES_MAX, LOG_FOLLOWERS_BYTES_MAX};

    fn write(logs: &Logs, app: &str, message: &str) {
        let function = FunctionId { app: AppName::new(app).unwrap(), function: FunctionName::new("f").unwrap() };
        logs.line(&Line {
            call: CallId::generate(),
            function: &function,
            version: &Version::of_digest(&[0; 32]),
            source: Source::Log,
            level: Level::Info,
            message,
            fields: &[],
        });
    }

    fn messages(lines: &[Arc<Record>]) -> Vec<&str> {
        lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[test]
    fn a_flood_of_one_app_loses_nothing_of_another() {
        let logs = Logs::new(Arc::new(NoLog));
        write(&logs, "quiet", "here");
        for _ in 0..10_000 {
            write(&logs, "loud", &"x".repeat(1_000));
        }
        let quiet = Query { app: Some(AppName::new("quiet").unwrap()), ..Query::default() };
        assert_eq!(messages(&logs.read(&quiet)), ["here"]);
        let kept: usize = logs.read(&Query::default()).iter().map(|line| line.bytes()).sum();
        assert!(kept <= APP_BYTES_MAX + LINE_OVERHEAD_BYTES + 4, "{kept}");
        let last = Query { tail: Some(3), ..Query::default() };
        assert_eq!(logs.read(&last).len(), 3);
    }

    #[tokio::test]
    async fn who_follows_misses_nothing_or_is_told_how_much() {
        let logs = Logs::new(Arc::new(NoLog));
        write(&logs, "a", "before");
        let (kept, mut follow) = logs.follow(Query { app: Some(AppName::new("a").unwrap()), ..Query::default() });
        write(&logs, "b", "of another");
        write(&logs, "a", "after");
        assert_eq!(messages(&kept), ["before"]);
        let Some(Followed::Line(line)) = follow.next().await else { panic!("a line") };
        assert_eq!(line.message, "after");
        let long = "x".repeat(1_000);
        for _ in 0..2_000 {
            write(&logs, "a", &long);
        }
        let mut lines = 0;
        let lost = loop {
            match follow.next().await {
                Some(Followed::Line(_)) => lines += 1,
                Some(Followed::Lost(lost)) => break lost,
                None => panic!("the host goes on"),
            }
        };
        assert_eq!(lines + lost, 2_000);
        assert!(lines * 1_000 <= LOG_FOLLOWER_BYTES_MAX as u64 && lines * 1_200 >= LOG_FOLLOWER_BYTES_MAX as u64);
        write(&logs, "a", "again");
        assert!(matches!(follow.next().await, Some(Followed::Line(line)) if line.message == "again"));
        drop(logs);
        assert!(follow.next().await.is_none());
    }

    #[tokio::test]
    async fn followers_share_one_budget_and_give_it_back() {
        let logs = Logs::new(Arc::new(NoLog));
        let followers: Vec<_> = (0..32).map(|_| logs.follow(Query::default()).1).collect();
        for _ in 0..2_000 {
            write(&logs, "a", &"x".repeat(1_000));
        }
        let waiting = |logs: &Logs| logs.lock().followers.bytes();
        assert!((LOG_FOLLOWERS_BYTES_MAX - 2_000..=LOG_FOLLOWERS_BYTES_MAX).contains(&waiting(&logs)));
        drop(followers);
        assert_eq!(waiting(&logs), 0);
    }
}
