//! Log of one call: structured lines, stdout and stderr, bounded.
//!
//! Invariants: lines beyond the function's log limit are counted and dropped; a line has at most `LOG_LINE_BYTES_MAX`;
//! control characters never reach a terminal; verbatim values of the function's secrets are redacted; an empty write
//! costs nothing (GHSA-5m8g-xhq4-4h93, the reason for a stream of our own instead of wasmtime's adapter).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::ids::{CallId, FunctionId, Version};
use crate::limits::LOG_LINE_BYTES_MAX;
use crate::logs::{Level, LogLine, LogSink, Source, printable, printable_within};
use crate::settings::DeclaredSecrets;

/// Bytes of one line of stdout or stderr; a longer line is split.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Bytes of stderr kept for a crash message.
const TAIL_BYTES: usize = 2 << 10;
/// Cost of a line besides its bytes, and of a field: an empty line is printed as well.
const LINE_OVERHEAD_BYTES: usize = 64;
const FIELD_OVERHEAD_BYTES: usize = 64;
/// Cost of a control character, which is printed as `\u{1b}`.
const CONTROL_BYTES: u64 = 6;
/// Bytes that one write may carry.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Log of one call.
pub(crate) struct CallLog {
    call: CallId,
    function: FunctionId,
    version: Version,
    sink: Arc<dyn LogSink>,
    bytes_max: u64,
    secrets: Option<Arc<DeclaredSecrets>>,
    state: Mutex<LogState>,
}

#[derive(Default)]
struct LogState {
    kept_bytes: u64,
    dropped_bytes: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The newest bytes of stderr, in order.
    tail: Vec<u8>,
}

impl CallLog {
    /// Makes the log of one call, of at most `bytes_max` bytes.
    pub(crate) fn new(
        call: CallId,
        function: FunctionId,
        version: Version,
        sink: Arc<dyn LogSink>,
        bytes_max: u64,
        secrets: Option<Arc<DeclaredSecrets>>,
    ) -> Self {
        Self { call, function, version, sink, bytes_max, secrets, state: Mutex::default() }
    }

