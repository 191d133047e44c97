//! The limit of open files: raised at start, shared between connections and the store, and no reason to stop when it is
//! met.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::json;

use crate::support::{Connection, Guest, Server, command, fresh_data, guest};

/// The binary under limits and settings that a shell makes first.
pub(crate) fn in_shell(first: &str, inner: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{first} && exec \"$0\" \"$@\"")).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(inner.get_current_dir().unwrap());
    shell
}

#[test]
fn a_thousand_idle_connections_leave_room_for_those_that_ask_something() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let data = fresh_data();
    let inner = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0", guest(Guest::Hello)]);
    let server = Server::spawn(in_shell("ulimit -Sn 256 && ulimit -Hn 1024", &inner), data.path())
        .unwrap_or_else(|output| panic!("no server: {output:#?}"));
    let pid = Pid::from_raw(server.process.pid().try_into().unwrap()).unwrap();
    let raised = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(1_024), maximum: Some(1_024) }).unwrap();
    assert_eq!(raised, Rlimit { current: Some(1_024), maximum: Some(1_024) }, "raised at start");

    let idle: Vec<TcpStream> = (0..1_000).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.post("/hello/greet", r#"{"name":"Ada"}"#).status, 200);
    drop(idle);
    let stderr = server.stderr();
    assert!(!stderr.contains("cannot accept") && !stderr.contains("open files"), "{stderr}");
    assert!(stderr.contains("all connections are taken"), "{stderr}");
}

#[test]
fn a_host_without_descriptors_stays_up_and_takes_what_was_refused_later() {
    const CLIENTS: usize = 8;
    const CALLS: usize = 4;
    let server = Server::start(&[Guest::Hello]);
    // The first instance of a component takes a descriptor for its memory's image.
    assert_eq!(server.post("/hello/echo", "1").status, 200);
    let pid = server.process.pid();
    let mut clients: Vec<Connection> = (0..CLIENTS).map(|_| Connection::open(server.address)).collect();
    for client in &mut clients {
        client.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(client.receive().status, 200);
    }
    let limit = |max: u64| {
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(max), maximum }).unwrap()
    };
    // One descriptor for all that write files: whoever has closed its file finds it taken when it comes to sync.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: Vec<u64> = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let free = (0..).find(|descriptor| !open.contains(descriptor)).unwrap();
    let before = limit(free + 1);

    let is_up = AtomicBool::new(true);
    let accepted: Vec<(String, String)> = std::thread::scope(|scope| {
        let clients: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let is_up = &is_up;
                scope.spawn(move || {
                    let mut accepted = Vec::new();
                    for call in 0..CALLS {
                        let input = json!(format!("{number}.{call}.{}", "x".repeat(300_000))).to_string();
                        let head = format!(
                            "POST /api/v1/apps/hello/functions/echo/calls HTTP/1.1\r\nhost: localhost\r\n\
                             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                            input.len()
                        );
                        // Until it is taken: a temporary refusal is an answer, too.
                        loop {
                            client.send(head.as_bytes());
                            client.send(input.as_bytes());
                            if client.is_at_end() {
                                is_up.store(false, Ordering::Relaxed);
                                return accepted;
                            }
                            let reply = client.receive();
                            if reply.status == 202 {
                                accepted.push((reply.json()["id"].as_str().unwrap().to_owned(), input));
                                break;
                            }
                            assert_eq!(
                                (reply.status, &reply.json()["code"]),
                                (503, &json!("overloaded")),
                                "{reply:#?}"
                            );
                        }
                    }
                    accepted
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(is_up.load(Ordering::Relaxed), "the host ended: {}", server.stderr());
    limit(before.current.unwrap());

    assert_eq!(accepted.len(), CLIENTS * CALLS);
    for (id, input) in &accepted {
        let call = server.exchange(&format!(
            "GET /api/v1/calls/{id} HTTP/1.1\r\nhost: localhost\r\nprefer: wait=60\r\nconnection: close\r\n\r\n"
        ));
        assert_eq!(call.json()["state"], "done", "{id}: {}", call.body.chars().take(400).collect::<String>());
        let result = server.get(&format!("/api/v1/calls/{id}/result"));
        assert!(result.body == *input, "{id}: the result is another");
    }
}
