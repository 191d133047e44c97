//! Control socket: whoever connects as the host's user or as root is the operator, without a token.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::descriptors::in_shell;
use crate::support::{
    Connection, Guest, Output, PATIENCE, Server, command, data_without_models, exchange, finish, guest, with_token,
};

/// A token of another host.
const WRONG: &str = "the-token-of-another-host";
/// User `nobody`.
const NOBODY: u32 = 65_534;

fn socket(data: &Path) -> PathBuf {
    data.join("run/control.sock")
}

fn head(request: &str) -> String {
    format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n")
}

/// Sends bytes over the control socket, and returns the status and the whole answer.
#[track_caller]
fn over_socket(data: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket(data)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// Runs a command with another host's token in its environment.
fn with_wrong_token(data: &Path, args: &[&str]) -> Output {
    let mut command = command(data, args);
    command.env("BIREME_TOKEN", WRONG);
    finish(command)
}

#[test]
fn the_hosts_own_user_needs_no_token() {
    let data = data_without_models();
    let server = Server::start_over(data.path(), &[Guest::Hello, Guest::Hostile]);
    let found = fs::metadata(socket(data.path())).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);

    for path in ["/api/v1/apps", "/", "/metrics", "/api/v1/logs", "/healthz", "/v1/models"] {
        let (status, answer) = over_socket(data.path(), &format!("{}\r\n", head(&format!("GET {path}"))));
        assert_eq!(status, 200, "{path}: {answer}");
    }
    // The user is known; what is said beside it is not looked at.
    let (status, _) = over_socket(data.path(), &format!("{}authorization: Bearer x\r\n\r\n", head("GET /api/v1/apps")));
    assert_eq!(status, 200);
    // Functions and web pages are behind the same routes.
    let body = r#"{"a":1,"b":2}"#;
    let call = format!("{}content-length: {}\r\n\r\n{body}", head("POST /hello/add"), body.len());
    let (status, answer) = over_socket(data.path(), &call);
    assert!(status == 200 && answer.ends_with("\r\n\r\n3"), "{answer}");
    let (status, answer) = over_socket(data.path(), &format!("{}\r\n", head("GET /healthz")));
    assert!(status == 200 && answer.contains(&format!("bireme-address: {}\r\n", server.address)), "{answer}");

    // A proxy may bring a page's request here: the same checks as over TCP.
    let foreign = "GET /api/v1/apps HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(over_socket(data.path(), foreign).0, 421);
    let page = format!("{}origin: http://localhost\r\n\r\n", head("GET /api/v1/apps"));
    assert_eq!(over_socket(data.path(), &page).0, 403);
}

