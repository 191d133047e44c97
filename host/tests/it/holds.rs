//! A host under guests and clients that misbehave: other apps are answered throughout, and nothing is held for good.

use std::io::Read;
use std::thread;
use std::time::Duration;

use bireme::failpoint::PANIC_POINTS;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Connection, Guest, Reply, Server, command, finish, finish_with, fresh_data, guest, peak_bytes, shared_data,
    wait_until,
};

const GOOD: &str = r#"{"a":1,"b":2}"#;

#[track_caller]
fn check_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.json()["code"].as_str()), (status, Some(code)), "{reply:#?}");
}

/// A POST of JSON with other headers than `Server::post` sends.
fn request(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n{body}")
}

/// A body in one chunk.
fn chunked(path: &str, body: &str) -> String {
    request(path, "transfer-encoding: chunked\r\n", &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
}

/// A connection on which the beginning of a request was sent.
fn begun(server: &Server, request: &str) -> Connection {
    let mut connection = Connection::open(server.address);
    connection.send(request.as_bytes());
    connection
}

#[test]
fn a_standard_error_that_nobody_reads_stops_no_app() {
    let data = fresh_data();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0"]);
    command.args([guest(Guest::Hello), guest(Guest::Hostile)]);
    let mut server = Server::spawn_with_stderr(command, data.path(), writer).unwrap();
    assert_eq!(server.post("/hello/add", GOOD).body, "3");
    let before = peak_bytes(server.process.pid());

    // Each call may write 1 MiB, and the pipe takes 64 KiB.
    let flood = |server: &Server| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        assert_eq!(server.post("/hostile/long_lines", r#"{"lines":1,"kib":900}"#).body, "1");
                        assert_eq!(server.post("/hostile/long_lines", r#"{"lines":15,"kib":60}"#).body, "15");
                    }
                });
            }
        });
    };
    flood(&server);
    // Each of these is a warning of the host's own, written on a thread of the runtime.
    for _ in 0..20 {
        let mut connection = begun(&server, "GET /hostile/breaks HTTP/1.1\r\nhost: localhost\r\n\r\n");
        wait_until("the answer is cut off", || {
            connection.is_at_end() || {
                connection.skip();
                false
            }
        });
        assert_eq!(server.post("/hello/add", GOOD).body, "3");
    }
    flood(&server);
    let grown = peak_bytes(server.process.pid()) - before;
    assert!(grown < 200 << 20, "it grew by {} MiB", grown >> 20);

    // A reader that comes back is told how much it missed; one that does not keeps nobody from stopping.
    let reads = thread::spawn(move || {
        let (mut text, mut buffer) = (String::new(), vec![0; 1 << 16]);
        while let Ok(len @ 1..) = reader.read(&mut buffer) {
            text += &String::from_utf8_lossy(&buffer[..len]);
            if text.contains("log lines (") && text.contains("were dropped") {
                break;
            }
        }
        (text, reader)
    });
    let (text, _reader) = reads.join().unwrap();
    assert!(text.contains("were dropped"), "{}", &text[text.len().saturating_sub(2_000)..]);
    assert!(text.lines().all(|line| line.len() < 70_000), "a line is cut at 64 KiB");
    flood(&server);
    assert_eq!(server.stop(), 0);
}

#[test]
fn bodies_that_were_announced_and_do_not_come_take_no_room() {
    let server = Server::start(&[Guest::Hello, Guest::Hostile]);
    let head = |length: u64| {
        let path = "/v2/models/no-model/infer";
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")
    };
    let announced: Vec<_> = (0..8).map(|_| begun(&server, &head(64 << 20))).collect();
    // The host has read the heads once it has answered as many requests of later connections.
    for _ in 0..20 {
        assert_eq!(server.post("/hello/add", GOOD).body, "3");
        assert_eq!(server.exchange(&chunked("/hello/add", GOOD)).body, "3");
    }
    drop(announced);
    let head = "POST /hello/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{\"\r\n";
    let tiny: Vec<_> = (0..64).map(|_| begun(&server, head)).collect();
    for _ in 0..20 {
        assert_eq!(server.post("/hello/add", GOOD).body, "3");
        assert_eq!(server.exchange(&chunked("/hello/add", GOOD)).body, "3");
    }
    drop(tiny);
}