    /// Logs one structured line, cut to `LOG_LINE_BYTES_MAX`.
    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let of_field = |(key, value): &(String, String)| FIELD_OVERHEAD_BYTES + key.len() + value.len();
        let whole_bytes = LINE_OVERHEAD_BYTES + message.len() + fields.iter().map(of_field).sum::<usize>();
        // Over the limit, a line costs no formatting.
        if !self.take_room(0, LINE_OVERHEAD_BYTES, whole_bytes) {
            return;
        }
        let mut room = LOG_LINE_BYTES_MAX;
        let mut cut_bytes = 0;
        let mut print = |text: &str, cut_bytes: &mut usize| {
            // Redaction comes before the cut, which could leave a part of a secret.
            let (printed, cut) = printable_within(&self.redact(text), room);
            room -= printed.len();
            *cut_bytes += cut;
            printed
        };
        let mut message = print(message, &mut cut_bytes);
        let mut printed = Vec::with_capacity(fields.len().min(LOG_LINE_BYTES_MAX / FIELD_OVERHEAD_BYTES));
        let mut bytes = LINE_OVERHEAD_BYTES + message.len();
        for (key, value) in fields {
            if bytes >= LOG_LINE_BYTES_MAX {
                cut_bytes += key.len() + value.len();
                continue;
            }
            let (key, value) = (print(key, &mut cut_bytes), print(value, &mut cut_bytes));
            bytes += FIELD_OVERHEAD_BYTES + key.len() + value.len();
            printed.push((key, value));
        }
        if !self.take_room(bytes, bytes, whole_bytes) {
            return;
        }
        if cut_bytes > 0 {
            self.state.lock().dropped_bytes += cut_bytes as u64;
            message += &format!("… ({cut_bytes} bytes more were cut)");
        }
        self.emit(Source::Log, level, &message, &printed);
    }

    /// Returns the bytes dropped so far.
    pub(crate) fn dropped_bytes(&self) -> u64 {
        self.state.lock().dropped_bytes
    }

    /// Returns the end of stderr as text, for a crash message.
    pub(crate) fn stderr_tail(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().tail).into_owned()
    }

    /// Emits unterminated lines, and the number of dropped bytes. For the end of the call.
    pub(crate) fn finish(&self) {
        let (stdout, stderr, dropped) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.stdout), std::mem::take(&mut state.stderr), state.dropped_bytes)
        };
        for (source, rest) in [(Source::Stdout, stdout), (Source::Stderr, stderr)] {
            if !rest.is_empty() {
                self.print(source, &rest);
            }
        }
        if dropped > 0 {
            let message =
                format!("the log limit of {} bytes was reached; {dropped} bytes were dropped", self.bytes_max);
            self.emit(Source::Log, Level::Warn, &message, &[]);
        }
    }

    fn write(&self, source: Source, bytes: &[u8]) {
        let mut lines = Vec::new();
        {
            let mut state = self.state.lock();
            if source == Source::Stderr {
                append_tail(&mut state.tail, bytes);
            }
            for (i, &byte) in bytes.iter().enumerate() {
                let ends_line = byte == b'\n';
                let cost = match byte {
                    b'\n' => LINE_OVERHEAD_BYTES as u64,
                    b'\t' => 1,
                    byte if byte.is_ascii_control() => CONTROL_BYTES,
                    _ => 1,
                };
                if state.kept_bytes + cost > self.bytes_max {
                    state.dropped_bytes += (bytes.len() - i) as u64;
                    break;
                }
                state.kept_bytes += cost;
                let pending = if source == Source::Stderr { &mut state.stderr } else { &mut state.stdout };
                if ends_line || pending.len() == LINE_BYTES_MAX {
                    lines.push(std::mem::take(pending));
                }
                if !ends_line {
                    pending.push(byte);
                }
            }
        }
        for line in lines {
            self.print(source, &line);
        }
    }

    /// Emits one line of stdout or stderr.
    fn print(&self, source: Source, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        self.emit(source, Level::Info, &printable(&self.redact(&text)), &[]);
    }

    /// Takes `bytes` of the limit if `needed_bytes` are left, else counts a line of `whole_bytes` as dropped.
    fn take_room(&self, bytes: usize, needed_bytes: usize, whole_bytes: usize) -> bool {
        let mut state = self.state.lock();
        if state.kept_bytes + needed_bytes as u64 > self.bytes_max {
            state.dropped_bytes += whole_bytes as u64;
            return false;
        }
        state.kept_bytes += bytes as u64;
        true
    }

    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.secrets.as_ref().map_or(Cow::Borrowed(text), |secrets| secrets.redact(text))
    }

    /// Hands a printable line to the sink.
    fn emit(&self, source: Source, level: Level, message: &str, fields: &[(String, String)]) {
        let (function, version) = (&self.function, &self.version);
        self.sink.line(&LogLine { call: self.call, function, version, source, level, message, fields });
    }
}

fn append_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
    let excess = tail.len().saturating_sub(TAIL_BYTES);
    tail.drain(..excess);
}

/// Stdout or stderr of a guest.
#[derive(Clone)]
pub(crate) struct LogStream {
    pub log: Arc<CallLog>,
    pub source: Source,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 calls this, and it is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !bytes.is_empty() {
            self.log.write(self.source, &bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppName, FunctionName};
    use crate::settings::Secret;

    #[derive(Default)]
    struct RecordedLines(Mutex<Vec<String>>);

    impl LogSink for RecordedLines {
        fn line(&self, line: &LogLine<'_>) {
            let fields: String = line.fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            self.0.lock().push(format!("{:?} {}{fields}", line.source, line.message));
        }
    }

    fn log(bytes_max: u64) -> (Arc<CallLog>, Arc<RecordedLines>) {
        let kept = Arc::new(RecordedLines::default());
        let function = FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new("f").unwrap() };
        let version = Version::of_digest(&[0; 32]);
        let secrets = DeclaredSecrets::new(vec![("KEY".to_owned(), Secret::new("hunter2".to_owned()))]);
        let secrets = Some(Arc::new(secrets));
        (Arc::new(CallLog::new(CallId::generate(), function, version, kept.clone(), bytes_max, secrets)), kept)
    }

