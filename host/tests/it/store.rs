//! Data directories of every format, whom they let read, a server that is killed while it makes one, and one whose file
//! cannot grow.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bireme::failpoint::FAIL_POINTS;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tempfile::TempDir;

use crate::descriptors::in_shell;
use crate::fixtures::{data_of, fixtures};
use crate::support::{Guest, Server, command, finish, fresh_data, guest, shared_data};

/// A copy of the data directory that a bireme of that format left.
fn data_of_format(format: u32) -> TempDir {
    data_of(&format!("data-{format}"))
}

/// The counts that each fixture was made with: `oars` three times, `sails` once.
#[track_caller]
fn finds_everything(server: &Server, before: u64) {
    let apps = server.get("/api/v1/apps").json();
    assert!(apps.to_string().contains("\"hello\""), "{apps}");
    let count = |key: &str| server.post("/hello/count", &json!({ "key": key }).to_string()).json();
    assert_eq!(count("oars"), 4 + before);
    assert_eq!(count("sails"), 2 + before);
    assert_eq!(count(&format!("never before, {before}")), 1);
}

#[test]
fn a_data_directory_of_every_format_is_opened_and_everything_is_there() {
    let formats = fs::read_dir(fixtures()).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_prefix("data-").map(|format| format.parse::<u32>().unwrap())
    });
    let formats: Vec<u32> = formats.collect();
    assert!(formats.len() >= 2, "{formats:?}");
    for format in formats {
        let data = data_of_format(format);
        for before in 0..2 {
            let mut server = Server::start_over(data.path(), &[]);
            finds_everything(&server, before);
            assert_eq!(server.stop(), 0);
        }
    }
}

/// The old component read its count as JSON and set it; the present one adds to it.
#[test]
fn an_app_that_is_deployed_anew_counts_on_from_what_the_old_one_kept() {
    for format in [1, 2, 3] {
        let data = data_of_format(format);
        let mut server = Server::start_over(data.path(), &[]);
        finds_everything(&server, 0);
        let mut deploy = command(shared_data(), &["--json", "deploy", guest(Guest::Hello), "--accept"]);
        deploy.env("BIREME_HOST", server.address.to_string());
        let deployed = finish(deploy);
        assert_eq!(deployed.status, 0, "{deployed:#?}");
        let version = deployed.json()["version"].clone();
        for (key, counted) in [("oars", 5), ("sails", 3), ("never before, 0", 2)] {
            let reply = server.post("/hello/count", &json!({ "key": key }).to_string());
            assert_eq!(
                (reply.json(), reply.header("bireme-version").map(Into::into)),
                (counted.into(), Some(version.clone()))
            );
        }
        assert_eq!(server.stop(), 0);
    }
}

