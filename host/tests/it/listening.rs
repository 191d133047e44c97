//! Each command that listens runs the durable calls and maps that it accepts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{
    Guest, MODEL, PATIENCE, Process, Server, command, data_with_model, data_without_models, exchange, file, kept,
    locked, post, real_model, wait_until,
};

/// Spawns a call and a map of two inputs, and wants both to end well.
#[track_caller]
pub(crate) fn check_durable(address: SocketAddr, app: &str, function: &str, input: &Value) {
    let path = format!("/api/v1/apps/{app}/functions/{function}");
    let call = post(address, &format!("{path}/calls?wait=60"), &input.to_string());
    assert_eq!((call.status, &call.json()["state"]), (200, &json!("done")), "{call:#?}");
    let lines = format!("{input}\n{input}\n");
    let length = lines.len();
    let map = format!(
        "POST {path}/maps HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{lines}"
    );
    let map = exchange(address, map.as_bytes());
    let summary: Value = serde_json::from_str(map.body.lines().last().unwrap()).unwrap();
    assert_eq!(summary["summary"]["counts"]["done"], 2, "{map:#?}");
    // A map's tasks end a moment after it.
    wait_until("nothing is left", || {
        let list = b"GET /api/v1/calls HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let list = exchange(address, list).json();
        list["waiting"] == 0 && list["maps"] == 0
    });
}

#[test]
fn serve_runs_what_it_accepts() {
    let server = Server::start(&[Guest::Hello]);
    check_durable(server.address, "hello", "square", &json!(3));
}

#[test]
fn a_service_manager_is_told_when_the_port_accepts_and_when_the_host_stops() {
    let data = data_without_models();
    let path = data.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let receive = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut serve = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0", "--drain", "2m"]);
    serve.env("NOTIFY_SOCKET", &path);
    let mut server = Server::spawn(serve, data.path()).unwrap();
    assert_eq!(receive(), format!("READY=1\nSTATUS=listening on http://{}", server.address));
    TcpStream::connect(server.address).unwrap();
    assert_eq!(server.stop(), 0);
    assert_eq!(receive(), "STOPPING=1\nSTATUS=finishing running calls\nEXTEND_TIMEOUT_USEC=125000000");
}

/// `dev` is asked in its own test, whose app is built there.
#[test]
fn demo_runs_what_it_accepts() {
    // The demo holds the model's files against the built-in's.
    let Some(model) = real_model(MODEL) else { return };
    let (data, docs) = (data_with_model(MODEL, &model), tempfile::tempdir().unwrap());
    let page =
        "<html><head><title>Oars</title></head><body><h1>Oars</h1><p>A bireme has two decks of oars.</p></body></html>";
    file(&docs, "index.html", page.as_bytes());
    let stderr = data.path().join("demo.log");
    let mut command = command(data.path(), &["--json", "demo", "--listen", "127.0.0.1:0", "--docs"]);
    command.arg(docs.path()).arg("--model-dir").arg(&model);
    command.env("BIREME_GUEST_TARGET_DIR", kept().join("guests"));
    let (mut demo, said) = locked("guests", || {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&stderr).unwrap()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Process(child), line)
    });
    assert!(said.starts_with('{'), "{said} {}", fs::read_to_string(&stderr).unwrap());
    let log = fs::read_to_string(&stderr).unwrap();
    let (_, rest) = log.split_once("asking over HTTP at http://").unwrap();
    let address = rest.split('/').next().unwrap().parse().unwrap();
    check_durable(address, "docs-search", "search", &json!({ "q": "how many decks of oars?" }));
    demo.signal(rustix::process::Signal::INT);
    wait_until("the demo ends", || demo.0.try_wait().unwrap().is_some());
}
