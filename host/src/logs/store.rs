//! Newest log lines of each app, in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use super::disk::{LogFiles, Writer};
use super::follow::{Follower, Followers};
use super::line::{Level, LogLine, LogSink, Source};
use super::query::Query;
use super::rate::{self, Dropped, LogRate};
use super::record::{LogRecord, line_bytes};
use crate::clock::unix_ms;
use crate::ids::AppName;
use crate::limits::LOGS_BYTES_MAX;

/// Bytes of lines kept for one app.
const APP_BYTES_MAX: usize = 4 << 20;

/// Log lines of one host; a sink that passes each line on to the next one.
pub struct Logs {
    next: Arc<dyn LogSink>,
    recent: Mutex<RecentLines>,
    files: OnceLock<Writer>,
}

#[derive(Default)]
struct RecentLines {
    number: u64,
    /// Of all apps.
    bytes: usize,
    apps: BTreeMap<AppName, AppLines>,
    rates: HashMap<AppName, LogRate>,
    followers: Followers,
}

impl RecentLines {
    /// Whether a line is within its app's rate limit; else it is counted. Also returns the lines that were dropped
    /// before, if it is time to report them.
    fn admit(&mut self, app: &AppName, bytes: usize, now: Instant) -> (bool, Option<Dropped>) {
        let rate = match self.rates.get_mut(app) {
            Some(rate) => rate,
            None => self.rates.entry(app.clone()).or_insert_with(|| LogRate::new(now)),
        };
        (rate.admit(bytes as u64, now), rate.report(now))
    }

    fn push(&mut self, mut record: LogRecord) -> Arc<LogRecord> {
        self.number += 1;
        record.number = self.number;
        let record = Arc::new(record);
        let app = self.apps.entry(record.app.clone()).or_default();
        app.bytes += record.bytes();
        self.bytes += record.bytes();
        app.lines.push_back(record.clone());
        while app.bytes > APP_BYTES_MAX
            && let Some(oldest) = app.lines.pop_front()
        {
            app.bytes -= oldest.bytes();
            self.bytes -= oldest.bytes();
        }
        while self.bytes > LOGS_BYTES_MAX {
            let Some(largest) = self.apps.values_mut().max_by_key(|app| app.bytes) else { break };
            let Some(oldest) = largest.lines.pop_front() else { break };
            largest.bytes -= oldest.bytes();
            self.bytes -= oldest.bytes();
        }
        record
    }
}

#[derive(Default)]
struct AppLines {
    bytes: usize,
    lines: VecDeque<Arc<LogRecord>>,
}

impl Logs {
    /// Keeps lines in memory and passes them on to `next`.
    pub(crate) fn new(next: Arc<dyn LogSink>) -> Arc<Self> {
        Arc::new(Self { next, recent: Mutex::default(), files: OnceLock::new() })
    }

    /// Loads the lines that earlier hosts left in `data`, and writes lines there from now on. Blocks while it reads.
    pub(crate) fn keep_in(&self, data: &Path) -> io::Result<()> {
        let files = LogFiles::open(data)?;
        let mut records = files.read()?;
        records.sort_by_key(|record| record.at_ms);
        let mut recent = self.recent.lock();
        for record in records {
            recent.push(record);
        }
        let _ = self.files.set(Writer::start(files)?);
        Ok(())
    }

    /// Returns the kept lines that match `query`, oldest first.
    pub(crate) fn read(&self, query: &Query) -> Vec<Arc<LogRecord>> {
        Self::select(&self.recent.lock(), query)
    }

    /// Returns the kept lines that match `query`, and a follower of later ones, without a gap in between.
    pub(crate) fn follow(&self, query: Query) -> (Vec<Arc<LogRecord>>, Follower) {
        let mut recent = self.recent.lock();
        // Live lines are sent under the same lock.
        (Self::select(&recent, &query), recent.followers.add(query))
    }

    /// Returns the bytes of the kept lines.
    pub(crate) fn bytes(&self) -> usize {
        self.recent.lock().bytes
    }

    fn select(recent: &RecentLines, query: &Query) -> Vec<Arc<LogRecord>> {
        let apps = recent.apps.iter().filter(|(app, _)| query.app.as_ref().is_none_or(|wanted| wanted == *app));
        let mut found: Vec<Arc<LogRecord>> =
            apps.flat_map(|(_, app)| &app.lines).filter(|line| query.matches(line)).cloned().collect();
        found.sort_unstable_by_key(|line| line.number);
        if let Some(tail) = query.tail {
            found.drain(..found.len().saturating_sub(tail));
        }
        found
    }
}

