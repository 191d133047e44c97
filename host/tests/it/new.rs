//! `bireme new`, through the binary: what it writes builds, runs and passes its own tests.
//!
//! All apps share one target directory, one data directory (the SDK's path is part of what cargo remembers) and stand
//! within this repository's own workspace, as an app may in somebody else's. The first run compiles the SDK's
//! dependencies twice, for wasm and for the tests: a minute and a half on two slow cores; later ones take seconds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What hangs is ended, so that the run names the step. No speed is asserted.
const STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

#[test]
fn a_new_app_builds_and_runs() {
    let app = new_app("first", "transform");
    let built = done(bireme().arg("build").arg(&app));
    assert!(built.contains("words"), "{built}");
    let target = format!("{}::words", app.display());
    let ran = done(bireme().args(["run", &target, "--text", "a ship with two decks"]));
    assert_eq!(ran.trim(), r#"{"count":5,"longest":"decks"}"#);
}

#[test]
fn every_template_passes_its_own_tests() {
    for template in ["transform", "scrape", "web", "embed"] {
        let app = new_app(&format!("{template}-app"), template);
        // `--locked`: the lock file is the one that cargo itself would write.
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--locked"]).current_dir(&app);
        let said = done(as_typed(&mut cargo).env("CARGO_TARGET_DIR", room("target")));
        assert!(said.contains("1 passed"), "{template}: {said}");
    }
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let output = bireme().args(["--json", "new", "--name", "notes"]).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["error"]["code"], "usage");
    assert!(answer["error"]["hint"].is_string(), "{answer}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Writes a new app with the binary, over what an earlier run left.
fn new_app(name: &str, template: &str) -> PathBuf {
    let app = room("apps").join(name);
    let _ = fs::remove_dir_all(&app);
    let said = done(bireme().args(["--json", "new", "--template", template]).arg(&app));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["name"], name);
    assert!(said["next"][0].as_str().unwrap().starts_with("bireme build "), "{said}");
    app
}

/// A directory that lasts from run to run.
fn room(name: &str) -> PathBuf {
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new").join(name);
    fs::create_dir_all(&room).unwrap();
    room
}

fn bireme() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bireme"));
    command.env("BIREME_DATA", room("data")).env("BIREME_GUEST_TARGET_DIR", room("target"));
    command
}

/// Hides from a command what the outer cargo set for this test.
fn as_typed(command: &mut Command) -> &mut Command {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        let is_users = matches!(&*name, "CARGO_HOME" | "CARGO_NET_OFFLINE");
        if name.starts_with("CARGO") && !is_users || name.starts_with("RUSTFLAGS") {
            command.env_remove(&key);
        }
    }
    command
}

/// Runs to a good end and returns stdout.
fn done(command: &mut Command) -> String {
    // Files, because a full pipe would stop the command while it is waited for.
    let dir = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let end = Instant::now() + STEP_TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            break child.wait().unwrap();
        }
        sleep(Duration::from_millis(20));
    };
    let said = fs::read_to_string(&stdout).unwrap();
    let notes = fs::read_to_string(&stderr).unwrap();
    assert!(status.success(), "{command:?} ended with {status}\n{said}\n{notes}");
    said
}
