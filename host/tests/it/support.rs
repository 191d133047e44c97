//! Guests, the binary, a server, a client: what the tests share.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bireme::inference::catalogue::Catalogue;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::tiny::Tiny;

/// The model that the tests embed with: a small random one, but for the tests that ask for the `real_model`.
pub(crate) const MODEL: &str = "all-minilm-l6-v2";

/// Token of every host and command of the tests, but for those of the token itself.
pub(crate) const TOKEN: &str = "the-token-of-the-tests";

/// Upper bound of every wait: far more than a loaded machine needs, so that only a hang meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

// ---- What is built or fetched once and kept ----

/// The directory for what the tests keep between runs.
pub(crate) fn kept() -> &'static Path {
    static KEPT: OnceLock<PathBuf> = OnceLock::new();
    KEPT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let kept = target.parent().unwrap_or(target).join("it");
        fs::create_dir_all(&kept).unwrap();
        kept
    })
}

/// Runs `work` while no other test process does work of this name.
pub(crate) fn locked<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let lock = File::create(kept().join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    work()
}

/// An app that the tests call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guest {
    Hello,
    DocsSearch,
    Hostile,
    Authored,
    StockWasi,
    StockWstd,
    CsvEtl,
    FeedScraper,
    StockNn,
    Speech,
    Spawning,
}

/// Returns the path of a guest's component, metadata included.
pub(crate) fn guest(guest: Guest) -> &'static str {
    built(guest)["path"].as_str().unwrap()
}

/// Returns what `bireme build --json` said of a guest. Builds all guests at the first call, so that no test after it
/// waits for cargo.
pub(crate) fn built(guest: Guest) -> &'static Value {
    static GUESTS: OnceLock<Vec<Value>> = OnceLock::new();
    let guests = GUESTS.get_or_init(|| {
        locked("guests", || {
            let guests = ["hostile", "authored", "stock-wasi", "stock-wstd"].map(|name| format!("tests/guests/{name}"));
            let examples =
                ["hello", "docs-search", "csv-etl", "feed-scraper"].map(|name| format!("../examples/{name}"));
            let later = ["tests/guests/stock-nn", "../examples/speech", "tests/guests/spawning"].map(str::to_owned);
            let (first, rest) = examples.split_at(2);
            // In the order of `Guest`.
            first.iter().chain(&guests).chain(rest).chain(&later).map(|path| build(path)).collect()
        })
    });
    &guests[guest as usize]
}

/// Returns the directory of a guest's crate.
pub(crate) fn crate_dir(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn build(path: &str) -> Value {
    let dir = crate_dir(path);
    let output = bare()
        .env("BIREME_GUEST_TARGET_DIR", kept().join("guests"))
        .args(["--json", "build"])
        .arg(&dir)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot build {path}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the directory of a built-in model's own files, for the few tests whose point they are. Pulls them where
/// `BIREME_TEST_MODELS=1` asks for it. None, and said so, where they were never pulled.
pub(crate) fn real_model(name: &str) -> Option<PathBuf> {
    let data = kept().join("data");
    let dir = data.join("models").join(name);
    if !dir.is_dir() && std::env::var_os("BIREME_TEST_MODELS").is_none_or(|value| value != "1") {
        let megabytes = (Catalogue::new(&data).known(name).unwrap().bytes() + 500_000) / 1_000_000;
        let said = format!("skipped: needs {name} ({megabytes} MB); BIREME_TEST_MODELS=1 pulls it\n");
        // Past the test harness, which shows nothing of a test that passes.
        let _ = std::io::stderr().write_all(said.as_bytes());
        return None;
    }
    locked("model", || {
        let pulled = finish(command(&data, &["models", "pull", name]));
        assert!(pulled.status == 0, "cannot pull the model: {}", pulled.stderr);
    });
    Some(dir)
}

/// The data directory that tests share as long as they keep nothing in it: compiled components, and a small random
/// model under the name that the guests declare. The host takes a model's files as they are; only `models pull` and
/// `models add` hold them against the built-in's.
pub(crate) fn shared_data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        let data = kept().join("shared");
        for part in ["models", "artifacts"] {
            fs::create_dir_all(data.join(part)).unwrap();
        }
        locked("model", || {
            let (dir, new) = (data.join("models").join(MODEL), tempfile::tempdir_in(kept()).unwrap());
            Tiny::of_words().install(new.path());
            let is_same =
                |file: &str| fs::read(dir.join(file)).is_ok_and(|old| old == fs::read(new.path().join(file)).unwrap());
            // Another process may be at work with them.
            if !["config.json", "model.safetensors", "tokenizer.json"].into_iter().all(is_same) {
                let _ = fs::remove_dir_all(&dir);
                fs::rename(new.keep(), dir).unwrap();
            }
        });
        data
    })
}

