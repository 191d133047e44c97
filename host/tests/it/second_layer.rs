//! Second layer: a guest that has taken the host over finds the host's own data, and nothing else of the machine.
//!
//! The hook `BIREME_ESCAPE` of debug builds (`host/src/escape.rs`) tries, in the first call, what such a guest would.

use std::collections::HashMap;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{
    Connection, Guest, Process, Server, children, children_as, command, finish, fresh_data, function, guest,
    signal_process, stat, wait_until,
};

/// What a taken host would be after: a process, a directory, sockets. The directory is the data directory itself.
struct Victim {
    process: Process,
    _listeners: [UnixListener; 2],
}

impl Victim {
    fn in_dir(dir: &Path) -> Self {
        let process = Process(Command::new("sleep").arg("600").spawn().unwrap());
        fs::write(dir.join("outside"), "as it was").unwrap();
        let abstract_name = SocketAddr::from_abstract_name(format!("bireme-escape-{}", process.pid())).unwrap();
        let listeners =
            [UnixListener::bind(dir.join("socket")).unwrap(), UnixListener::bind_addr(&abstract_name).unwrap()];
        Self { process, _listeners: listeners }
    }

    fn arm(&self, command: &mut Command, dir: &Path) {
        command.env("BIREME_ESCAPE", format!("{}@{}", self.process.pid(), dir.display()));
    }
}

/// Returns the outcome of each attempt.
fn attempts(stderr: &str) -> Option<HashMap<&str, &str>> {
    let exec = stderr.lines().find_map(|line| line.strip_prefix("escape-exec: "))?;
    let tried = stderr.lines().find_map(|line| line.strip_prefix("escape: "))?;
    let mut tried: HashMap<_, _> = tried.split(' ').filter_map(|attempt| attempt.split_once('=')).collect();
    tried.insert("exec", exec);
    Some(tried)
}

/// Attempts that any user can make, and those that take a privilege or that some machines refuse everybody.
const OF_ANY_USER: [&str; 20] = [
    "start",
    "fork",
    "exec",
    "read",
    "read-passwd",
    "list",
    "write",
    "create",
    "link",
    "chmod",
    "kill",
    "tgkill",
    "pidfd",
    "limit",
    "unix",
    "unix-abstract",
    "unix-datagram",
    "netlink",
    "listen",
    "thread",
];
const OF_SOME: [&str; 8] = ["read-environment", "trace", "memory", "raw", "packet", "namespace", "keys", "personality"];
/// Those that Landlock refuses, with `EACCES`; seccomp refuses the others, with `EPERM`.
const BY_LANDLOCK: [&str; 10] =
    ["read", "read-passwd", "list", "write", "create", "link", "listen", "thread", "read-environment", "memory"];
/// What a host keeps.
const KEPT: [&str; 2] = ["kept-udp", "kept-pair"];

