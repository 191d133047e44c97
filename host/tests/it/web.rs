//! Web functions over real sockets: answers, streams, and every way a guest or a client can break an exchange.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use crate::support::{Guest, PATIENCE, Server, bireme, guest, wait_until};

/// What a client was sent before the connection ended.
#[derive(Debug)]
struct Received {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// Whether the body is as long as it was to be, or ended with its last chunk.
    is_complete: bool,
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[track_caller]
    fn check_problem(&self, status: u16, code: &str, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "no `{words}` in {problem}");
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn request(server: &Server, request: &str) -> Received {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    received(stream)
}

fn get(server: &Server, path: &str) -> Received {
    request(server, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
}

/// Reads until the connection ends, which may be in the middle.
fn received(mut stream: TcpStream) -> Received {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return Received { status: 0, head: String::new(), body: bytes, is_complete: false };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut rest = &bytes[end + 4..];
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut received = Received { status, head, body: Vec::new(), is_complete: false };
    if received.header("transfer-encoding").is_none() {
        let length = received.header("content-length").map_or(rest.len(), |length| length.parse().unwrap());
        received.body = rest.to_vec();
        received.is_complete = rest.len() == length;
        return received;
    }
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if length == 0 {
            received.is_complete = true;
            break;
        }
        let part = &rest[..length.min(rest.len())];
        received.body.extend_from_slice(part);
        rest = rest.get(length + 2..).unwrap_or_default();
    }
    received
}

// ---- Components that know nothing of Bireme ----

/// What cargo built, without a description.
fn as_built(of: Guest) -> String {
    guest(of).replace(".bireme.wasm", ".wasm")
}

#[test]
fn a_stock_component_is_served_as_it_is_below_its_files_name() {
    let data = crate::support::fresh_data();
    let (wasi, wstd) = (as_built(Guest::StockWasi), as_built(Guest::StockWstd));
    let server = Server::try_start(data.path(), &[], &[&wasi, &wstd]).unwrap();
    let reply = server.get("/stock_wasi/a%20b?c=d");
    assert_eq!((reply.status, reply.body.as_str()), (200, "stock at /a%20b?c=d\n"));
    assert_eq!(reply.header("bireme-call").map(str::len), Some(36));
    assert!(reply.header("bireme-version").is_some() && reply.header("bireme-receipt").is_some(), "{reply:?}");
    assert_eq!(get(&server, "/stock_wstd/x").body, b"wstd at /x\n");
    // Links of a page would lead elsewhere without the slash.
    let reply = server.get("/stock_wasi?a=b");
    assert_eq!((reply.status, reply.header("location")), (308, Some("/stock_wasi/?a=b")));
    let apps = server.get("/api/v1/apps").json();
    assert_eq!(apps["apps"][0]["functions"][0]["route"], "ANY /stock_wasi/{*path}");
}

#[test]
fn a_stock_component_sees_its_own_path_and_no_header_of_the_connection() {
    let server = Server::start(&[Guest::StockWasi]);
    let head = "host: localhost:1\r\nconnection: close, x-named\r\nx-named: 1\r\nte: trailers\r\nx-kept: 2\r\n";
    let seen = request(&server, &format!("GET /stock_wasi/head HTTP/1.1\r\n{head}x-forwarded-prefix: /evil\r\n\r\n"));
    let text = String::from_utf8(seen.body).unwrap();
    assert_eq!(text, "Method::Get localhost:1\nx-forwarded-prefix: /stock_wasi\nx-kept: 2\n");
}

#[test]
fn every_way_to_break_an_answer_has_a_name_and_the_host_goes_on() {
    let server = Server::start(&[Guest::StockWasi]);
    for (path, status, code, words) in [
        ("/never", 502, "crashed", "ended without an answer"),
        ("/error", 500, "failed", "ErrorCode::LoopDetected"),
        ("/trap/before", 502, "crashed", "panicked: before the head"),
        ("/long", 502, "crashed", "more than the 5 bytes of its `content-length`"),
        ("/short", 502, "crashed", "gave its answer up"),
        ("/headers/enormous", 502, "crashed", "headers of more than 32 KiB"),
        ("/headers/malformed", 502, "crashed", "InvalidSyntax"),
        ("/status", 502, "crashed", "status 101"),
        ("/%zz", 400, "bad-path", "/stock_wasi/%zz"),
    ] {
        get(&server, &format!("/stock_wasi{path}")).check_problem(status, code, words);
    }
    // Nothing of these may be taken for a whole answer.
    for (path, words) in [
        ("/trap/after", "panicked: after the head"),
        ("/trap/between", "panicked: between two parts"),
        ("/long/late", "more than the 200000 bytes"),
    ] {
        let broken = get(&server, &format!("/stock_wasi{path}"));
        assert!(!broken.is_complete || broken.status >= 500, "{path}: {:?}", broken.head);
        wait_until("the end is logged", || server.stderr().contains(words));
    }
    assert_eq!(get(&server, "/stock_wasi/hop").body, b"[true, true, true, true]");
    let good = get(&server, "/stock_wasi/exact");
    assert_eq!((good.status, good.body.as_slice(), good.is_complete), (201, b"0123456789".as_slice(), true));
}

#[test]
fn a_guest_cannot_speak_for_the_host() {
    let server = Server::start(&[Guest::StockWasi]);
    let reply = server.get("/stock_wasi/headers/ours");
    for name in ["bireme-call", "bireme-version", "bireme-receipt"] {
        let values: Vec<_> = reply.headers.iter().filter(|(key, _)| key == name).collect();
        assert!(values.len() == 1 && values[0].1 != "mine", "{values:?}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start(&[Guest::StockWasi]);
    let reply = request(&server, "HEAD /stock_wasi/exact HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (201, Some("10"), 0));
}

#[test]
fn bodies_stream_both_ways_at_once() {
    let server = Server::start(&[Guest::StockWasi]);
    let mut stream = connect(&server);
    let head =
        "POST /stock_wasi/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // 64 MiB pass through a guest whose own memory is limited to 128 and a host that keeps some KiB of them; and the
    // answer begins while the request is still being sent, or both sides would wait for ever.
    let part = vec![b'e'; 1 << 20];
    let mut writer = stream.try_clone().unwrap();
    let sent = std::thread::spawn(move || {
        for _ in 0..64 {
            writer.write_all(b"100000\r\n").unwrap();
            writer.write_all(&part).unwrap();
            writer.write_all(b"\r\n").unwrap();
        }
        writer.write_all(b"0\r\n\r\n").unwrap();
    });
    let echoed = received(stream);
    sent.join().unwrap();
    assert!(echoed.is_complete, "{}", echoed.head);
    assert_eq!(echoed.body.len(), 64 << 20);
    assert!(echoed.body.iter().all(|byte| *byte == b'e'));
}

#[test]
fn a_client_that_leaves_ends_its_web_call_and_one_that_does_not_read_makes_it_wait() {
    let server = Server::start(&[Guest::StockWasi]);
    let calls = || server.get("/api/v1/calls").json()["live"].clone();
    let mut stream = connect(&server);
    stream.write_all(b"GET /stock_wasi/flood HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 1 << 16];
    stream.read_exact(&mut first).unwrap();
    wait_until("the call runs", || calls()[0]["function"] == "stock_wasi::web");
    assert_eq!(calls()[0]["principal"], "app:stock_wasi");
    // It would write for ever; the kernel's buffers and some KiB are all that it gets rid of.
    let peak = crate::support::peak_bytes(server.process.pid());
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    let begin = std::time::Instant::now();
    wait_until("the call is cancelled", || calls() == json!([]));
    // Its own timeout would have ended it no sooner than this.
    assert!(begin.elapsed() < std::time::Duration::from_secs(25));
    assert!(peak < 512 << 20, "{peak} bytes");
}

// ---- What cannot be served ----

#[test]
fn what_cannot_be_served_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |name: &str, wat: &str| {
        let path = crate::support::file(&dir, name, &wat::parse_str(wat).unwrap());
        let refused = bireme(&["--json", "serve", &path, "--listen", "127.0.0.1:0"]);
        assert_ne!(refused.status, 0, "{refused:?}");
        refused.json()["error"].clone()
    };
    let handler = r#"(core module $m (func (export "f") (param i32 i32))) (core instance $i (instantiate $m))
        (type $r (instance (export "incoming-request" (type (sub resource))) (export "response-outparam" (type (sub resource)))))
        (import "wasi:http/types@0.2.12" (instance $t (type $r)))
        (alias export $t "incoming-request" (type $in)) (alias export $t "response-outparam" (type $out))
        (func $handle (param "request" (own $in)) (param "response-out" (own $out)) (canon lift (core func $i "f")))
        (component $shim
            (import "in" (type $in (sub resource))) (import "out" (type $out (sub resource)))
            (import "f" (func $f (param "request" (own $in)) (param "response-out" (own $out))))
            (export $in2 "incoming-request" (type $in)) (export $out2 "response-outparam" (type $out))
            (export "handle" (func $f) (func (param "request" (own $in2)) (param "response-out" (own $out2)))))
        (instance $e (instantiate $shim (with "in" (type $in)) (with "out" (type $out)) (with "f" (func $handle))))
        (export "wasi:http/incoming-handler@0.2.12" (instance $e))"#;
    for (name, wat, code, words) in [
        ("module.wasm", "(module)".to_owned(), "bad-component", "--target wasm32-wasip2"),
        ("silent.wasm", "(component)".to_owned(), "bad-component", "exports nothing that could be called"),
        (
            "a b.wasm",
            format!("(component {handler})"),
            "bad-app",
            "the app is named after its file, and `a b` is not a valid name; rename the file",
        ),
        (
            "query.wasm",
            format!(r#"(component (import "acme:db/query@1.0.0" (instance (export "f" (func)))) {handler})"#),
            "bad-app",
            "imports `acme:db/query@1.0.0`, which this host does not offer",
        ),
        (
            "newer.wasm",
            format!(r#"(component (import "wasi:http/client@0.3.0" (instance (export "f" (func)))) {handler})"#),
            "bad-app",
            "imports `wasi:http/client@0.3.0`",
        ),
        (
            "patch.wasm",
            format!(r#"(component (import "wasi:io/poll@0.2.99" (instance (export "f" (func)))) {handler})"#),
            "bad-app",
            "imports `wasi:io/poll@0.2.99`, and this host has wasi:io 0.2.12",
        ),
    ] {
        let error = serve(name, &wat);
        assert_eq!(error["code"], code, "{name}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{name}: {error}");
    }
}

#[test]
fn a_web_function_is_not_called_by_its_name() {
    for command in ["run", "map"] {
        let target = format!("{}::web", guest(Guest::StockWasi));
        let inputs: &[&str] = if command == "map" { &["--inputs", "/dev/null"] } else { &[] };
        let refused = bireme(&[&["--json", command, &target], inputs].concat());
        let error = refused.json()["error"].clone();
        assert_eq!((refused.status, &error["code"]), (2, &json!("web-function")), "{error}");
        let curl = "curl 'http://127.0.0.1:8080/stock_wasi/{*path}'";
        assert!(error["hint"].as_str().unwrap().contains(curl), "{error}");
    }
}

// ---- Web functions of the SDK ----

/// Posts a body of this type.
fn post(server: &Server, path: &str, content_type: &str, body: &str) -> Received {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    request(server, &(head + body))
}

#[test]
fn typed_paths_queries_and_bodies_reach_a_web_function() {
    let server = Server::start(&[Guest::Hostile]);
    let text = |path: &str| {
        let reply = get(&server, path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        String::from_utf8(reply.body).unwrap()
    };
    assert_eq!(text("/hostile/"), "<h1>hostile</h1>");
    assert_eq!(text("/hostile/orders/7"), "7 None []");
    let path = "/hostile/orders/7?sort=newest&tag=a%20b&tag=c+d&unknown=1";
    assert_eq!(text(path), r#"7 Some("\"newest\"") ["a b", "c d"]"#);
    let json = post(&server, "/hostile/orders", "application/json", r#"{"name":"oar","count":2}"#);
    assert_eq!((json.status, json.body.as_slice()), (200, br#"{"name":"oar","count":2}"#.as_slice()));
    let form = post(&server, "/hostile/forms", "application/x-www-form-urlencoded", "name=%3Coar%3E&count=2");
    assert_eq!(form.body, b"2 x &lt;oar&gt;");
    let mirrored =
        request(&server, "PATCH /hostile/mirror/a%2Fb/c?d=e HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert_eq!(mirrored.body, b"PATCH a/b/c d=e /hostile/x");
    assert_eq!(text("/hostile/whoami"), r#"["hostile","web_whoami"]"#);
    let redirect = server.get("/hostile/orders/latest");
    assert_eq!((redirect.status, redirect.header("location")), (303, Some("/hostile/orders/7")));
    // Its functions are called as ever.
    assert_eq!(server.post("/hostile/works", r#"{"n":1}"#).status, 200);
}

#[test]
fn what_does_not_fit_a_web_function_is_a_problem_that_names_it() {
    let server = Server::start(&[Guest::Hostile]);
    let check = |reply: Received, status, code, words: &str| reply.check_problem(status, code, words);
    let of_path = "parameter `id` of the path: expected a whole number from 0 to 4294967295, found `x`";
    check(get(&server, "/hostile/orders/x"), 400, "invalid-input", of_path);
    let of_query = "parameter `sort` of the query: expected one of `newest`, `oldest`, found `odd`";
    check(get(&server, "/hostile/orders/7?sort=odd"), 400, "invalid-input", of_query);
    check(get(&server, "/hostile/lines"), 400, "invalid-input", "parameter `count` of the query: it is missing");
    let json = |body: &str| post(&server, "/hostile/orders", "application/json; charset=utf-8", body);
    check(json(r#"{"name":"a","count":300}"#), 400, "invalid-input", "at `count`");
    check(json("{"), 400, "invalid-input", "EOF");
    check(json(r#"{"name":"a","count":0}"#), 422, "empty-order", "an order of nothing");
    check(post(&server, "/hostile/orders", "text/plain", "x"), 415, "unsupported-media-type", "`text/plain`");
    let form = "application/x-www-form-urlencoded";
    check(post(&server, "/hostile/forms", form, "name=a&count=many"), 400, "invalid-input", "field `count`");
    check(get(&server, "/hostile/nowhere/at/all"), 404, "not-found", "/hostile/nowhere/at/all");
    check(get(&server, "/hostile/bad-header"), 500, "internal-server-error", "header `x-bad`");
    check(get(&server, "/hostile/greedy"), 502, "memory-limit", "over its limit of 8 MiB");
    // The function's own policy holds, not that of another.
    check(get(&server, "/hostile/fetches"), 500, "terminal", "192.0.2.2");
    let other =
        request(&server, "DELETE /hostile/orders/latest HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert_eq!(other.header("allow"), Some("GET, HEAD"));
    check(other, 405, "method-not-allowed", "GET, HEAD");
    let named = server.post("/hostile/home", "{}");
    assert_eq!((named.status, &named.json()["code"]), (404, &json!("web-function")));
    let curl = format!("curl 'http://{}/hostile/'", server.address);
    assert!(named.json()["detail"].as_str().unwrap().contains(&curl), "{named:?}");
}

#[test]
fn an_answer_of_lines_leaves_as_it_is_made_and_one_that_fails_is_cut() {
    let server = Server::start(&[Guest::Hostile]);
    let small = server.get("/hostile/lines?count=3");
    assert_eq!((small.body.as_str(), small.header("content-length")), ("line 0\nline 1\nline 2\n", Some("21")));
    assert!(small.header("bireme-receipt").is_some());
    let large = get(&server, "/hostile/lines?count=200000");
    assert!(large.is_complete && large.body.ends_with(b"line 199999\n"), "{}", large.head);
    assert_eq!(large.header("bireme-receipt"), None);

    let broken = get(&server, "/hostile/breaks");
    assert!(broken.status == 200 && !broken.is_complete, "{}", broken.head);
    wait_until("the reason is logged", || server.stderr().contains("the source dried up"));
    let slow = get(&server, "/hostile/loops");
    assert!(!slow.is_complete || slow.status == 504, "{}", slow.head);
    wait_until("the reason is logged", || server.stderr().contains("within its timeout of 200ms"));
}

#[test]
fn an_upload_is_read_as_it_comes_whatever_its_size() {
    let server = Server::start(&[Guest::Hostile]);
    let mut stream = connect(&server);
    let count = 256_usize << 20;
    let head = "POST /hostile/upload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    stream.write_all(format!("{head}content-length: {count}\r\n\r\n").as_bytes()).unwrap();
    let part = vec![1; 1 << 20];
    for _ in 0..256 {
        stream.write_all(&part).unwrap();
    }
    let summed = received(stream);
    assert_eq!(String::from_utf8(summed.body).unwrap(), format!("{count} {count}"));
    let peak = crate::support::peak_bytes(server.process.pid());
    assert!(peak < count as u64, "{peak} bytes");
}

#[test]
fn routes_are_told_wherever_functions_are() {
    let said = bireme(&["inspect", guest(Guest::Hostile)]).stdout;
    assert!(said.contains("answers  GET /hostile/orders/{id}"), "{said}");
    let function = bireme(&["--json", "inspect", guest(Guest::Hostile)]).json();
    let functions = function["functions"].as_array().unwrap();
    let order = functions.iter().find(|function| function["name"] == "order").unwrap();
    assert_eq!(order["attributes"]["route"], "GET /orders/{id}");
    assert_eq!(order["parameters"], json!(["id", "sort", "tag"]));
    assert_eq!(order["input"]["required"], json!(["id"]));
}