    #[test]
    fn writes_become_lines() {
        let (log, kept) = log(1_000);
        let mut stream = LogStream { log: log.clone(), source: Source::Stdout };
        for part in ["one\ntw", "", "o\n", "th\x1b[2Jree"] {
            stream.write(Bytes::from(part)).unwrap();
        }
        log.finish();
        assert_eq!(*kept.0.lock(), ["Stdout one", "Stdout two", "Stdout th\\u{1b}[2Jree"]);
    }

    #[test]
    fn a_secret_is_taken_out_of_every_kind_of_line() {
        let (log, kept) = log(1_000);
        log.write(Source::Stderr, b"key=hun");
        log.write(Source::Stderr, b"ter2\n");
        log.log(Level::Info, "with hunter2", &[("key".to_owned(), "hunter2".to_owned())]);
        assert_eq!(*kept.0.lock(), ["Stderr key=***", "Log with *** key=***"]);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let (log, kept) = log(100);
        for _ in 0..1_000 {
            log.write(Source::Stderr, &[b'x'; 1_000]);
        }
        log.log(Level::Info, "late", &[]);
        log.finish();
        let lines = kept.0.lock();
        assert_eq!(lines[0], format!("Stderr {}", "x".repeat(100)));
        assert_eq!(log.dropped_bytes(), 1_000_000 - 100 + 4 + LINE_OVERHEAD_BYTES as u64);
        assert!(lines[1].contains("bytes were dropped"), "{}", lines[1]);
        assert_eq!(log.stderr_tail().len(), TAIL_BYTES);
    }

    #[test]
    fn a_long_line_is_cut_and_its_rest_counted() {
        let (log, kept) = log(1 << 20);
        let fields = [("key".to_owned(), "v".repeat(1_000)), ("more".to_owned(), "w".to_owned())];
        log.log(Level::Info, &"\u{1b}".repeat(20_000), &fields);
        let lines = kept.0.lock();
        assert!(lines[0].len() < LOG_LINE_BYTES_MAX + 200, "{}", lines[0].len());
        assert!(lines[0].contains("bytes more were cut)"), "{}", &lines[0][LOG_LINE_BYTES_MAX..]);
        // The message leaves no room for the fields.
        let printed = LOG_LINE_BYTES_MAX / 6;
        assert_eq!(log.dropped_bytes(), (20_000 - printed + "key".len() + 1_000 + "more".len() + "w".len()) as u64);
    }

    #[test]
    fn fields_cost_their_room_and_those_over_the_limit_are_counted() {
        let (log, kept) = log(1 << 20);
        log.log(Level::Info, "", &vec![("k".to_owned(), "v".to_owned()); 10_000]);
        let fields = LOG_LINE_BYTES_MAX / (FIELD_OVERHEAD_BYTES + 2);
        let lines = kept.0.lock();
        assert!(lines[0].matches(" k=v").count().abs_diff(fields) <= 1, "{}", lines[0].matches(" k=v").count());
        assert!(log.dropped_bytes().abs_diff(2 * (10_000 - fields) as u64) <= 4, "{}", log.dropped_bytes());
    }

    #[test]
    fn lines_without_text_are_not_free() {
        let (log, kept) = log(1_000);
        for _ in 0..1_000 {
            log.log(Level::Info, "", &[]);
            log.write(Source::Stdout, b"\n");
        }
        assert_eq!(kept.0.lock().len(), 1_000 / LINE_OVERHEAD_BYTES);
    }

    #[test]
    fn an_endless_line_is_cut_into_several() {
        let (log, kept) = log(1 << 20);
        log.write(Source::Stdout, &vec![b'y'; LINE_BYTES_MAX * 2 + 1]);
        log.finish();
        let lengths: Vec<usize> = kept.0.lock().iter().map(|line| line.len() - "Stdout ".len()).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, 1]);
    }
}
