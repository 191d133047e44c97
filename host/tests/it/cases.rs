//! `bireme test` in the sandbox, and cases: calls that are kept and replayed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Guest, Output, Server, command, finish, fresh_data, kept};

/// An app of the template `transform`, with more source behind it. Its first build compiles the SDK's dependencies in
/// the profile of tests, once for all runs.
struct App {
    data: TempDir,
    dir: PathBuf,
}

impl App {
    fn new(name: &str, more: &str) -> Self {
        let data = fresh_data();
        let dir = data.path().join(name);
        let mut new = command(data.path(), &["new", "--template", "transform"]);
        new.arg(&dir);
        assert_eq!(finish(new).status, 0);
        let source = dir.join("src/lib.rs");
        let text = fs::read_to_string(&source).unwrap();
        fs::write(&source, text + more).unwrap();
        Self { data, dir }
    }

    fn test(&self, front: &[&str], args: &[&str]) -> Output {
        let mut command = command(self.data.path(), front);
        command.arg(&self.dir).arg("--").args(args).env("BIREME_GUEST_TARGET_DIR", kept().join("dev"));
        finish(command)
    }

    fn case(&self, name: &str, case: &Value) {
        fs::create_dir_all(self.dir.join("cases")).unwrap();
        fs::write(self.dir.join("cases").join(name), case.to_string()).unwrap();
    }
}

const TESTS: &str = r#"
#[test]
fn the_first_panics() {
    println!("rowing");
    assert_eq!(total(vec!["a b".to_owned()]), Ok(3), "oars are missing");
}

#[test]
#[ignore]
fn one_is_ignored() {
    panic!("not run");
}

#[test]
fn one_asks_for_too_much() {
    assert_eq!(std::hint::black_box(vec![1u8; 512 << 20]).len(), 512 << 20);
}

#[test]
fn no_file_and_no_network_is_there() {
    assert!(std::fs::read("/etc/hostname").is_err());
    assert!(std::net::TcpStream::connect("127.0.0.1:8080").is_err());
    assert!(std::env::vars().next().is_none());
}

#[test]
fn fakes_stand_in_for_the_host() {
    let _kv = bireme_sdk::testing::with_kv();
    kv::open("seen").unwrap().set("a", "1").unwrap();
    assert_eq!(kv::open("seen").unwrap().get("a").unwrap(), Some(b"1".to_vec()));
    println!("said");
}
"#;

#[test]
fn tests_run_in_the_sandbox_each_by_itself() {
    let app = App::new("sandboxed", TESTS);
    let output = app.test(&["test", "--wasm"], &[]);
    assert_eq!(output.status, 1, "{output:#?}");
    let text = &output.stdout;
    for line in [
        "running 6 tests of sandboxed in the sandbox",
        "test words_are_counted ... ok",
        "test the_first_panics ... FAILED",
        "test one_is_ignored ... ignored",
        "test one_asks_for_too_much ... FAILED",
        "test no_file_and_no_network_is_there ... ok",
        "test fakes_stand_in_for_the_host ... ok",
        "over the limit of 128 MiB",
        "it panicked, which ended its sandbox",
        "test result in the sandbox: FAILED. 3 passed; 2 failed; 1 ignored",
    ] {
        assert!(text.contains(line), "no `{line}` in {output:#?}");
    }
    let (_, failures) = text.split_once("---- the_first_panics").unwrap();
    assert!(failures.contains("rowing\n") && failures.contains("oars are missing"), "{failures}");
    assert!(output.stderr.contains("error[tests-failed]"), "{output:#?}");

    // Names select tests, and passed ones show their output where that is asked for.
    let output = app.test(&["--json", "test", "--wasm"], &["fakes", "words", "--nocapture"]);
    assert_eq!(output.status, 0, "{output:#?}");
    let tests = json!({ "passed": 2, "failed": 0, "ignored": 0 });
    assert_eq!(output.json(), json!({ "app": "sandboxed", "passed": true, "tests": tests }));
    assert!(output.stderr.contains("said\n"), "{output:#?}");
}