#[test]
fn a_hundred_chunked_calls_at_a_time_are_answered() {
    let server = Server::start(&[Guest::Hostile]);
    let statuses = thread::scope(|scope| {
        let call = || server.exchange(&chunked("/hostile/sleeps", r#"{"ms":300}"#)).status;
        let calls: Vec<_> = (0..100).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(statuses, [200; 100]);
}

#[test]
fn a_body_that_stops_moving_ends_with_a_word_to_its_client() {
    let server = Server::start(&[Guest::Hello, Guest::Hostile]);
    let half = |path: &str, sent: &str| {
        begun(&server, &format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{sent}"))
    };
    // A function, a model, a web function that waits for its body, and an upload in the middle of a line.
    let maps = "/api/v1/apps/hello/functions/square/maps";
    let mut stalled = ["/hello/add", "/v1/embeddings", "/hostile/upload"].map(|path| half(path, "{\"a\""));
    let mut upload = half(maps, "1\n2");
    for connection in &mut stalled {
        let reply = connection.receive();
        assert_eq!(reply.status, 408, "{reply:#?}");
        assert!(reply.body.contains("nothing of the body came for 10s"), "{reply:#?}");
    }
    let reply = upload.receive();
    assert!(reply.body.contains("body-timeout") && reply.body.contains("the map is closed"), "{reply:#?}");
    assert_eq!(server.post("/hello/add", GOOD).body, "3");
}

#[test]
fn a_clients_broken_body_is_the_clients_fault() {
    let server = Server::start(&[Guest::Hostile]);
    let broken = request("/hostile/upload", "transfer-encoding: chunked\r\n", "2\r\nab\r\nzz\r\n");
    check_problem(&server.exchange(&broken), 400, "body-unreadable");
    assert_eq!(server.exchange(&chunked("/hostile/upload", "ab")).body, "2 195");
}

#[test]
fn compressed_bodies_are_refused_and_media_types_have_no_case() {
    let server = Server::start(&[Guest::Hello]);
    let length = |body: &str| format!("content-length: {}\r\n", body.len());
    let odd = format!("{}content-type: Application/JSON; Charset=utf-8\r\n", length(GOOD));
    assert_eq!(server.exchange(&request("/hello/add", &odd, GOOD)).body, "3");
    let gzip = format!("{}content-type: application/json\r\ncontent-encoding: gzip\r\n", length(GOOD));
    let map = "/api/v1/apps/hello/functions/square/maps";
    for path in ["/hello/add", "/api/v1/apps", "/api/v1/apps/hello/functions/add/calls", map, "/v2/models/m/infer"] {
        let reply = server.exchange(&request(path, &gzip, GOOD));
        assert_eq!(reply.status, 415, "{path}: {reply:#?}");
        assert!(reply.body.contains(": gzip`"), "{path}: {reply:#?}");
    }
    assert_eq!(server.exchange(&request("/v1/embeddings", &gzip, GOOD)).status, 415);
    let plain = format!("{}content-encoding: identity\r\n", length(GOOD));
    assert_eq!(server.exchange(&request("/hello/add", &plain, GOOD)).body, "3");
}

#[test]
fn pages_of_this_host_and_of_other_ports_see_no_operators_path() {
    let server = Server::start(&[Guest::Hello, Guest::Hostile]);
    let get = |path: &str, site: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nsec-fetch-site: {site}\r\n");
        server.exchange(&format!("{head}\r\n"))
    };
    for path in ["/", "/metrics", "/api/v1/apps", "/v1/models", "/v2"] {
        for site in ["same-origin", "same-site", "cross-site"] {
            check_problem(&get(path, site), 403, "foreign-origin");
        }
        assert_eq!(get(path, "none").status, 200, "typed by the user: {path}");
    }
    check_problem(&get("/hostile/", "same-site"), 403, "foreign-origin");
    assert_eq!(get("/hostile/", "same-origin").status, 200);
}

#[test]
fn a_guest_that_drops_its_outparam_and_goes_on_is_told_as_a_failure() {
    let server = Server::start(&[Guest::StockWasi]);
    for path in ["/stock_wasi/drop/sleep", "/stock_wasi/drop/spin"] {
        let reply = server.get(path);
        check_problem(&reply, 502, "crashed");
        assert!(reply.body.contains("without an answer"), "{reply:#?}");
    }
    assert_eq!(server.get("/stock_wasi/fine").status, 200);
    assert!(!server.stderr().contains("panic"), "{}", server.stderr());
}

/// A panic costs the call that it meets, or not even that where the call is tried again; its slot and its place are
/// free for the next, and the log has the call.
#[test]
fn a_panic_at_any_stage_of_a_call_costs_that_call_alone() {
    let workloads = |point: &'static str| match point.split_once('.').unwrap().0 {
        "http" | "call" => vec!["call"],
        "attempt" => vec!["call", "web", "group"],
        own => vec![own],
    };
    let cases = PANIC_POINTS.iter().flat_map(|point| workloads(point).into_iter().map(move |work| (*point, work)));
    for (point, work) in cases {
        let data = fresh_data();
        let mut command =
            command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0", "--secret", "API_KEY=k"]);
        command.args([Guest::Hello, Guest::Hostile, Guest::Authored].map(guest));
        command.env("BIREME_PANIC_POINT", format!("{point}@1"));
        let mut server = Server::spawn(command, data.path()).unwrap_or_else(|output| panic!("{output:#?}"));
        let call = match work {
            "call" => {
                check_problem(&server.post("/authored/nap_alone", r#"{"ms":0}"#), 503, "unavailable");
                let again = server.post("/authored/nap_alone", r#"{"ms":0}"#);
                assert_eq!(again.body, "0", "{point}: its place is free again: {again:#?}");
                point != "http.route"
            }
            "web" => {
                check_problem(&server.get("/hostile/whoami"), 503, "unavailable");
                assert_eq!(server.get("/hostile/whoami").status, 200, "{point}");
                true
            }
            "group" => {
                let path = "/hostile/group_sizes_soon";
                check_problem(&server.post(path, r#"{"inputs":1}"#), 503, "unavailable");
                assert_eq!(server.post(path, r#"{"inputs":1}"#).body, "1", "{point}");
                true
            }
            "durable" => {
                let path = "/api/v1/apps/authored/functions/nap_alone/calls?wait=60";
                for _ in 0..2 {
                    let reply = server.post(path, r#"{"ms":1}"#);
                    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("done")), "{point}: {reply:#?}");
                }
                true
            }
            "map" => {
                let reply = server.exchange(&chunked("/api/v1/apps/hello/functions/square/maps", "1\n2\n3\n4\n"));
                let id = json_lines(&reply)[0]["map"]["id"].as_str().unwrap().to_owned();
                let map = || server.get(&format!("/api/v1/maps/{id}")).json();
                wait_until("the map has ended", || map()["state"] == "done");
                assert_eq!(map()["counts"]["done"], 4, "{point}");
                false
            }
            other => panic!("no call passes `{other}`"),
        };
        assert_eq!(server.get("/api/v1/calls").json()["live"], json!([]), "{point}");
        wait_until("the panic is in the log", || server.stderr().contains(&format!("panic point `{point}`")));
        if call {
            wait_until("the log has the call", || server.stderr().contains("while it ran a call call="));
        }
        assert_eq!(server.stop(), 0);
    }
}

fn json_lines(reply: &Reply) -> Vec<Value> {
    reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_stream_of_inputs_that_breaks_closes_its_map_and_a_bad_beginning_makes_none() {
    let server = Server::start(&[Guest::Hello]);
    let path = "/api/v1/apps/hello/functions/square/maps";
    let maps = || server.get("/api/v1/calls?kind=map").json()["calls"].as_array().unwrap().clone();

    let bad = request(path, "transfer-encoding: chunked\r\n", "zz\r\n");
    check_problem(&server.exchange(&bad), 400, "body-unreadable");
    assert_eq!(maps(), [] as [Value; 0], "a stream that breaks before its first input leaves no map");

    // Cut in the middle of the third input: the two before it run, and the map ends.
    let mut cut = begun(&server, &request(path, "transfer-encoding: chunked\r\n", "5\r\n3\n4\n5\r\n"));
    wait_until("both inputs are there", || maps().first().is_some_and(|map| map["counts"]["accepted"] == 2));
    cut.send(b"zz\r\n");
    wait_until("the map has ended", || maps()[0]["state"] == "done");
    assert_eq!(maps()[0]["counts"]["done"], 2);
    let lines = json_lines(&cut.receive());
    let error = lines.iter().find_map(|line| line["error"]["message"].as_str()).unwrap();
    assert!(error.contains("ends with the 2 inputs before"), "{error}");
}

#[test]
fn a_stream_that_is_sent_again_with_its_key_is_the_same_map() {
    let server = Server::start(&[Guest::Hello]);
    let path = "/api/v1/apps/hello/functions/square/maps";
    let stream = |headers: &str, body: &str| {
        let mut connection = begun(&server, &request(path, &format!("transfer-encoding: chunked\r\n{headers}"), body));
        connection.receive()
    };
    // Cut after two inputs: closed, and sent again it is found with these two.
    let key = "idempotency-key: once\r\n";
    let first = json_lines(&stream(key, "4\r\n3\n4\n\r\nzz\r\n"));
    let again = json_lines(&stream(key, "6\r\n3\n4\n5\n\r\n0\r\n\r\n"));
    assert_eq!(first[0]["map"]["id"], again[0]["map"]["id"]);
    let summary = again.iter().find(|line| line["summary"].is_object()).unwrap();
    assert_eq!(summary["summary"]["counts"]["accepted"], 2, "{again:?}");
    let error = again.iter().find_map(|line| line["error"]["code"].as_str());
    assert_eq!(error, Some("map-closed"), "{again:?}");
    // A whole one, in two pieces that are written one after the other.
    let key = "idempotency-key: twice\r\n";
    stream(key, "6\r\n1\n2\n3\n\r\n0\r\n\r\n");
    let again = json_lines(&stream(key, "2\r\n1\n\r\n4\r\n2\n3\n\r\n0\r\n\r\n"));
    let summary = again.iter().find(|line| line["summary"].is_object()).unwrap();
    assert_eq!(summary["summary"]["counts"]["accepted"], 3, "{again:?}");
}

#[test]
fn a_stream_that_breaks_leaves_the_map_to_the_one_that_replaces_it() {
    let server = Server::start(&[Guest::Hello]);
    let path = "/api/v1/apps/hello/functions/square/maps";
    let head = request(path, "transfer-encoding: chunked\r\nidempotency-key: k\r\n", "");
    let maps = || server.get("/api/v1/calls?kind=map").json()["calls"].as_array().unwrap().clone();
    let mut stale = begun(&server, &format!("{head}5\r\n1\n2\n3\r\n"));
    wait_until("two inputs are there", || maps().first().is_some_and(|map| map["counts"]["accepted"] == 2));
    let mut again = begun(&server, &format!("{head}6\r\n1\n2\n3\n\r\n"));
    wait_until("a third is there", || maps()[0]["counts"]["accepted"] == 3);
    stale.send(b"zz\r\n");
    again.send(b"2\r\n4\n\r\n");
    wait_until("a fourth is there", || maps()[0]["counts"]["accepted"] == 4);
    again.send(b"2\r\n5\n\r\n0\r\n\r\n");
    let summary = json_lines(&again.receive()).pop().unwrap();
    assert_eq!(summary["summary"]["counts"]["done"], 5, "{summary}");
    let told = json_lines(&stale.receive());
    let error = told.iter().find_map(|line| line["error"]["message"].as_str()).unwrap();
    assert!(error.contains("the map is open"), "{told:?}");
}

#[test]
fn inputs_that_cannot_be_read_leave_no_map() {
    let server = Server::start(&[Guest::Hello]);
    let map = |inputs: &str| {
        let mut command = command(shared_data(), &["map", "hello::square", "--inputs", inputs]);
        command.env("BIREME_HOST", server.address.to_string()).arg("--detach");
        command
    };
    let missing = finish(map("no-such-file.jsonl"));
    assert_ne!(missing.status, 0, "{missing:#?}");
    let mut too_long = map("-");
    too_long.args(["--files"]);
    let unreadable = finish_with(too_long, "no-such-input.json\n");
    assert_ne!(unreadable.status, 0, "{unreadable:#?}");
    assert_eq!(server.get("/api/v1/calls?kind=map").json()["calls"], json!([]));
    let made = finish_with(map("-"), "1\n");
    assert_eq!(made.status, 0, "{made:#?}");
}

#[test]
fn a_host_that_is_told_to_stop_keeps_to_one_deadline() {
    let data = fresh_data();
    let serve = || Server::try_start(data.path(), &[Guest::Authored], &["--secret", "API_KEY=k", "--drain", "1s"]);
    let mut server = serve().unwrap();
    // It would take an hour.
    let spawn = "/api/v1/apps/authored/functions/nap/calls";
    let call = server.post(spawn, r#"{"ms":3500000}"#).json()["id"].as_str().unwrap().to_owned();
    let behind = "/api/v1/apps/authored/functions/nap_alone/calls";
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut waiter = begun(&server, &head(&format!("/api/v1/calls/{call}?wait=60")));
    let body = r#"{"ms":3500000}"#;
    let length = format!("content-length: {}\r\n", body.len());
    let mut spawner = begun(&server, &request(&format!("{behind}?wait=60"), &length, body));
    // A call in memory that waits for the only place of its function.
    wait_until("the first runs", || {
        server.get("/api/v1/calls?state=leased").json()["calls"].as_array().unwrap().len() == 2
    });
    let mut queued = begun(&server, &request("/authored/nap_alone", &length, body));
    thread::sleep(Duration::from_millis(100));
    server.process.signal(Signal::TERM);
    check_problem(&waiter.receive(), 503, "unavailable");
    check_problem(&queued.receive(), 503, "unavailable");
    let spawned = spawner.receive();
    assert_eq!((spawned.status, &spawned.json()["state"]), (202, &json!("leased")), "{spawned:#?}");
    assert_eq!(server.process.wait(), 0);

    // Both go on with the next host.
    let server = serve().unwrap();
    for id in [call.as_str(), spawned.json()["id"].as_str().unwrap()] {
        let path = format!("/api/v1/calls/{id}");
        wait_until("it runs again", || {
            let call = server.get(&path).json();
            call["state"] == "leased" && call["attempts"] == 2
        });
    }
}