#[test]
fn a_command_that_is_not_confined_could_do_all_that_a_host_is_refused() {
    let data = fresh_data();
    let victim = Victim::in_dir(data.path());
    let mut run = command(data.path(), &["run", &function(Guest::Hello, "greet"), r#"{"name":"Ada"}"#]);
    victim.arm(&mut run, data.path());
    let output = finish(run);
    let tried = attempts(&output.stderr).unwrap_or_else(|| panic!("{output:#?}"));
    for what in OF_ANY_USER.iter().chain(&KEPT) {
        assert_eq!(tried[what], "done", "{what}: {tried:?}");
    }
    assert!(OF_SOME.iter().all(|what| tried.contains_key(what)), "{tried:?}");
}

#[test]
fn a_host_that_is_taken_over_gives_nothing_away_and_goes_on() {
    let data = fresh_data();
    // Nothing is compiled yet.
    fs::remove_file(data.path().join("artifacts")).unwrap();
    let victim = Victim::in_dir(data.path());
    let mut serve = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0"]);
    serve.args([guest(Guest::Hello), guest(Guest::DocsSearch)]);
    victim.arm(&mut serve, data.path());
    let mut server = Server::spawn(serve, data.path()).unwrap();
    let greet = || server.post("/hello/greet", r#"{"name":"Ada"}"#).status;
    assert_eq!(greet(), 200);
    wait_until("the attempts are made", || attempts(&server.stderr()).is_some());

    let stderr = server.stderr();
    let tried = attempts(&stderr).unwrap();
    let has_landlock = !stderr.contains("\"landlock\"");
    for what in OF_ANY_USER.iter().chain(&OF_SOME) {
        let (refusal, is_refused) = if BY_LANDLOCK.contains(what) { ("13", has_landlock) } else { ("1", true) };
        assert!(!is_refused || tried[what] == refusal, "{what}: {tried:?}");
    }
    for what in KEPT {
        assert_eq!(tried[what], "done", "{what}: {tried:?}");
    }
    assert_eq!(tried.len(), OF_ANY_USER.len() + OF_SOME.len() + KEPT.len(), "{tried:?}");
    assert!(!has_landlock || fs::read_to_string(data.path().join("outside")).unwrap() == "as it was");
    assert!(stat(victim.process.pid()).is_some());

    // It calls, compiles what is new, and has a killed worker replaced.
    assert_eq!(greet(), 200);
    let mut connection = Connection::open(server.address);
    connection.send(&deployment(&fs::read(guest(Guest::Authored)).unwrap()));
    let reply = connection.receive();
    assert_eq!(reply.status, 201, "{reply:#?}");
    let embed = || server.post("/docs-search/embed", r#"{"texts":["warm"]}"#);
    let reply = embed();
    assert_eq!(reply.status, 200, "{reply:#?}");
    let [worker] = children_as("worker", server.process.pid())[..] else { panic!("one worker") };
    signal_process(worker, Signal::KILL);
    wait_until("the worker is gone", || stat(worker).is_none());
    wait_until("another has taken its place", || embed().status == 200);
    let [next] = children_as("worker", server.process.pid())[..] else { panic!("one worker") };
    assert_ne!(worker, next);

    let family = [children(server.process.pid()), vec![next]].concat();
    assert_eq!(server.stop(), 0);
    wait_until("its processes have ended", || family.iter().all(|pid| stat(*pid).is_none()));
}

#[test]
fn all_processes_of_a_host_that_is_killed_end_with_it() {
    let data = fresh_data();
    let server = Server::start_over(data.path(), &[Guest::DocsSearch]);
    assert_eq!(server.post("/docs-search/embed", r#"{"texts":["warm"]}"#).status, 200);
    let host = server.process.pid();
    let family = [children(host), children_as("worker", host)].concat();
    assert!(family.len() >= 2, "{family:?}");
    server.process.signal(Signal::KILL);
    wait_until("its processes have ended", || family.iter().all(|pid| stat(*pid).is_none()));
}

#[test]
fn without_its_spawner_a_host_serves_on_and_says_what_it_cannot_do() {
    let data = fresh_data();
    let server = Server::start_over(data.path(), &[Guest::Hello, Guest::DocsSearch]);
    let [spawner] = children_as("spawner", server.process.pid())[..] else { panic!("one spawner") };
    signal_process(spawner, Signal::KILL);
    wait_until("the spawner is gone", || stat(spawner).is_none());
    assert_eq!(server.post("/hello/greet", r#"{"name":"Ada"}"#).status, 200);
    let reply = server.post("/docs-search/embed", r#"{"texts":["warm"]}"#);
    assert!(reply.status >= 500, "{reply:#?}");
    wait_until("the log names the next step", || server.stderr().contains("restart the host"));
}

#[test]
fn the_doctor_says_whether_there_is_a_second_layer() {
    let data = fresh_data();
    let checks = finish(command(data.path(), &["--json", "doctor"])).json()["checks"].clone();
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "second layer").unwrap().clone();
    assert!(["ok", "warning"].contains(&check["status"].as_str().unwrap()), "{check}");
}

fn deployment(component: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/v1/apps?accept=all HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/wasm\r\n\
         content-length: {}\r\n\r\n",
        component.len()
    );
    [head.as_bytes(), component].concat()
}