#[test]
fn cases_are_replayed_after_the_tests() {
    let app = App::new("replayed", "");
    let text = json!({ "text": "of oars" });
    app.case(
        "good-1.json",
        &json!({ "function": "words", "input": text, "output": { "longest": "oars", "count": 2 } }),
    );
    let failed = json!({ "code": "failed", "message": "the text has no words" });
    app.case("mended-1.json", &json!({ "function": "words", "input": text, "error": failed }));
    let empty = json!({ "text": " " });
    app.case("expected-1.json", &json!({ "function": "words", "input": empty, "error": failed, "expect": "failed" }));
    fs::write(app.dir.join("cases/notes.txt"), "no case").unwrap();
    let output = app.test(&["--json", "test"], &[]);
    assert_eq!(output.status, 0, "{output:#?}");
    let counts = json!({ "passed": 3, "failed": 0 });
    assert_eq!(output.json(), json!({ "app": "replayed", "passed": true, "cases": counts }));

    app.case("bad-1.json", &json!({ "function": "words", "input": text, "output": { "longest": "oars", "count": 3 } }));
    app.case("bad-2.json", &json!({ "function": "words", "input": empty, "error": failed }));
    app.case("bad-3.json", &json!({ "function": "wrods", "input": text, "output": 1 }));
    app.case("bad-4.json", &json!({ "function": "words", "input": text, "expct": "failed" }));
    let output = app.test(&["test"], &["bad", "words_are_counted"]);
    assert_eq!(output.status, 1, "{output:#?}");
    for line in [
        r#"expected {"count":3,"longest":"oars"}, found {"count":2,"longest":"oars"}"#,
        "it still fails with failed: the text has no words",
        "did you mean `words`?",
        "unknown field `expct`",
        "cases: FAILED. 0 passed; 4 failed",
    ] {
        assert!(output.stdout.contains(line), "no `{line}` in {output:#?}");
    }
    assert!(output.stderr.contains("error[tests-failed]: 4 cases of `replayed` failed"), "{output:#?}");
}

#[test]
fn a_call_is_kept_with_its_output_or_its_error() {
    let server = Server::start(&[Guest::Hello]);
    let host = server.address.to_string();
    let dir = tempfile::tempdir().unwrap();
    let call = |words: &[&str]| {
        let mut command = command(crate::support::shared_data(), &["call"]);
        command.args(words).args(["--host", &host]).current_dir(dir.path());
        finish(command)
    };
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(dir.path().join(path)).unwrap()).unwrap() };
    let kept = call(&["--save-case", "hello::greet", "--name", "Ada"]);
    assert_eq!((kept.status, kept.stdout.as_str()), (0, "\"hello, Ada\"\n"), "{kept:#?}");
    assert!(kept.stderr.contains("kept as cases/greet-1.json"), "{kept:#?}");
    let case = json!({ "function": "greet", "input": { "name": "Ada" }, "output": "hello, Ada" });
    assert_eq!(read(Path::new("cases/greet-1.json")), case);
    // Behind the target as well, and in a file with a name.
    assert_eq!(call(&["hello::greet", "--name", "Ada", "--save-case"]).status, 0);
    assert_eq!(read(Path::new("cases/greet-2.json")), case);
    assert_eq!(call(&["--save-case=ada.json", "hello::greet", "--name", "Ada"]).status, 0);
    assert_eq!(read(Path::new("ada.json")), case);

    let failed = call(&["--save-case", "hello::add", r#"{"a": 1, "b": "2"}"#]);
    assert_eq!(failed.status, 2, "{failed:#?}");
    let case = read(Path::new("cases/add-1.json"));
    assert_eq!((&case["error"]["code"], case.get("output")), (&json!("invalid-input"), None), "{case}");
}