/// A data directory with nothing in it but the shared model and compiled components.
pub(crate) fn fresh_data() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["models", "artifacts"] {
        symlink(shared_data().join(part), dir.path().join(part)).unwrap();
    }
    dir
}

/// A data directory with nothing in it but the shared compiled components.
pub(crate) fn data_without_models() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("models")).unwrap();
    symlink(shared_data().join("artifacts"), dir.path().join("artifacts")).unwrap();
    dir
}

/// A data directory with one model, whose files stay where they are, and the shared compiled components.
pub(crate) fn data_with_model(name: &str, files: &Path) -> TempDir {
    let dir = data_without_models();
    symlink(files, dir.path().join("models").join(name)).unwrap();
    dir
}

// ---- The binary ----

/// The binary, in an environment that says nothing about a build or about bireme.
fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bireme"));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        let of_cargo = name.starts_with("CARGO") && name != "CARGO_HOME";
        let of_rust = ["RUST_LOG", "RUST_BACKTRACE", "RUSTFLAGS", "RUSTC_WRAPPER"];
        if of_cargo || name.starts_with("BIREME_") || of_rust.contains(&&*name) {
            command.env_remove(&key);
        }
    }
    // Help and errors are wrapped to this width where no terminal says otherwise.
    command.env("COLUMNS", "100").env("BIREME_TOKEN", TOKEN).current_dir(kept());
    command
}

/// The binary over a data directory.
pub(crate) fn command(data: &Path, args: &[&str]) -> Command {
    let mut command = bare();
    command.arg("--data").arg(data).args(args);
    command
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Returns the JSON on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("stdout is no JSON ({error}): {self:#?}"))
    }
}

/// Runs the binary over the shared data directory.
pub(crate) fn bireme(args: &[&str]) -> Output {
    finish(command(shared_data(), args))
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command) -> Output {
    let output = command.output().unwrap();
    Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command with `input` on its standard input, to its end.
pub(crate) fn finish_with(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // From a thread: the command may answer before it has read everything, or not read it at all.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Returns `APP::FUNCTION`.
pub(crate) fn function(app: Guest, name: &str) -> String {
    format!("{}::{name}", guest(app))
}

// ---- Processes ----

/// A child that is killed when the test is done with it, however that ends.
pub(crate) struct Process(pub Child);

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_process(self.pid(), signal);
    }

    /// Waits for the end and returns the exit status.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to one process.
pub(crate) fn signal_process(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits for what an event elsewhere will make true.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What `/proc/PID/stat` says of a process; none once it is gone or only waits to be reaped.
#[derive(Debug)]
pub(crate) struct Stat {
    pub parent: u32,
    /// User and system time, in ticks of 10 ms.
    pub cpu_ticks: u64,
}

/// Looks a process up.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it is split by spaces.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, cpu_ticks: number(11)? + number(12)? })
}

/// Returns the most memory that a process ever held.
pub(crate) fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

/// Returns the children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent)).collect()
}

/// Returns the processes of a host that this binary runs as: `worker`, `compiler`, or the `spawner`, whose children the
/// others of a confined host are. Between its fork and its `exec`, a child is a copy of its parent.
pub(crate) fn children_as(role: &str, host: u32) -> Vec<u32> {
    let is_of_role = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|&byte| byte == 0).nth(1) == Some(role.as_bytes())
    };
    let own = children(host);
    let all: Vec<u32> = own.iter().flat_map(|&child| children(child)).chain(own.iter().copied()).collect();
    all.into_iter().filter(is_of_role).collect()
}

// ---- The server and its client ----

/// A running `bireme serve`.
pub(crate) struct Server {
    pub process: Process,
    pub address: SocketAddr,
    /// Removed with it, unless the test gave a directory of its own.
    _data: Option<TempDir>,
    stderr: PathBuf,
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// Serves these apps over a data directory of its own.
    pub(crate) fn start(apps: &[Guest]) -> Self {
        let data = fresh_data();
        let mut server = Self::start_over(data.path(), apps);
        server._data = Some(data);
        server
    }

