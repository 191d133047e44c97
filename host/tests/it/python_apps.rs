//! Apps in Python, from source to calls: the base is made once from this tree, and nothing else of Python is needed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Output, Process, Server, command, crate_dir, data_without_models, finish, kept, locked, post, wait_until,
};

/// Returns the base, made by the repository's own script where a source of it is newer.
fn base() -> PathBuf {
    locked("python-base", || {
        let out = kept().join("python-base");
        let mut build = Command::new(crate_dir("../python/base/build.sh"));
        build.arg("--if-needed").arg(&out);
        let built = finish(build);
        assert_eq!(built.status, 0, "{built:?}");
        out.join("py-base.wasm")
    })
}

/// A data directory with the base, and the compiled code that tests share.
fn data() -> TempDir {
    let data = data_without_models();
    let mut install = command(data.path(), &["python", "install"]);
    install.arg(base());
    let installed = finish(install);
    assert_eq!(installed.status, 0, "{installed:?}");
    data
}

/// Writes an app of one file.
fn app(data: &Path, name: &str, source: &str) -> PathBuf {
    let dir = data.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("pyproject.toml"), format!("[project]\nname = \"{name}\"\nversion = \"0.2.0\"\n")).unwrap();
    fs::write(dir.join("app.py"), source).unwrap();
    dir
}

fn run(data: &Path, app: &Path, function: &str, input: &Value) -> Output {
    let mut run = command(data, &["run"]);
    run.arg(format!("{}::{function}", app.display())).arg(input.to_string());
    finish(run)
}

const PAGES: &str = r#"
from dataclasses import dataclass
from bireme import App, Failure, Html, kv

app = App("pages")

@dataclass
class Words:
    count: int
    longest: str

@app.function(memory="64MiB")
def words(text: str) -> Words:
    """Counts words."""
    found = text.split()
    if not found:
        raise Failure("no words", terminal=True)
    return Words(len(found), max(found, key=len))

@app.function
def total(texts: list[str]) -> int:
    return sum(each.count for each in words.map(texts))

@app.function
def seen(name: str) -> int:
    return kv.open("names").increment(name)

@app.function
def broken() -> int:
    return 1 // 0

@app.function
def late() -> str:
    import sqlite3
    return "imported"

@app.web("GET /hello/{name}")
def hello(name: str) -> Html:
    return Html(f"<p>{name}")
"#;

