//! `bireme serve`: what clients meet, good and bad, and how a server starts and stops.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{self, Connection, Guest, Reply, Server, fresh_data, wait_until};
use crate::tiny;

/// Wants a problem document.
#[track_caller]
fn check_problem(reply: &Reply, status: u16, code: &str, words: &str) {
    assert_eq!(reply.status, status, "{reply:#?}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let problem = reply.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words), "no `{words}` in `{detail}`");
}

/// A request to `add` with these header lines and this body, whole.
fn add(headers: &str, body: &str) -> String {
    format!("POST /hello/add HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const GOOD: &str = r#"{"a":1,"b":2}"#;

#[test]
fn a_call_answers_with_json_and_a_receipt() {
    let server = Server::start(&[Guest::Hello]);
    let reply = server.post("/hello/greet", r#"{"name":"Ada"}"#);
    assert_eq!((reply.status, reply.body.as_str()), (200, "\"hello, Ada\""));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
    assert_eq!(receipt["attempts"], 1);
    for key in ["queue_us", "wall_us", "instantiate_us", "cpu_us", "memory_peak_bytes", "log_dropped_bytes"] {
        assert!(receipt[key].is_u64(), "{key} in {receipt}");
    }
    let sum = |key: &str| receipt[key].as_u64().unwrap();
    assert!(sum("instantiate_us") + sum("cpu_us") <= sum("wall_us"), "{receipt}");
    let parts: u64 = receipt["wall_parts"].as_object().unwrap().values().map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(parts, sum("wall_us"), "{receipt}");
    assert_eq!(reply.header("bireme-call").map(str::len), Some(36));
    assert!(reply.header("bireme-version").is_some_and(|version| version.len() >= 8));
}

#[test]
fn health_and_apps_answer_get_only() {
    let server = Server::start(&[Guest::Hello, Guest::Hostile]);
    for path in ["/healthz", "/readyz"] {
        let reply = server.get(path);
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok\n"), "{path}");
    }
    let apps = server.get("/api/v1/apps").json();
    let names: Vec<&str> = apps["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hello", "hostile"]);
    assert_eq!(apps["apps"][0]["functions"][0]["route"], "POST /hello/add");
    assert_eq!(server.get("/api/v1/calls").json()["calls"], json!([]));
    let reply = server.post("/api/v1/calls", "{}");
    check_problem(&reply, 405, "method-not-allowed", "GET, HEAD");
    assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    check_problem(&server.get("/api/v1/nothing"), 404, "not-found", "/api/v1");
    check_problem(&server.get("/hello/b/c"), 404, "not-found", "/APP/FUNCTION");
}

#[test]
fn an_unknown_app_or_function_is_404_with_the_nearest() {
    let server = Server::start(&[Guest::Hello]);
    check_problem(&server.post("/helo/add", GOOD), 404, "unknown-app", "did you mean `hello`?");
    check_problem(&server.post("/zebra/add", GOOD), 404, "unknown-app", "deployed: hello");
    check_problem(&server.post("/hello/ad", GOOD), 404, "unknown-function", "did you mean `add`?");
    check_problem(&server.post("/hello/zebra", GOOD), 404, "unknown-function", "it has add, count");
    let describe = |path: &str| server.get(&format!("/api/v1/apps/{path}"));
    check_problem(&describe("helo/functions/add"), 404, "unknown-app", "did you mean `hello`?");
    check_problem(&describe("hello/functions/ad"), 404, "unknown-function", "did you mean `add`?");
}

#[test]
fn a_function_is_described_by_itself_as_within_its_app() {
    let server = Server::start(&[Guest::Hello, Guest::Hostile]);
    let described = server.get("/api/v1/apps/hello/functions/add").json();
    assert_eq!((&described["app"], &described["route"]), (&json!("hello"), &json!("POST /hello/add")));
    let app = server.get("/api/v1/apps/hello").json();
    assert_eq!(described["version"], app["version"]);
    let functions = app["metadata"]["functions"].as_array().unwrap();
    assert_eq!(Some(&described["function"]), functions.iter().find(|function| function["name"] == "add"));
    // A web function, too, which has a route of its own and cannot be called by its name.
    let app = server.get("/api/v1/apps/hostile").json();
    let functions = app["metadata"]["functions"].as_array().unwrap();
    let web = functions.iter().find(|function| !function["attributes"]["route"].is_null()).unwrap();
    let path = format!("/api/v1/apps/hostile/functions/{}", web["name"].as_str().unwrap());
    assert_eq!(server.get(&path).json()["function"], *web);
}

#[test]
fn a_function_takes_post_only() {
    let server = Server::start(&[Guest::Hello]);
    for method in ["GET", "PUT", "DELETE"] {
        let reply = server.exchange(&format!("{method} /hello/add HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        check_problem(&reply, 405, "method-not-allowed", "POST");
        assert_eq!(reply.header("allow"), Some("POST"));
    }
}

#[test]
fn a_body_over_the_limit_is_413_before_and_while_it_comes() {
    let server = Server::start(&[Guest::Hello]);
    let limit = 8 << 20;
    // By its announced length: not one byte of it is sent.
    let head = format!("POST /hello/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", limit + 1);
    check_problem(&server.exchange(&head), 413, "input-too-large", "8388608 bytes");
    // Without one: the byte over the limit is the last that is sent.
    let head = "POST /hello/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = format!("{head}{:x}\r\n{}", limit + 1, "x".repeat(limit + 1));
    check_problem(&server.exchange(&body), 413, "input-too-large", "8388608 bytes");
    assert_eq!(server.post("/hello/add", GOOD).body, "3");
}

#[test]
fn a_chunked_body_within_the_limit_is_taken() {
    let server = Server::start(&[Guest::Hello]);
    let head = "POST /hello/add HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let reply = server.exchange(&format!("{head}6\r\n{{\"a\":1\r\n7\r\n,\"b\":2}}\r\n0\r\n\r\n"));
    assert_eq!((reply.status, reply.body.as_str()), (200, "3"));
}

#[test]
fn a_body_that_is_not_json_is_415_by_type_and_400_by_content() {
    let server = Server::start(&[Guest::Hello, Guest::Hostile]);
    let reply = server.exchange(&add("host: localhost\r\ncontent-type: application/xml\r\n", GOOD));
    check_problem(&reply, 415, "unsupported-media-type", "`application/xml`");
    for good in ["application/json; charset=utf-8", "application/vnd.x+json", "application/x-www-form-urlencoded"] {
        let reply = server.exchange(&add(&format!("host: localhost\r\ncontent-type: {good}\r\n"), GOOD));
        assert_eq!((reply.status, reply.body.as_str()), (200, "3"), "{good}");
    }
    check_problem(&server.post("/hello/add", "{\"a\":1,"), 400, "invalid-input", "line 1 column");
    check_problem(&server.post("/hello/add", ""), 400, "invalid-input", "");
    check_problem(&server.post("/hello/add", r#"{"a":1,"b":"x"}"#), 400, "invalid-input", "$.b: expected an integer");
    let drawing = r#"{"drawing":{"title":"t","shapes":[{"path":{"points":[{"x":1,"y":null}]}}]}}"#;
    check_problem(
        &server.post("/hostile/typed", drawing),
        400,
        "invalid-input",
        "$.drawing.shapes[0].path.points[0].y: ",
    );
}

#[test]
fn a_request_has_one_host_and_it_is_this_machine() {
    let server = Server::start(&[Guest::Hello]);
    check_problem(&server.exchange(&add("host: evil.example\r\n", GOOD)), 421, "foreign-host", "loopback");
    check_problem(
        &server.exchange(&add("host: localhost\r\nhost: localhost\r\n", GOOD)),
        400,
        "bad-host",
        "exactly one",
    );
    check_problem(&server.exchange(&add("", GOOD)), 400, "bad-host", "exactly one");
    for good in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"] {
        let reply = server.exchange(&add(&format!("host: {good}\r\n"), GOOD));
        assert_eq!(reply.status, 200, "{good}: {reply:#?}");
    }
}

#[test]
fn what_is_no_http_is_refused_and_the_server_goes_on() {
    let server = Server::start(&[Guest::Hello]);
    for junk in ["hello\r\n\r\n", "POST /hello/add HTTP/9.9\r\n\r\n", "\0\u{1}\u{2}\r\n\r\n"] {
        let mut connection = Connection::open(server.address);
        connection.send(junk.as_bytes());
        // Whatever it says, it closes.
        wait_until("the connection closes", || {
            connection.is_at_end() || {
                connection.skip();
                false
            }
        });
    }
    assert_eq!(server.post("/hello/add", GOOD).body, "3");
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let server = Server::start(&[Guest::Hello, Guest::Hostile]);
    let mut connection = Connection::open(server.address);
    let send = |connection: &mut Connection, path: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.send((head + body).as_bytes());
        connection.receive()
    };
    for n in 1..=20_u64 {
        let reply = send(&mut connection, "/hello/square", &n.to_string());
        assert_eq!(reply.body, (n * n).to_string());
    }
    // A failure does not end it.
    assert_eq!(send(&mut connection, "/hostile/panics", r#"{"message":"x"}"#).status, 502);
    assert_eq!(send(&mut connection, "/hello/square", "21").body, "441");
}

#[test]
fn a_client_that_leaves_ends_its_call() {
    let server = Server::start(&[Guest::Hostile]);
    let calls = || server.get("/api/v1/calls").json()["live"].clone();
    let mut connection = Connection::open(server.address);
    // It would run until its timeout of 20 s.
    let body = format!("{{\"n\":{}}}", u64::MAX);
    let head = format!("POST /hostile/works HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    connection.send((head + &body).as_bytes());
    wait_until("the call runs", || calls()[0]["function"] == "hostile::works");
    drop(connection);
    let begin = std::time::Instant::now();
    wait_until("the call is cancelled", || calls() == json!([]));
    // Had it not been cancelled, it would have ended no sooner than this.
    assert!(begin.elapsed() < std::time::Duration::from_secs(15));
}

#[test]
fn a_server_that_is_told_to_stop_lets_calls_finish() {
    let mut server = Server::start(&[Guest::Hostile]);
    let address = server.address;
    // Some seconds of work at most, and its timeout is 20 s.
    let call = std::thread::spawn(move || support::post(address, "/hostile/works", r#"{"n":400000000}"#));
    wait_until("the call runs", || server.get("/api/v1/calls").json()["live"][0]["function"] == "hostile::works");
    server.process.signal(Signal::TERM);
    let reply = call.join().unwrap();
    assert_eq!(reply.status, 200, "{reply:#?}");
    assert_eq!(server.process.wait(), 0);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn ctrl_c_stops_a_server_too() {
    let mut server = Server::start(&[Guest::Hello]);
    server.process.signal(Signal::INT);
    assert_eq!(server.process.wait(), 0);
}

#[test]
fn a_data_directory_in_use_names_its_holder() {
    let data = fresh_data();
    let first = Server::start_over(data.path(), &[Guest::Hello]);
    let Err(refused) = Server::try_start(data.path(), &[Guest::Hello], &[]) else {
        panic!("two servers over one directory");
    };
    assert_eq!(refused.status, 1);
    let error: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(error["error"]["code"], "store");
    let message = error["error"]["message"].as_str().unwrap();
    let holder = format!("is in use by process {};", first.process.pid());
    assert!(message.contains(&holder) && message.contains("--data DIR"), "{message}");
    // The first goes on, and leaves the directory to the next.
    assert_eq!(first.post("/hello/add", GOOD).body, "3");
    drop(first);
    Server::start_over(data.path(), &[Guest::Hello]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = Server::start(&[Guest::Hello]);
    let listen = server.address.to_string();
    let data = fresh_data();
    let Err(refused) = Server::try_start(data.path(), &[Guest::Hello], &["--listen", &listen]) else {
        panic!("two servers on one port");
    };
    assert_eq!(refused.status, 1);
    let error: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(error["error"]["code"], "cannot-listen");
    assert!(error["error"]["message"].as_str().unwrap().contains(&format!("cannot listen on {listen}")), "{error}");
    assert!(error["error"]["hint"].as_str().unwrap().contains("--listen"), "{error}");
}

#[test]
fn an_address_that_others_reach_is_refused() {
    let data = fresh_data();
    let Err(refused) = Server::try_start(data.path(), &[Guest::Hello], &["--listen", "0.0.0.0:0"]) else {
        panic!("it listens to everybody");
    };
    assert_eq!(refused.status, 2);
    assert!(refused.stdout.contains("reachable from other machines"), "{refused:#?}");
}

#[test]
fn two_apps_of_one_name_are_refused() {
    let data = fresh_data();
    let refused = Server::try_start(data.path(), &[Guest::Hello, Guest::Hello], &[]).err().unwrap();
    assert_eq!(refused.status, 2, "{refused:#?}");
    assert!(refused.stdout.contains("is a second app named `hello`"), "{refused:#?}");
}

#[test]
fn the_server_writes_guests_logs_to_stderr() {
    let server = Server::start(&[Guest::Hello]);
    let reply = server.post("/hello/whoami", "{}");
    assert_eq!(reply.status, 200);
    // From a thread of its own, so perhaps after the answer.
    let version = reply.header("bireme-version").unwrap();
    let said = format!("hello::whoami@{version} info: asked who I am attempt=1\n");
    wait_until("the line is there", || server.stderr().contains(&said));
}

#[test]
fn key_value_data_outlives_the_server() {
    let data = fresh_data();
    let count = |server: &Server| server.post("/hello/count", r#"{"key":"a"}"#).body;
    let mut server = Server::start_over(data.path(), &[Guest::Hello, Guest::Hostile]);
    assert_eq!([count(&server), count(&server)], ["1", "2"]);
    // Another app's bucket of that name is another bucket.
    let other = server.post("/hostile/keep", r#"{"bucket":"counts","key":"k","bytes":10}"#);
    assert_eq!(other.body, "1", "{other:#?}");
    assert_eq!(server.stop(), 0);

    let server = Server::start_over(data.path(), &[Guest::Hello]);
    assert_eq!(count(&server), "3");
    // What was acknowledged is on disk, however the server ends.
    server.process.signal(Signal::KILL);
    drop(server);
    let server = Server::start_over(data.path(), &[Guest::Hello]);
    assert_eq!(count(&server), "4");
}

#[test]
fn an_index_is_searched_over_restarts() {
    let data = fresh_data();
    let mut server = Server::start_over(data.path(), &[Guest::DocsSearch]);
    let texts = ["the cat sleeps on the sofa", "interest rates rose again", "a crate is a unit of compilation"];
    let vectors = server.post("/docs-search/embed", &json!({ "texts": texts }).to_string()).json();
    let passages: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({
                "url": format!("http://docs.example/{index}"),
                "title": "A page",
                "passage": { "heading": ["Top"], "anchor": "top", "text": text },
            })
        })
        .collect();
    let segment = json!({ "generation": "g1", "number": 0, "passages": passages, "vectors": vectors });
    let stored = server.post("/docs-search/store", &json!({ "segment": segment }).to_string());
    assert_eq!(stored.json()["passages"], 3, "{stored:#?}");
    let manifest = json!({ "generation": "g1", "segments": 1, "passages": 3, "model": support::MODEL });
    let committed = server.post("/docs-search/commit", &json!({ "manifest": manifest }).to_string());
    assert_eq!(committed.json(), manifest);

    let search = |server: &Server, q: &str| {
        let reply = server.post("/docs-search/search", &json!({ "q": q }).to_string());
        assert_eq!(reply.status, 200, "{reply:#?}");
        let hits = reply.json();
        assert_eq!(hits.as_array().unwrap().len(), 3);
        hits[0].clone()
    };
    let check = |hit: &Value, q: &str| {
        let query = tiny::vector(q);
        let cosine = |text: &str| tiny::vector(text).iter().zip(&query).map(|(a, b)| a * b).sum::<f64>();
        let cosines = texts.map(cosine);
        let best = (0..texts.len()).max_by(|a, b| cosines[*a].total_cmp(&cosines[*b])).unwrap();
        assert_eq!(hit["url"], format!("http://docs.example/{best}#top"), "{q}: {cosines:?}");
        // The index has a byte for each number.
        assert!((hit["score"].as_f64().unwrap() - cosines[best]).abs() < 0.02, "{q}: {cosines:?} {hit}");
    };
    let hit = search(&server, "what is a crate in rust");
    check(&hit, "what is a crate in rust");
    assert_eq!(server.stop(), 0);
    let server = Server::start_over(data.path(), &[Guest::DocsSearch]);
    assert_eq!(search(&server, "what is a crate in rust"), hit);
    texts.iter().for_each(|text| check(&search(&server, text), text));
}
