//! Log lines on disk, so that a restart forgets nothing: for each app the current segment and the one before it.
//!
//! Invariants: at most `2 * SEGMENT_BYTES_MAX` and one line for each app; a guest never waits for the disk (the queue
//! is bounded in bytes, and lines that do not fit are counted and dropped from the disk alone); unreadable lines are
//! skipped. Lines are not synced: a power cut may cost the last ones.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::record::LogRecord;
use crate::byte_queue::{ByteQueue, DropCount};
use crate::ids::AppName;
use crate::limits::LOG_FILES_WAITING_BYTES_MAX;

const SEGMENT_BYTES_MAX: u64 = 4 << 20;
/// Lines between two flushes.
const FLUSH_LINES_MAX: usize = 4_096;

/// A directory of log lines.
#[derive(Clone, Debug)]
pub(crate) struct LogFiles {
    dir: PathBuf,
}

impl LogFiles {
    /// Opens the directory `logs` of a data directory, created with mode 0700 if missing.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let dir = data.join("logs");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir })
    }

    /// Reads every line on disk, oldest first within each app. Blocks.
    pub(crate) fn read(&self) -> io::Result<Vec<LogRecord>> {
        let mut records = Vec::new();
        let names = fs::read_dir(&self.dir)?.flatten().map(|entry| entry.file_name());
        let mut apps: Vec<AppName> =
            names.filter_map(|name| AppName::new(name.to_str()?.strip_suffix(".ndjson")?).ok()).collect();
        apps.sort();
        for app in apps {
            for path in [self.before(&app), self.current(&app)] {
                let Ok(file) = File::open(path) else { continue };
                // A file that something else made larger is read only so far.
                let lines = BufReader::new(file.take(2 * SEGMENT_BYTES_MAX)).split(b'\n').map_while(Result::ok);
                let read = lines.filter_map(|line| serde_json::from_slice::<LogRecord>(&line).ok());
                records.extend(read.filter(|record| record.app == app));
            }
        }
        Ok(records)
    }

    fn current(&self, app: &AppName) -> PathBuf {
        self.dir.join(format!("{app}.ndjson"))
    }

    /// Cannot collide with another app's current segment: app names hold no dot.
    fn before(&self, app: &AppName) -> PathBuf {
        self.dir.join(format!("{app}.before.ndjson"))
    }

    fn append(&self, app: &AppName) -> io::Result<Segment> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.current(app))?;
        let bytes = file.metadata()?.len();
        Ok(Segment { file: BufWriter::new(file), bytes })
    }
}

struct Segment {
    file: BufWriter<File>,
    bytes: u64,
}

/// Thread that writes lines. Dropping it writes the waiting ones first.
pub(crate) struct Writer {
    lines: Arc<ByteQueue<Arc<LogRecord>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(files: LogFiles) -> io::Result<Self> {
        let lines = Arc::new(ByteQueue::new(LOG_FILES_WAITING_BYTES_MAX));
        let queue = lines.clone();
        let thread = std::thread::Builder::new().name("log-files".into()).spawn(move || write(&files, &queue))?;
        Ok(Self { lines, thread: Some(thread) })
    }

