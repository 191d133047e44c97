//! `bireme dev`, through the binary: a session as a script.
//!
//! Its first build compiles the SDK's dependencies in the profile of the edit loop, once for all runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Process, command, finish, fresh_data, kept, post};

/// What hangs is ended, so that the run names the step. No speed is asserted.
const STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

struct Session {
    process: Process,
    address: std::net::SocketAddr,
    keys: ChildStdin,
    stderr: std::path::PathBuf,
}

impl Session {
    fn start(data: &Path, app: &Path) -> Self {
        let stderr = data.join("dev.log");
        let mut command = command(data, &["--json", "dev", "--listen", "127.0.0.1:0"]);
        let mut child = command
            .arg(app)
            .env("BIREME_GUEST_TARGET_DIR", kept().join("dev"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let address = said["listening"].as_str().unwrap().parse().unwrap();
        let keys = child.stdin.take().unwrap();
        Self { process: Process(child), address, keys, stderr }
    }

    /// Counts words over HTTP; also says which version answered.
    fn words(&self) -> (u16, String, Option<String>) {
        let reply = post(self.address, "/edited/words", r#"{"text":"of oars"}"#);
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

#[test]
fn a_save_is_served_and_a_broken_one_leaves_the_last_good_version() {
    let data = fresh_data();
    let app = data.path().join("edited");
    let mut new = command(data.path(), &["new", "--template", "transform"]);
    new.arg(&app);
    assert_eq!(finish(new).status, 0);
    let source = app.join("src/lib.rs");
    let original = fs::read_to_string(&source).unwrap();
    let edited = |text: &str| {
        let changed = original.replace("count: words.len(),", text);
        assert_ne!(changed, original, "the template has another line now");
        changed
    };

    let mut session = Session::start(data.path(), &app);
    session.wait_for("the first version", |session| session.words().0 == 200);
    let first = session.words();
    assert_eq!(first.1, r#"{"count":2,"longest":"oars"}"#);

    fs::write(&source, edited("count: words.len() + 40,")).unwrap();
    session.wait_for("the edit", |session| session.words().1.contains("42"));
    let second = session.words();
    assert_ne!(first.2, second.2);

    fs::write(&source, edited("count: words.len() + ,")).unwrap();
    session.wait_for("the compiler's error", |session| session.said().contains("goes on serving"));
    assert!(session.said().contains("src/lib.rs:"), "the compiler's own words: {}", session.said());
    assert_eq!(session.words(), second);

    // Ten saves at once: the last one counts.
    for n in 1..=10 {
        fs::write(&source, edited(&format!("count: words.len() + {},", 100 * n))).unwrap();
    }
    session.wait_for("the last of ten saves", |session| session.words().1.contains("1002"));

    // A function that is renamed answers under its new name only.
    fs::write(&source, original.replace("fn words(", "fn tell(").replace("words::map(", "tell::map(")).unwrap();
    session.wait_for("the new name", |session| post(session.address, "/edited/tell", r#"{"text":"x"}"#).status == 200);
    assert_eq!(session.words().0, 404);

    writeln!(session.keys, "q").unwrap();
    assert_eq!(session.process.wait(), 0);
}