/// A crash at any step from one format to the next, or of making a database, leaves a directory that opens.
#[test]
fn a_server_killed_while_it_opens_its_database_finds_everything_at_the_next_start() {
    let mut killed = Vec::new();
    for point in FAIL_POINTS.iter().filter(|point| point.starts_with("store.")) {
        for (data, is_new) in [(data_of_format(1), false), (data_of_format(3), false), (fresh_data(), true)] {
            let mut command = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0"]);
            command.env("BIREME_FAIL_POINT", format!("{point}@1"));
            // Not every point lies on the way to both.
            if Server::spawn(command, data.path()).is_err() {
                killed.push((*point, is_new));
            }
            let mut server = Server::start_over(data.path(), &[]);
            if !is_new {
                finds_everything(&server, 0);
            }
            assert_eq!(server.stop(), 0);
        }
    }
    let migration = ["store.migrate.number", "store.migrate.after", "store.count.before", "store.count.rows"];
    for point in migration.into_iter().chain(["store.count.after", "store.write.before", "store.sync.after"]) {
        assert!(killed.contains(&(point, false)), "{point}: {killed:?}");
    }
    for point in ["store.publish.before", "store.publish.after", "store.set-len.after"] {
        assert!(killed.contains(&(point, true)), "{point}: {killed:?}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let data = fresh_data();
    fs::write(data.path().join("store.redb"), "my diary").unwrap();
    let refused = Server::try_start(data.path(), &[], &[]).err().unwrap();
    assert_eq!(refused.status, 1, "{refused:#?}");
    assert!(refused.stdout.contains("is no database of bireme"), "{refused:#?}");
    assert_eq!(fs::read_to_string(data.path().join("store.redb")).unwrap(), "my diary");
}

/// A limit on the file's size stands for a full disk: both fail the write, and this one needs no file system of its
/// own.
#[test]
fn a_host_whose_disk_is_full_refuses_new_work_and_goes_on_once_there_is_room() {
    let data = data_of_format(2);
    let server = Server::start_over(data.path(), &[]);
    let pid = Pid::from_raw(server.process.pid().try_into().unwrap()).unwrap();
    let limit = |bytes: Option<u64>| {
        let old = prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
        assert_eq!(old.maximum, None, "the limit can be raised again");
    };
    let len = fs::metadata(data.path().join("store.redb")).unwrap().len();
    limit(Some(len));
    // Each call keeps a value under a key of its own, so the file must grow before long.
    let mut kept = 0;
    let refused = loop {
        let reply = server.post("/hello/count", &json!({ "key": format!("{kept:01000}") }).to_string());
        if reply.status != 200 {
            break reply;
        }
        kept += 1;
        assert!(kept < 10_000, "the file never grew");
    };
    assert!(refused.body.contains("full"), "{refused:#?}");
    // What is there can be read, and the same host goes on by itself.
    assert!(server.get("/api/v1/apps").json().to_string().contains("\"hello\""));
    limit(None);
    let again = server.post("/hello/count", &json!({ "key": format!("{kept:01000}") }).to_string());
    assert_eq!((again.status, again.json()), (200, json!(1)), "nothing of the refused write was kept");
    let first = server.post("/hello/count", &json!({ "key": format!("{:01000}", 0) }).to_string());
    assert_eq!(first.json(), json!(2));
}

/// Returns the permissions of a directory and of all in it, by name.
fn modes(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = vec![(dir.to_owned(), fs::metadata(dir).unwrap().permissions().mode() & 0o777)];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match fs::metadata(&path).unwrap() {
            metadata if metadata.is_dir() => found.extend(modes(&path)),
            metadata => found.push((path, metadata.permissions().mode() & 0o777)),
        }
    }
    found
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_data_directory_is_its_owners_alone_and_an_older_one_becomes_so() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("above/data");
    let serve = || {
        let inner = command(&data, &["--json", "serve", "--listen", "127.0.0.1:0"]);
        Server::spawn(in_shell("umask 022", &inner), outer.path()).unwrap_or_else(|output| panic!("{output:#?}"))
    };
    let mut server = serve();
    let mut deploy = command(&data, &["deploy", guest(Guest::Hello), "--accept"]);
    deploy.env("BIREME_HOST", server.address.to_string());
    assert_eq!(finish(deploy).status, 0);
    assert_eq!(server.post("/hello/count", r#"{"key":"k"}"#).status, 200);
    let large = json!("x".repeat(300_000)).to_string();
    let spawned = server.post("/api/v1/apps/hello/functions/echo/calls", &large);
    assert_eq!(spawned.status, 202, "{spawned:#?}");
    assert_eq!(server.stop(), 0);

    let all = modes(&data);
    let has = |name: &str| all.iter().any(|(path, _)| path.starts_with(data.join(name)) && path.is_file());
    for name in ["lock", "store.redb", "results", "apps", "artifacts"] {
        assert!(has(name), "no {name} in {all:?}");
    }
    for (path, mode) in &all {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(*mode, expected, "{} is {mode:o}", path.display());
    }

    // As versions before made them.
    let widen = || {
        for (path, _) in modes(&data) {
            set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
        }
    };
    let mode = |name: &str| fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    let closed = |dir: u32| {
        assert_eq!(["", "results", "apps"].map(mode), [dir, 0o700, 0o700]);
        assert_eq!(["store.redb", "lock"].map(mode), [0o600, 0o600]);
    };
    widen();
    let mut server = serve();
    closed(0o700);
    assert!(server.stderr().contains("its mode is 0700 now"), "{}", server.stderr());
    assert_eq!(server.stop(), 0);

    // Where there is something else in it, it is not ours to close.
    fs::write(data.join("notes.txt"), "not ours").unwrap();
    widen();
    let mut server = serve();
    closed(0o755);
    assert_eq!(mode("notes.txt"), 0o644);
    assert_eq!(server.post("/hello/count", r#"{"key":"k"}"#).json(), json!(2));
    assert_eq!(server.stop(), 0);
}
