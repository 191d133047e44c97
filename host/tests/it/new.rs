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
fn an_app_builds_on_another_machine() {
    let app = new_app("moved", "transform");
    // What version control keeps.
    for file in ["Cargo.toml", "Cargo.lock", ".gitignore", "src/lib.rs"] {
        let text = fs::read_to_string(app.join(file)).unwrap();
        assert!(!text.contains(room("data").to_str().unwrap()), "{file} has a path of this machine: {text}");
    }
    assert!(fs::read_to_string(app.join(".gitignore")).unwrap().contains("/.cargo/config.toml"));
    fs::remove_dir_all(app.join(".cargo")).unwrap();
    done(bireme().arg("build").arg(&app));

    let mut cargo = Command::new("cargo");
    let plain = as_typed(cargo.args(["metadata", "--offline", "--format-version", "1"]).current_dir(&app));
    let refused = plain.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("registry index was not found"), "{said}");
    done(bireme().arg("sdk").arg(&app));
    assert!(plain.output().unwrap().status.success());

    fs::write(app.join(".cargo/config.toml"), "[build]\njobs = 1\n").unwrap();
    let kept = bireme().args(["--json", "sdk"]).arg(&app).output().unwrap();
    assert_eq!(kept.status.code(), Some(2), "the author's settings are not replaced");
}

#[test]
fn a_manifest_that_cannot_work_is_refused_before_cargo_compiles() {
    let cases = [
        ("crate-type = [\"cdylib\", \"rlib\"]", "crate-type = [\"rlib\"]", "no-component"),
        ("bireme-sdk = { version = \"0.1\", registry = \"bireme\" }", "", "no-sdk"),
        ("bireme-sdk = { version = \"0.1\", registry = \"bireme\" }", "bireme-sdk = \"0.1\"", "no-sdk"),
        ("bireme-sdk = { version = \"0.1\", registry = \"bireme\" }", "bireme-sdk = { path = \"/nowhere\" }", "no-sdk"),
        // This repository's own workspace does not list it.
        ("[workspace]", "", "build-failed"),
    ];
    for (number, (line, instead, code)) in cases.into_iter().enumerate() {
        let app = new_app(&format!("refused-{number}"), "transform");
        let manifest = fs::read_to_string(app.join("Cargo.toml")).unwrap();
        assert!(manifest.contains(line), "{manifest}");
        fs::write(app.join("Cargo.toml"), manifest.replace(line, instead)).unwrap();
        let output = bireme().args(["--json", "build"]).arg(&app).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["error"]["code"], code, "{instead}: {answer}");
        let notes = String::from_utf8_lossy(&output.stderr);
        assert!(!notes.contains("Compiling"), "{notes}");
    }
}

#[test]
fn a_failed_test_of_an_app_is_an_error() {
    let app = new_app("tested", "transform");
    let said = done(bireme().args(["--json", "test"]).arg(&app));
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["passed"], true, "{said}");
    let source = app.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, format!("{text}\n#[test]\nfn fails() {{\n    panic!(\"on purpose\");\n}}\n")).unwrap();
    let output = bireme().args(["--json", "test"]).arg(&app).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    let error: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "tests-failed", "{said}");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("on purpose"), "{notes}");
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

#[test]
fn the_apps_of_the_book_build() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut pages: Vec<PathBuf> = [docs.clone(), docs.join("guides")]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(docs.join("../README.md"));
    pages.sort();
    let mut built = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let blocks = text.split("```rust\n// src/lib.rs\n").skip(1);
        for source in blocks.map(|block| block.split("\n```").next().unwrap()) {
            let name = page.file_stem().unwrap().to_str().unwrap();
            let app = new_app(name, "transform");
            fs::write(app.join("src/lib.rs"), source).unwrap();
            done(bireme().arg("build").arg(&app));
            built += 1;
        }
    }
    assert!(built >= 11, "{built} apps");
}