    /// Serves these apps over `data`.
    #[track_caller]
    pub(crate) fn start_over(data: &Path, apps: &[Guest]) -> Self {
        Self::try_start(data, apps, &[]).unwrap_or_else(|output| panic!("no server: {output:#?}"))
    }

    /// Serves these apps over `data` with more arguments; by itself it takes a free port. Or returns how it ended.
    pub(crate) fn try_start(data: &Path, apps: &[Guest], more: &[&str]) -> Result<Self, Output> {
        let mut command = command(data, &["--json", "serve"]);
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(more).args(apps.iter().map(|&app| guest(app)));
        Self::spawn(command, data)
    }

    /// Starts what serves over `data` and says so as JSON. Or returns how it ended.
    pub(crate) fn spawn(command: Command, data: &Path) -> Result<Self, Output> {
        let stderr = File::create(data.join("stderr.log")).unwrap();
        Self::spawn_with_stderr(command, data, stderr)
    }

    /// As `spawn`, with a standard error of the test's own.
    pub(crate) fn spawn_with_stderr(mut command: Command, data: &Path, to: impl Into<Stdio>) -> Result<Self, Output> {
        let stderr = data.join("stderr.log");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(to).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut process = Process(child);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(address) = said["listening"].as_str() else {
            return Err(Output { status: process.wait(), stdout: line, stderr: fs::read_to_string(&stderr).unwrap() });
        };
        Ok(Self { process, address: address.parse().unwrap(), _data: None, stderr, _stdout: stdout })
    }

    /// Returns what the server wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Posts JSON.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        post(self.address, path, body)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    /// Sends bytes as they are over a connection of their own, and reads one response.
    #[track_caller]
    pub(crate) fn exchange(&self, request: &str) -> Reply {
        exchange(self.address, request.as_bytes())
    }

    /// Stops it as a service manager would, and returns its exit status.
    pub(crate) fn stop(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.wait()
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("the body is no JSON ({error}): {self:#?}"))
    }
}

/// Posts JSON over a connection of its own.
#[track_caller]
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Reply {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(address, request.as_bytes())
}

/// Sends `request` and reads one response.
#[track_caller]
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(request);
    connection.receive()
}

/// Returns a request with the token behind its first line if it is for one of the operator's paths.
pub(crate) fn with_token(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let path = text.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let is_operators = path.starts_with("/api/") || matches!(path, "/" | "/metrics" | "/metrics/");
    match text.find("\r\n") {
        Some(end) if is_operators && !text.contains("\r\nauthorization:") => {
            let (line, rest) = request.split_at(end);
            [line, b"\r\nauthorization: Bearer ", TOKEN.as_bytes(), rest].concat()
        }
        _ => request.to_vec(),
    }
}

/// A connection that stays open.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes; a request for one of the operator's paths gets the token, unless it has one.
    pub(crate) fn send(&mut self, request: &[u8]) {
        // A server that refuses a request early may close before all of it is sent.
        let _ = self.stream.get_mut().write_all(&with_token(request));
    }

    /// Reads the first line of a response and returns its status.
    #[track_caller]
    pub(crate) fn status(&mut self) -> u16 {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"))
    }

    /// Reads a head and a body, of `content-length` bytes or of chunks.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Reply {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            assert!(line.ends_with('\n'), "the connection ended in the head: {lines:?} {line:?}");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            lines.push(line.to_owned());
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let headers: Vec<_> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply { status: status.unwrap(), headers, body: String::new() };
        let mut body = Vec::new();
        match reply.header("content-length") {
            Some(length) => {
                body.resize(length.parse().unwrap(), 0);
                self.stream.read_exact(&mut body).unwrap();
            }
            None => self.receive_chunks(&mut body),
        }
        reply.body = String::from_utf8(body).unwrap();
        reply
    }

    /// Reads a body of chunks to its end.
    fn receive_chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            if length == 0 {
                return;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    /// Drops what was received.
    pub(crate) fn skip(&mut self) {
        let len = self.stream.buffer().len();
        self.stream.consume(len);
    }

    /// Waits for bytes, or the end; returns whether it was the end.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.stream.fill_buf().map_or(true, <[u8]>::is_empty)
    }
}

/// Writes a file into a directory and returns its path.
pub(crate) fn file(dir: &TempDir, name: impl AsRef<OsStr>, bytes: &[u8]) -> String {
    let path = dir.path().join(name.as_ref());
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}