#[test]
fn an_app_is_deployed_and_called_in_every_way() {
    let data = data();
    let dir = app(data.path(), "pages", PAGES);
    let server = Server::start_over(data.path(), &[]);
    let host = format!("http://{}", server.address);
    let mut deploy = command(data.path(), &["deploy", "--host", &host, "--accept"]);
    deploy.arg(&dir);
    let deployed = finish(deploy);
    assert_eq!(deployed.status, 0, "{deployed:?}");

    let call = |path: &str, input: &str| post(server.address, path, input);
    assert_eq!(call("/pages/words", r#"{"text":"of oars"}"#).json(), json!({ "count": 2, "longest": "oars" }));
    assert_eq!(call("/pages/total", r#"{"texts":["a b","c"]}"#).body, "3");
    assert_eq!(call("/pages/seen", r#""Ada""#).body, "1");
    assert_eq!(call("/pages/seen", r#""Ada""#).body, "2");
    assert_eq!(server.get("/pages/hello/Ada").body, "<p>Ada");

    let wrong = call("/pages/words", r#"{"text":1}"#);
    assert_eq!((wrong.status, wrong.json()["code"].clone()), (400, json!("invalid-input")), "{wrong:?}");
    let terminal = call("/pages/words", r#"{"text":" "}"#);
    assert_eq!(terminal.json()["code"], "terminal", "{terminal:?}");
    let broken = call("/pages/broken", "null");
    assert_eq!(broken.json()["code"], "failed", "{broken:?}");
    assert!(broken.body.contains("division by zero") && broken.body.contains("ZeroDivisionError"), "{broken:?}");
    let late = call("/pages/late", "null");
    assert!(late.body.contains("at the top of the file"), "{late:?}");

    let inputs = data.path().join("inputs.ndjson");
    let lines: String = (0..300).map(|n| format!("{{\"text\":\"{}\"}}\n", "w ".repeat(n % 7 + 1))).collect();
    fs::write(&inputs, lines).unwrap();
    let mut map = command(data.path(), &["map"]);
    map.arg(format!("{}::words", dir.display())).arg("--inputs").arg(&inputs);
    let mapped = finish(map);
    assert_eq!((mapped.status, mapped.stdout.lines().count()), (0, 300), "{}", mapped.stderr);
}

#[test]
fn the_same_source_gives_the_same_version_and_apps_share_the_interpreters_code() {
    let data = data();
    let artifacts = data.path().join("artifacts");
    fs::remove_file(&artifacts).unwrap();
    let random = "import random, time, uuid\nfrom bireme import App\napp = App()\nSEED = [random.random(), time.time(), \
                  str(uuid.uuid4()), hash('x')]\n@app.function\ndef seeds() -> list[str]:\n    return [str(s) for s in \
                  SEED] + [str(random.random())]\n";
    let (one, other) = (app(data.path(), "one", random), app(data.path(), "other", random));
    let version = |dir: &Path| {
        let mut inspect = command(data.path(), &["--json", "inspect"]);
        let inspected = finish({
            inspect.arg(dir);
            inspect
        });
        assert_eq!(inspected.status, 0, "{inspected:?}");
        inspected.json()["version"].as_str().unwrap().to_owned()
    };
    let first = version(&one);
    let before = sizes(&artifacts);
    let seeds = run(data.path(), &one, "seeds", &Value::Null).json();
    assert_eq!(version(&one), first);
    // Fixed while modules are imported, and of its own in each call.
    assert_ne!(run(data.path(), &one, "seeds", &Value::Null).json()[4], seeds[4]);
    assert_eq!(run(data.path(), &one, "seeds", &Value::Null).json()[3], seeds[3]);

    run(data.path(), &other, "seeds", &Value::Null);
    let large = |sizes: &[u64]| sizes.iter().filter(|&&size| size > 15 << 20).count();
    let after = sizes(&artifacts);
    // Each app adds the image of its memory; the interpreter's code is there already.
    assert!(after.len() <= before.len() + 2, "{before:?} {after:?}");
    assert!(large(&after) <= large(&before) + 2, "{before:?} {after:?}");
}

fn sizes(dir: &Path) -> Vec<u64> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect()
}

#[test]
fn a_module_that_cannot_be_imported_is_an_error_with_the_authors_own_lines() {
    let data = data();
    for (source, expected) in [
        ("def f(:", "SyntaxError"),
        ("import nothing_of_that_name", "add the package of `nothing_of_that_name`"),
        ("print('before')\ndef f():\n    return 1 / 0\nf()", "line 3, in f"),
        ("x = bytearray(1 << 30)", "over the limit of 268435456"),
        ("import os\nos._exit(3)", "ended the process"),
        ("import sys\nsys.exit(3)", "`sys.exit(3)`"),
        ("x = 1", "`app = App(\"name\")`"),
        ("from bireme import kv\nkv.open('a').get('b')", "while modules were imported"),
        ("open('/etc/passwd')", "is not a file of the app"),
    ] {
        let dir = app(data.path(), "bad", source);
        let failed = run(data.path(), &dir, "f", &Value::Null);
        assert_eq!(failed.status, 1, "{source}: {failed:?}");
        assert!(failed.stderr.contains(expected), "{source}: {}", failed.stderr);
        assert!(
            !failed.stderr.contains("py-base") && !failed.stderr.contains("<frozen"),
            "{source}: {}",
            failed.stderr
        );
        if source.starts_with("print") {
            assert!(failed.stderr.contains("before"), "{}", failed.stderr);
        }
    }
}

#[test]
fn requirements_are_imported_without_their_native_files_and_one_that_needs_them_is_named() {
    let data = data();
    let wheels = data.path().join("wheels");
    fs::create_dir(&wheels).unwrap();
    let fast = wheel(
        &wheels,
        "fast",
        &[
            ("fast/__init__.py", "try:\n    from fast._speed import answer\nexcept ImportError:\n    answer = 42\n"),
            ("fast/_speed.cpython-314-x86_64-linux-gnu.so", "\u{7f}ELF"),
        ],
    );
    let native = wheel(
        &wheels,
        "native",
        &[
            ("native/__init__.py", "from native._core import answer\n"),
            ("native/_core.cpython-314-x86_64-linux-gnu.so", "\u{7f}ELF"),
        ],
    );
    let source = |package: &str| {
        format!(
            "import {package}\nfrom bireme import App\napp = App()\n@app.function\ndef answer() -> int:\n    return {package}.answer\n"
        )
    };
    let dir = app(data.path(), "uses", &source("fast"));
    fs::write(dir.join("requirements.txt"), format!("# a comment\nbireme\n{}\n", fast.display())).unwrap();
    for _ in 0..2 {
        let answered = run(data.path(), &dir, "answer", &Value::Null);
        assert_eq!(answered.stdout.trim(), "42", "{answered:?}");
    }

    let dir = app(data.path(), "cannot", &source("native"));
    fs::write(dir.join("requirements.txt"), native.display().to_string()).unwrap();
    let failed = run(data.path(), &dir, "answer", &Value::Null);
    assert_eq!(failed.status, 1, "{failed:?}");
    let expected = "`native` needs `native/_core.cpython-314-x86_64-linux-gnu.so`, which is native code";
    assert!(failed.stderr.contains(expected), "{}", failed.stderr);

    fs::write(dir.join("requirements.txt"), "/nowhere/none-1.0-py3-none-any.whl").unwrap();
    let failed = run(data.path(), &dir, "answer", &Value::Null);
    assert!(failed.stderr.contains("cannot install the requirements"), "{}", failed.stderr);
}

/// Writes a wheel.
fn wheel(dir: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = dir.join(format!("{name}-1.0-cp314-cp314-manylinux2014_x86_64.whl"));
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let info = format!("{name}-1.0.dist-info");
    let metadata = (format!("{info}/METADATA"), format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"));
    let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: cp314-cp314-manylinux2014_x86_64\n";
    let mut all: Vec<(String, String)> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    all.extend([metadata, (format!("{info}/WHEEL"), tags.into())]);
    let record: String = all.iter().map(|(path, _)| format!("{path},,\n")).collect();
    all.push((format!("{info}/RECORD"), record));
    for (path, text) in all {
        archive.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    path
}

#[test]
fn every_template_is_an_app_whose_description_is_read() {
    let data = data();
    for template in ["transform", "scrape", "web", "embed"] {
        let dir = data.path().join(template);
        let mut new = command(data.path(), &["new", "--lang", "python", "--template", template]);
        new.arg(&dir);
        assert_eq!(finish(new).status, 0);
        let mut inspect = command(data.path(), &["--json", "inspect"]);
        inspect.arg(&dir);
        let inspected = finish(inspect);
        assert_eq!(inspected.status, 0, "{inspected:?}");
        assert_eq!(inspected.json()["app"]["name"], template, "{inspected:?}");
    }
}

#[test]
fn each_save_is_served_and_a_broken_one_leaves_the_last() {
    let data = data();
    let source =
        |n: u32| format!("from bireme import App\napp = App()\n@app.function\ndef f() -> int:\n    return {n}\n");
    let dir = app(data.path(), "edited", &source(0));
    let log = data.path().join("dev.log");
    let mut dev = command(data.path(), &["--json", "dev", "--listen", "127.0.0.1:0"]);
    let mut child = dev
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let said: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let address: std::net::SocketAddr = said["listening"].as_str().unwrap().parse().unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let _process = Process(child);
    let answer = || post(address, "/edited/f", "null").body;
    wait_until("the first version", || answer() == "0");
    for n in 1..4 {
        fs::write(dir.join("app.py"), source(n)).unwrap();
        wait_until("the save", || answer() == n.to_string());
    }
    fs::write(dir.join("app.py"), "def f(:").unwrap();
    wait_until("the error", || fs::read_to_string(&log).unwrap().contains("SyntaxError"));
    assert_eq!(answer(), "3");
    fs::write(dir.join("helper.py"), "N = 9\n").unwrap();
    fs::write(
        dir.join("app.py"),
        source(0).replace("return 0", "return helper.N").replace("from", "import helper\nfrom"),
    )
    .unwrap();
    wait_until("the module beside it", || answer() == "9");
    fs::write(dir.join("helper.py"), "N = 10\n").unwrap();
    wait_until("its save", || answer() == "10");
}

#[test]
fn without_a_base_the_next_step_is_named() {
    let data = data_without_models();
    let dir = app(data.path(), "none", "");
    let failed = run(data.path(), &dir, "f", &Value::Null);
    assert!(failed.stderr.contains("no-python") && failed.stderr.contains("bireme python install"), "{failed:?}");
    let file = data.path().join("py-base.wasm");
    for (component, expected) in [("", "not WebAssembly"), ("\0asm\x0d\0\x01\0", "exports no loader")] {
        fs::write(&file, component).unwrap();
        fs::write(file.with_file_name("py-std.zip"), "").unwrap();
        let mut install = command(data.path(), &["python", "install"]);
        install.arg(&file);
        let refused = finish(install);
        assert!(refused.status != 0 && refused.stderr.contains(expected), "{refused:?}");
    }
}