    /// Queues a line. Does not wait.
    pub(crate) fn line(&self, line: Arc<LogRecord>) {
        let bytes = line.bytes();
        // The queue counts a refusal.
        self.lines.offer(line.app.clone().as_str(), bytes, line);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(files: &LogFiles, queue: &ByteQueue<Arc<LogRecord>>) {
    let mut open: BTreeMap<AppName, Segment> = BTreeMap::new();
    while let Some(first) = queue.take() {
        // One flush for all waiting lines.
        let waiting = std::iter::from_fn(|| queue.try_take()).take(FLUSH_LINES_MAX);
        for line in std::iter::once(first).chain(waiting) {
            if let Err(error) = put(files, &mut open, &line) {
                open.remove(&line.app);
                tracing::warn!(app = %line.app, %error, "a log line cannot be kept on disk");
            }
        }
        open.retain(|_, segment| segment.file.flush().is_ok());
        let DropCount { items, bytes } = queue.take_dropped();
        if items > 0 {
            tracing::warn!(
                lines = items,
                bytes,
                "log lines came faster than the disk took them and are in memory alone"
            );
        }
    }
}

fn put(files: &LogFiles, open: &mut BTreeMap<AppName, Segment>, line: &LogRecord) -> io::Result<()> {
    let app = &line.app;
    if !open.contains_key(app) {
        open.insert(app.clone(), files.append(app)?);
    }
    let segment = open.get_mut(app).expect("inserted above");
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    segment.file.write_all(&text)?;
    segment.bytes += text.len() as u64;
    if segment.bytes >= SEGMENT_BYTES_MAX {
        segment.file.flush()?;
        fs::rename(files.current(app), files.before(app))?;
        open.remove(app);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::ids::{CallId, FunctionName, Version};
    use crate::logs::{Level, Source};

    fn record(app: &str, message: &str) -> Arc<LogRecord> {
        Arc::new(LogRecord {
            number: 1,
            at_ms: 1,
            app: AppName::new(app).unwrap(),
            function: FunctionName::new("f").unwrap(),
            version: Version::of_digest(&[0; 32]),
            call: CallId::generate(),
            source: Source::Log,
            level: Level::Info,
            message: message.to_owned(),
            fields: vec![("key".to_owned(), "value".to_owned())],
        })
    }

    #[test]
    fn what_was_written_reads_back_and_what_is_broken_is_passed_over() {
        let data = tempfile::tempdir().unwrap();
        let files = LogFiles::open(data.path()).unwrap();
        let writer = Writer::start(files.clone()).unwrap();
        for (app, message) in [("a", "one"), ("b", "other"), ("a", "two")] {
            writer.line(record(app, message));
        }
        drop(writer);
        let mut file = OpenOptions::new().append(true).open(files.current(&AppName::new("a").unwrap())).unwrap();
        file.write_all(b"{\"number\":1,\"at").unwrap();
        fs::write(data.path().join("logs/not an app.ndjson"), "x").unwrap();
        let read = files.read().unwrap();
        let texts: Vec<_> = read.iter().map(|line| (line.app.as_str(), line.message.as_str())).collect();
        assert_eq!(texts, [("a", "one"), ("a", "two"), ("b", "other")]);
        assert_eq!(read[0].fields, [("key".to_owned(), "value".to_owned())]);
    }

    #[test]
    fn a_flood_keeps_two_segments() {
        let data = tempfile::tempdir().unwrap();
        let files = LogFiles::open(data.path()).unwrap();
        let (app, text) = (AppName::new("a").unwrap(), "x".repeat(100_000));
        let mut open = BTreeMap::new();
        for _ in 0..200 {
            put(&files, &mut open, &record("a", &text)).unwrap();
        }
        drop(open);
        let bytes = |path: PathBuf| fs::metadata(path).unwrap().len();
        let sum = bytes(files.current(&app)) + bytes(files.before(&app));
        assert!((SEGMENT_BYTES_MAX..2 * SEGMENT_BYTES_MAX + 200_000).contains(&sum), "{sum}");
        assert_eq!(fs::read_dir(data.path().join("logs")).unwrap().count(), 2);
        assert!(files.read().unwrap().len() > 40);
    }

    /// Pins the on-disk format, which users' data directories hold (`docs/decisions/store-format.md`).
    #[test]
    fn a_line_is_on_disk_as_it_was() {
        let call = CallId::from_bytes(*b"the id of a call");
        let line = LogRecord { call, ..Arc::into_inner(record("app", "a message")).unwrap() };
        let text = serde_json::to_string_pretty(&line).unwrap();
        expect![[r#"
            {
              "number": 1,
              "at_ms": 1,
              "app": "app",
              "function": "f",
              "version": "000000000000",
              "call": "74686520-6964-206f-6620-612063616c6c",
              "source": "log",
              "level": "info",
              "message": "a message",
              "fields": {
                "key": "value"
              }
            }"#]]
        .assert_eq(&text);
        let read: LogRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&read).unwrap(), text);
        let bare = serde_json::to_value(LogRecord { fields: vec![], ..line }).unwrap();
        assert!(serde_json::from_value::<LogRecord>(bare).unwrap().fields.is_empty());
        let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];
        expect![[r#"["trace","debug","info","warn","error"]"#]].assert_eq(&serde_json::to_string(&levels).unwrap());
        let sources = [Source::Log, Source::Stdout, Source::Stderr, Source::System];
        expect![[r#"["log","stdout","stderr","system"]"#]].assert_eq(&serde_json::to_string(&sources).unwrap());
    }
}
