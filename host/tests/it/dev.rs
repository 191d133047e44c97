//! `bireme dev` and `bireme run --watch`, through the binary: a session as a script.
//!
//! Its first build compiles the SDK's dependencies in the profile of the edit loop, once for all runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::listening;
use crate::support::{Process, Server, command, exchange, finish, fresh_data, kept, post};

/// What hangs is ended, so that the run names the step. No speed is asserted.
const STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

struct Session {
    process: Process,
    name: &'static str,
    address: std::net::SocketAddr,
    keys: ChildStdin,
    stderr: std::path::PathBuf,
    /// Lines of stdout so far; whoever closed it would end the process.
    stdout: Arc<Mutex<Vec<String>>>,
}

impl Session {
    /// Starts the loop over a new app of this name: one of its own for each test, since they share what cargo builds.
    fn start(data: &Path, name: &'static str) -> (Self, Source) {
        let (app, source) = new_app(data, name);
        let stderr = data.join("dev.log");
        let mut command = command(data, &["--json", "-v", "dev", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .arg(app)
            .env("BIREME_GUEST_TARGET_DIR", kept().join("dev"))
            .env("BROWSER", data.join("browser"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let address = said["listening"].as_str().unwrap().parse().unwrap();
        let keys = child.stdin.take().unwrap();
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let kept = stdout.clone();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
        (Self { process: Process(child), name, address, keys, stderr, stdout }, source)
    }

    fn type_in(&mut self, keys: &str) {
        writeln!(self.keys, "{keys}").unwrap();
    }

    fn printed(&self, line: &str) -> usize {
        self.stdout.lock().unwrap().iter().filter(|printed| printed.contains(line)).count()
    }

    /// Counts the versions that went live, the same one again included.
    fn swaps(&self) -> usize {
        self.printed("\"swap_us\":")
    }

    /// Counts words over HTTP; also says which version answered.
    fn words(&self) -> (u16, String, Option<String>) {
        let reply = post(self.address, &format!("/{}/words", self.name), r#"{"text":"of oars"}"#);
        let version = reply.header("bireme-version").map(str::to_owned);
        (reply.status, reply.body, version)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is_there(self) {
            assert!(started.elapsed() < STEP_TIMEOUT, "{what} never came: {}", self.said());
            sleep(Duration::from_millis(20));
        }
    }
}

/// Makes an app to edit.
fn new_app(data: &Path, name: &str) -> (PathBuf, Source) {
    let app = data.join(name);
    let mut new = command(data, &["new", "--template", "transform"]);
    new.arg(&app);
    assert_eq!(finish(new).status, 0);
    let path = app.join("src/lib.rs");
    let source = Source { original: fs::read_to_string(&path).unwrap(), path };
    (app, source)
}

/// The source of the app under edit.
struct Source {
    path: PathBuf,
    original: String,
}

impl Source {
    /// Saves the original with one piece in the place of another.
    #[track_caller]
    fn save(&self, from: &str, to: &str) {
        let changed = self.original.replace(from, to);
        assert_ne!(changed, self.original, "the template has another line now");
        fs::write(&self.path, changed).unwrap();
    }

    /// Saves a version that counts so many words more.
    fn save_count(&self, more: usize) {
        self.save("count: words.len(),", &format!("count: words.len() + {more},"));
    }
}

#[test]
fn a_save_is_served_and_a_broken_one_leaves_the_last_good_version() {
    let data = fresh_data();
    let (mut session, source) = Session::start(data.path(), "edited");
    // A caller may come before the first build has ended.
    let early = session.words();
    assert!(matches!(early.0, 200 | 503), "{early:?}");
    assert!(early.0 == 200 || early.1.contains("is not built yet"), "{early:?}");
    session.wait_for("the first version", |session| session.words().0 == 200);
    let first = session.words();
    assert_eq!(first.1, r#"{"count":2,"longest":"oars"}"#);

    // The same bytes, and a file that the build does not read.
    let passed_over = |session: &Session| session.said().matches("no input of the build changed").count();
    fs::write(&source.path, &source.original).unwrap();
    session.wait_for("the same bytes", |session| passed_over(session) == 1);
    fs::write(source.path.with_file_name("README.md"), "# Words").unwrap();
    session.wait_for("the other file", |session| passed_over(session) == 2);
    assert_eq!(session.swaps(), 1, "{}", session.said());

    source.save_count(40);
    session.wait_for("the edit", |session| session.words().1.contains("42"));
    let second = session.words();
    assert_ne!(first.2, second.2);
    session.wait_for("its event", |session| session.printed(r#""changed":["src/lib.rs"]"#) == 1);
    session.wait_for("its line", |session| session.said().contains(" is live (src/lib.rs): cargo "));
    // No browser is there.
    session.type_in("o");
    let page = format!("the page is http://{}/edited/", session.address);
    session.wait_for("the page's URL", |session| session.said().contains(&page));

    source.save("count: words.len(),", "count: words.len() + ,");
    session.wait_for("the compiler's error", |session| session.said().contains("keeps serving"));
    assert!(session.said().contains("src/lib.rs:"), "the compiler's own words: {}", session.said());
    assert_eq!(session.words(), second);

    // Ten saves at once: the last one counts, and not each is built.
    let before = session.swaps();
    (1..=10).for_each(|n| source.save_count(100 * n));
    session.wait_for("the last of ten saves", |session| session.words().1.contains("1002"));
    assert!(session.swaps() - before < 10, "{} builds", session.swaps() - before);

    // A build under way is worth nothing once there is a newer save.
    source.save_count(50);
    session.wait_for("cargo at work", |session| session.said().matches("Compiling edited").count() >= 4);
    source.save_count(60);
    session.wait_for("the newer save", |session| session.words().1.contains("62"));

    // A file that is gone is an error, and its return mends it.
    let text = fs::read_to_string(&source.path).unwrap();
    fs::remove_file(&source.path).unwrap();
    session.wait_for("the missing file", |session| session.said().matches("keeps serving").count() >= 2);
    assert!(session.words().1.contains("62"));
    let before = session.swaps();
    fs::write(&source.path, text).unwrap();
    session.wait_for("its return", |session| session.swaps() > before);

    // A function that is renamed answers under its new name only.
    let renamed = source.original.replace("fn words(", "fn tell(").replace("words::map(", "tell::map(");
    fs::write(&source.path, renamed).unwrap();
    session.wait_for("the new name", |session| post(session.address, "/edited/tell", r#"{"text":"x"}"#).status == 200);
    assert_eq!(session.words().0, 404);

    session.type_in("q");
    assert_eq!(session.process.wait(), 0);
}

#[test]
fn keys_do_what_they_say_and_no_call_meets_a_gap() {
    let data = fresh_data();
    let (mut session, source) = Session::start(data.path(), "typed");
    session.wait_for("the first version", |session| session.words().0 == 200);

    source.save(r#"timeout = "5s""#, r#"timeout = "7s""#);
    let timeout_ms = |session: &Session| {
        let request = b"GET /api/v1/apps/typed HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let app = exchange(session.address, request).json();
        let functions = app["metadata"]["functions"].as_array().unwrap().clone();
        let words = functions.into_iter().find(|function| function["name"] == "words").unwrap();
        words["attributes"]["timeout_ms"].as_u64()
    };
    session.wait_for("the attribute", |session| timeout_ms(session) == Some(7_000));

    // The last call, again: over HTTP, then as typed.
    listening::check_durable(session.address, "typed", "words", &serde_json::json!({ "text": "of oars" }));
    session.words();
    session.type_in("c");
    session.wait_for("the last call again", |session| session.printed(r#"{"count":2,"longest":"oars"}"#) == 1);
    session.type_in(r#"c words {"text":"one word more"}"#);
    session.wait_for("the typed call", |session| session.printed(r#"{"count":3,"longest":"more"}"#) == 1);
    session.type_in("c");
    session.wait_for("it again", |session| session.printed(r#"{"count":3,"longest":"more"}"#) == 2);
    session.type_in("c wrods");
    session.wait_for("the nearest name", |session| session.said().contains("did you mean `words`?"));

    let opened = data.path().join("opened");
    let browser = format!("#!/bin/sh\nprintf %s \"$1\" > {0}.new && mv {0}.new {0}\n", opened.display());
    fs::write(data.path().join("browser"), browser).unwrap();
    fs::set_permissions(data.path().join("browser"), fs::Permissions::from_mode(0o755)).unwrap();
    session.type_in("o");
    session.wait_for("the browser", |_| opened.is_file());
    assert_eq!(fs::read_to_string(&opened).unwrap(), format!("http://{}/typed/", session.address));

    let before = session.swaps();
    session.type_in("r");
    session.wait_for("another build", |session| session.swaps() > before);
    session.type_in("t");
    session.wait_for("the app's tests", |session| session.printed("test result: ok. 1 passed") == 1);

    // Somebody calls all the time while versions come and go.
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (session.address, stop.clone());
    let caller = std::thread::spawn(move || {
        let mut statuses = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            statuses.push(post(address, "/typed/words", r#"{"text":"of oars"}"#).status);
        }
        statuses
    });
    for more in [10, 20, 30] {
        source.save_count(more);
        session.wait_for("the edit", |session| session.words().1.contains(&(2 + more).to_string()));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(caller.join().unwrap().iter().all(|status| *status == 200));

    session.type_in("q");
    assert_eq!(session.process.wait(), 0);
}

/// Starts a session over an app that does not build, which takes no time. Returns it and its first line.
fn start_beside(data: &Path, more: &[&str]) -> (Process, Value, PathBuf) {
    let app = data.join("unbuilt");
    fs::create_dir_all(&app).unwrap();
    fs::write(app.join("Cargo.toml"), "[").unwrap();
    let stderr = tempfile::NamedTempFile::new_in(data).unwrap();
    let mut command = command(data, &["--json", "dev"]);
    command.args(more).arg(app).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr.reopen().unwrap());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    // A closed pipe would end the session.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (Process(child), serde_json::from_str(&line).unwrap(), stderr.into_temp_path().keep().unwrap())
}

#[test]
fn a_session_beside_a_host_has_a_directory_and_a_port_of_its_own() {
    let data = fresh_data();
    let host = Server::start_over(data.path(), &[]);
    // Taken by this test or by somebody else.
    let _usual = TcpListener::bind("127.0.0.1:8080");
    let (mut first, said, stderr) = start_beside(data.path(), &[]);
    let address: std::net::SocketAddr = said["listening"].as_str().unwrap().parse().unwrap();
    assert!((8081..8112).contains(&address.port()), "{said}");
    assert_eq!(said["data"], data.path().join("dev/1").to_str().unwrap());
    let text = fs::read_to_string(stderr).unwrap();
    assert!(text.contains("dev/1`\n") && text.contains(&format!("in use by process {}", host.process.pid())), "{text}");
    assert!(text.contains(&format!("port 8080 is taken; this session listens on port {}", address.port())), "{text}");

    let (mut second, said, _) = start_beside(data.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(said["data"], data.path().join("dev/2").to_str().unwrap());
    first.signal(Signal::TERM);
    assert_eq!(first.wait(), 0);
    let (mut third, said, _) = start_beside(data.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(said["data"], data.path().join("dev/1").to_str().unwrap());
    // An address that was asked for is not exchanged for another.
    let taken = host.address.to_string();
    let refused =
        finish(command(data.path(), &["dev", "--listen", &taken, data.path().join("unbuilt").to_str().unwrap()]));
    assert!(refused.status != 0 && refused.stderr.contains("error[cannot-listen]"), "{refused:#?}");
    for session in [&mut second, &mut third] {
        session.signal(Signal::TERM);
        assert_eq!(session.wait(), 0);
    }
}

#[test]
fn a_watched_run_calls_again_at_each_save_and_waits_after_a_failure() {
    let data = fresh_data();
    let (app, source) = new_app(data.path(), "called");
    let (stdout, stderr) = (data.path().join("out.log"), data.path().join("err.log"));
    let mut command = command(data.path(), &["run", "--watch"]);
    command.arg(format!("{}::words", app.display())).args(["--text", "of oars"]);
    command.env("BIREME_GUEST_TARGET_DIR", kept().join("dev"));
    command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap()).stdin(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut keys = process.0.stdin.take().unwrap();
    let wait_for = |what: &str, is_there: &dyn Fn(&str, &str) -> bool| {
        let started = Instant::now();
        loop {
            let (out, err) = (fs::read_to_string(&stdout).unwrap(), fs::read_to_string(&stderr).unwrap());
            if is_there(&out, &err) {
                return;
            }
            assert!(started.elapsed() < STEP_TIMEOUT, "{what} never came: {out}{err}");
            sleep(Duration::from_millis(20));
        }
    };
    wait_for("the first result", &|out, _| out == "{\"count\":2,\"longest\":\"oars\"}\n");
    source.save_count(40);
    wait_for("the result of the edit", &|out, _| out.ends_with("{\"count\":42,\"longest\":\"oars\"}\n"));
    source.save("count: words.len(),", "count: words.len() + ,");
    wait_for("the compiler's error", &|_, err| err.matches("waiting for a change").count() == 1);
    source.save("let longest = words", "bail!(\"no oars\"); #[allow(unreachable_code)] let longest = words");
    wait_for("the function's error", &|_, err| {
        err.contains("error[failed]: no oars") && err.matches("waiting for a change").count() == 2
    });
    source.save_count(50);
    wait_for("the mended function", &|out, _| out.lines().count() == 3 && out.contains("\"count\":52"));
    writeln!(keys, "q").unwrap();
    assert_eq!(process.wait(), 0);
}