#[test]
fn another_user_is_asked_for_the_token_even_where_the_socket_lets_it_in() {
    if !rustix::process::geteuid().is_root() {
        let _ = std::io::stderr().write_all(b"skipped: only root can be two users\n");
        return;
    }
    let data = data_without_models();
    let _server = Server::start_over(data.path(), &[Guest::Hello]);
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read())\n\
                  while (part := s.recv(65536)): sys.stdout.buffer.write(part)\n";
    let ask = |request: &str| {
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(socket(data.path())).current_dir("/").uid(NOBODY).gid(NOBODY);
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let status = text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        (status, text + &String::from_utf8_lossy(&output.stderr))
    };
    let apps = head("GET /api/v1/apps");
    let (status, answer) = ask(&format!("{apps}\r\n"));
    assert!(status.is_none() && answer.contains("PermissionError"), "its modes keep others out: {answer}");

    for dir in [data.path(), socket(data.path()).parent().unwrap()] {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(socket(data.path()), Permissions::from_mode(0o666)).unwrap();
    for request in [&apps, &head("GET /metrics"), &head("GET /"), &head("DELETE /api/v1/apps/hello")] {
        let (status, answer) = ask(&format!("{request}\r\n"));
        assert_eq!(status, Some(401), "{request}: {answer}");
        assert!(answer.contains(r#""code":"unauthorized""#) && answer.contains("user 65534"), "{answer}");
    }
    assert_eq!(ask(&format!("{apps}authorization: Bearer {WRONG}\r\n\r\n")).0, Some(401));
    assert_eq!(ask(&format!("{}\r\n", head("GET /healthz"))).0, Some(200));
    let with_token = String::from_utf8(with_token(format!("{apps}\r\n").as_bytes())).unwrap();
    assert_eq!(ask(&with_token).0, Some(200), "the token is as good as over TCP");
    assert_eq!(over_socket(data.path(), &format!("{apps}\r\n")).0, 200, "`hello` was not stopped");
}

#[test]
fn commands_take_the_socket_of_their_data_directory_and_tcp_where_an_address_is_given() {
    let data = data_without_models();
    let server = Server::start_over(data.path(), &[]);
    let deployed = with_wrong_token(data.path(), &["deploy", guest(Guest::Hello)]);
    assert_eq!(deployed.status, 0, "{deployed:?}");
    // Other programs call functions at the address.
    assert!(deployed.stdout.contains(&format!("is live on http://{}", server.address)), "{deployed:?}");
    assert!(deployed.stdout.contains(&format!("POST http://{}/hello/add", server.address)), "{deployed:?}");
    let other = data_without_models();
    let dir = data.path().to_str().unwrap();
    let called = with_wrong_token(other.path(), &["call", "hello::add", "--data", dir, "--a", "1", "--b", "2"]);
    assert_eq!((called.status, called.stdout.trim_end()), (0, "3"), "{called:?}");
    let mapped = {
        let inputs = other.path().join("inputs");
        fs::write(&inputs, "{\"a\":1,\"b\":2}\n{\"a\":3,\"b\":4}\n").unwrap();
        let inputs = inputs.to_str().unwrap();
        with_wrong_token(other.path(), &["map", "hello::add", "--data", dir, "--inputs", inputs, "--detach"])
    };
    assert_eq!(mapped.status, 0, "{mapped:?}");
    for args in [&["ps"][..], &["apps"], &["logs", "hello"], &["results", mapped.stdout.trim_end()], &["stop", "hello"]]
    {
        let output = with_wrong_token(data.path(), args);
        assert_eq!(output.status, 0, "{args:?}: {output:?}");
    }

    let host = format!("http://{}", server.address);
    let refused = with_wrong_token(data.path(), &["apps", "--host", &host]);
    assert!(refused.status == 1 && refused.stderr.contains("error[unauthorized]"), "{refused:?}");
    assert!(refused.stderr.contains("--data /var/lib/bireme"), "{refused:?}");
    let mut by_variable = command(data.path(), &["apps"]);
    by_variable.env("BIREME_HOST", &host).env("BIREME_TOKEN", WRONG);
    assert_eq!(finish(by_variable).status, 1);
    assert_eq!(finish(command(data.path(), &["apps", "--host", &host])).status, 0);
}

#[test]
fn a_socket_goes_with_its_host_and_the_next_host_replaces_one_that_was_left() {
    let data = data_without_models();
    let mut server = Server::start_over(data.path(), &[Guest::Hello]);
    // A second host of the directory leaves it alone.
    assert!(Server::try_start(data.path(), &[Guest::Hello], &[]).is_err());
    let apps = format!("{}\r\n", head("GET /api/v1/apps"));
    assert_eq!(over_socket(data.path(), &apps).0, 200);
    assert_eq!(server.stop(), 0);
    assert!(!socket(data.path()).exists());

    let server = Server::start_over(data.path(), &[Guest::Hello]);
    server.process.signal(Signal::KILL);
    drop(server);
    assert!(socket(data.path()).exists());
    // Nobody listens there or, under the tests' other hosts, may at the usual address.
    let doctor = finish(command(data.path(), &["--json", "doctor"])).json();
    let checks = doctor["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "control socket").unwrap();
    assert!(check["detail"].as_str().unwrap().contains("the next one replaces it"), "{check}");
    let server = Server::start_over(data.path(), &[Guest::Hello]);
    assert_eq!(over_socket(data.path(), &apps).0, 200);
    assert!(!server.stderr().contains("no control socket"), "{}", server.stderr());
    drop(server);

    // What is no socket is not ours to remove.
    fs::remove_file(socket(data.path())).unwrap();
    fs::write(socket(data.path()), "mine").unwrap();
    let server = Server::start_over(data.path(), &[Guest::Hello]);
    assert!(server.stderr().contains("no control socket"), "{}", server.stderr());
    assert_eq!(server.get("/api/v1/apps").status, 200);
    drop(server);
    assert_eq!(fs::read(socket(data.path())).unwrap(), b"mine");
}

#[test]
fn a_data_directory_with_a_long_path_has_a_socket_too() {
    let room = data_without_models();
    let data = room.path().join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&data).unwrap();
    let server = Server::start_over(&data, &[Guest::Hello]);
    assert!(socket(&data).exists(), "{}", server.stderr());
    let apps = with_wrong_token(&data, &["apps"]);
    assert!(apps.status == 0 && apps.stdout.contains("hello"), "{apps:?}");
}

#[test]
fn the_operator_gets_through_where_every_connection_of_tcp_is_busy() {
    let data = data_without_models();
    let inner = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0", guest(Guest::Hello)]);
    let mut server = Server::spawn(in_shell("ulimit -n 256", &inner), data.path())
        .unwrap_or_else(|output| panic!("no server: {output:#?}"));
    // Each feed is a request under way, which nobody is cut off for.
    let feed = b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut feeds = Vec::new();
    let refused = loop {
        let mut connection = Connection::open(server.address);
        connection.send(feed);
        let status = connection.status();
        if status != 200 {
            break status;
        }
        feeds.push(connection);
        assert!(feeds.len() < 256, "more connections than descriptors");
    };
    assert_eq!((refused, feeds.len()), (503, 112), "128 for 256 descriptors, less the operator's 16");
    assert_eq!(exchange(server.address, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").status, 503);

    for args in [&["apps"][..], &["ps"], &["stop", "hello"]] {
        let output = with_wrong_token(data.path(), args);
        assert_eq!(output.status, 0, "{args:?}: {output:?}");
    }
    let apps = over_socket(data.path(), &format!("{}\r\n", head("GET /api/v1/apps")));
    assert!(apps.0 == 200 && !apps.1.contains(r#""name":"hello""#), "it was stopped: {}", apps.1);
    // The operator's connections are of the same number: those beyond it are refused as well.
    let mut held: Vec<UnixStream> = Vec::new();
    let refused = loop {
        let mut stream = UnixStream::connect(socket(data.path())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(feed).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        if &status != b"HTTP/1.1 200" {
            break status;
        }
        held.push(stream);
        assert!(held.len() < 64);
    };
    assert_eq!((&refused, held.len()), (b"HTTP/1.1 503", 16));
    drop(feeds);
    drop(held);
    assert_eq!(server.stop(), 0);
}