impl LogSink for Logs {
    fn line(&self, line: &LogLine<'_>) {
        let bytes = line_bytes(line.message, line.fields);
        let (is_within, dropped) = self.recent.lock().admit(&line.function.app, bytes, Instant::now());
        if let Some(Dropped { lines, bytes }) = dropped {
            let message = format!(
                "{lines} log lines ({bytes} bytes) of `{}` were dropped: the app logs more than {}",
                line.function.app,
                rate::limit()
            );
            self.keep(&LogLine { source: Source::System, level: Level::Warn, message: &message, fields: &[], ..*line });
        }
        if is_within {
            self.keep(line);
        }
    }
}

impl Logs {
    fn keep(&self, line: &LogLine<'_>) {
        let record = LogRecord {
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
            let mut recent = self.recent.lock();
            let record = recent.push(record);
            if let Some(files) = self.files.get() {
                files.line(record.clone());
            }
            recent.followers.send(&record);
        }
        self.next.line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::super::follow::FollowItem;
    use super::super::line::NoLog;
    use super::super::record::LINE_OVERHEAD_BYTES;
    use super::*;
    use crate::ids::{CallId, FunctionId, FunctionName, Version};
    use crate::limits::{LOG_FOLLOWER_BYTES_MAX, LOG_FOLLOWERS_BYTES_MAX};

    fn write(logs: &Logs, app: &str, message: &str) {
        write_with(logs, app, message, &[]);
    }

    fn write_with(logs: &Logs, app: &str, message: &str, fields: &[(String, String)]) {
        let function = FunctionId { app: AppName::new(app).unwrap(), function: FunctionName::new("f").unwrap() };
        logs.line(&LogLine {
            call: CallId::generate(),
            function: &function,
            version: &Version::of_digest(&[0; 32]),
            source: Source::Log,
            level: Level::Info,
            message,
            fields,
        });
    }

    fn messages(lines: &[Arc<LogRecord>]) -> Vec<&str> {
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
        let Some(FollowItem::Line(line)) = follow.next().await else { panic!("a line") };
        assert_eq!(line.message, "after");
        let long = "x".repeat(1_000);
        for _ in 0..2_000 {
            write(&logs, "a", &long);
        }
        let mut lines = 0;
        let lost = loop {
            match follow.next().await {
                Some(FollowItem::Line(_)) => lines += 1,
                Some(FollowItem::Lost(lost)) => break lost,
                None => panic!("the host goes on"),
            }
        };
        assert_eq!(lines + lost, 2_000);
        assert!(lines * 1_000 <= LOG_FOLLOWER_BYTES_MAX as u64 && lines * 1_200 >= LOG_FOLLOWER_BYTES_MAX as u64);
        write(&logs, "a", "again");
        assert!(matches!(follow.next().await, Some(FollowItem::Line(line)) if line.message == "again"));
        drop(logs);
        assert!(follow.next().await.is_none());
    }

    #[test]
    fn the_lines_of_all_apps_share_one_bound_and_the_largest_give_way() {
        let logs = Logs::new(Arc::new(NoLog));
        write(&logs, "small", "here");
        let line = "x".repeat(60_000);
        for app in 0..20 {
            (0..70).for_each(|_| write(&logs, &format!("app-{app}"), &line));
        }
        assert!(logs.bytes() <= LOGS_BYTES_MAX && logs.bytes() > LOGS_BYTES_MAX - 70_000, "{}", logs.bytes());
        let of = |app: &str| Query { app: Some(AppName::new(app).unwrap()), ..Query::default() };
        assert_eq!(messages(&logs.read(&of("small"))), ["here"]);
        assert!(logs.read(&of("app-0")).len() > 40);
    }

    #[test]
    fn an_app_over_its_rate_is_told_how_much_was_dropped() {
        let long = "x".repeat(60_000);
        for (message, fields) in [(long.as_str(), vec![]), ("short", vec![("key".to_owned(), long.clone())])] {
            let logs = Logs::new(Arc::new(NoLog));
            (0..1_000).for_each(|_| write_with(&logs, "loud", message, &fields));
            let kept = logs.read(&Query::default());
            assert!(kept.iter().any(|line| line.source == Source::System && line.message.contains("were dropped")));
        }
    }

    #[tokio::test]
    async fn followers_share_one_budget_and_give_it_back() {
        let logs = Logs::new(Arc::new(NoLog));
        let followers: Vec<_> = (0..32).map(|_| logs.follow(Query::default()).1).collect();
        for _ in 0..2_000 {
            write(&logs, "a", &"x".repeat(1_000));
        }
        let waiting = |logs: &Logs| logs.recent.lock().followers.bytes();
        assert!((LOG_FOLLOWERS_BYTES_MAX - 2_000..=LOG_FOLLOWERS_BYTES_MAX).contains(&waiting(&logs)));
        drop(followers);
        assert_eq!(waiting(&logs), 0);
    }
}
