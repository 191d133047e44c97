//! The control API as its clients meet it: a generated client, schemathesis, and the examples of `docs/api.md`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::python::python_with;
use crate::support::{self, Guest, Server, crate_dir, finish};

const GENERATOR: &str = "openapi-python-client==0.29.1";
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Saves the host's OpenAPI document.
fn openapi(server: &Server, dir: &TempDir) -> String {
    let document = server.get("/api/v1/openapi.json");
    assert_eq!(document.status, 200, "{document:#?}");
    support::file(dir, "openapi.json", document.body.as_bytes())
}

#[test]
fn a_client_made_by_a_stock_generator_deploys_calls_spawns_and_reads_a_map() {
    let Some(python) = python_with(GENERATOR) else { return };
    let server = Server::start(&[]);
    let dir = TempDir::new().unwrap();
    let document = openapi(&server, &dir);
    // Media types that the generator does not know, as those that it does.
    let config = support::file(
        &dir,
        "config.yml",
        b"content_type_overrides:\n  application/wasm: application/octet-stream\n  application/x-ndjson: \
          application/octet-stream\n  application/problem+json: application/json\n  text/event-stream: text/plain\n\
          post_hooks: []\n",
    );
    let client = dir.path().join("generated");
    let mut generate = Command::new(python.with_file_name("openapi-python-client"));
    generate.args(["generate", "--meta", "none", "--fail-on-warning", "--path"]).arg(document);
    generate.arg("--config").arg(config).arg("--output-path").arg(&client);
    let generated = finish(generate);
    assert_eq!(generated.status, 0, "{generated:#?}");

    let mut run = Command::new(python);
    run.arg(crate_dir("tests/py/generated_client.py"));
    run.arg(server.address.to_string())
        .arg(client)
        .arg(support::guest(Guest::Hello))
        .env("BIREME_TOKEN", support::TOKEN);
    let ran = finish(run);
    assert_eq!(ran.status, 0, "{ran:#?}\n{}", server.stderr());
    assert!(ran.stdout.contains("all well"), "{ran:#?}");
}

#[test]
fn each_answer_to_generated_requests_fits_the_document() {
    let Some(python) = python_with(SCHEMATHESIS) else { return };
    let server = Server::start(&[Guest::Hello]);
    let dir = TempDir::new().unwrap();
    let document = openapi(&server, &dir);
    let call = server.post("/api/v1/apps/hello/functions/square/calls?wait=30", "7").json();
    let map = server.post("/api/v1/apps/hello/functions/square/maps", "7\n").body;
    let map: Value = serde_json::from_str(map.lines().next().unwrap()).unwrap();
    let parameters = format!(
        "[parameters]\napp = \"hello\"\nfunction = \"square\"\nindex = 0\n\n[[operations]]\ninclude-path-regex = \
         \"/calls/\"\nparameters = {{ id = {} }}\n\n[[operations]]\ninclude-path-regex = \"/maps/\"\nparameters = {{ id = {} }}\n",
        call["id"], map["map"]["id"]
    );
    // Streams that do not end are no part of it.
    let endless = ["--exclude-operation-id", "read_events", "--exclude-operation-id", "read_logs"];
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    for (config, only) in [("", &[][..]), (&parameters, &["--include-method", "GET"][..])] {
        let config = support::file(&dir, "schemathesis.toml", config.as_bytes());
        let mut run = Command::new(python.with_file_name("schemathesis"));
        run.env("SCHEMATHESIS_HOOKS", "schema_hooks").env("PYTHONPATH", crate_dir("tests/py")).current_dir(dir.path());
        run.arg("--config-file").arg(config).arg("run").arg(&document);
        run.args(["--url", &format!("http://{}", server.address), "--checks", checks, "--no-color"]);
        run.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--generation-deterministic"]);
        run.args(["--header", &authorization()]);
        run.args(["--request-timeout", "60", "--suppress-health-check", "all"]).args(endless).args(only);
        let ran = finish(run);
        assert_eq!(ran.status, 0, "{}\n{}\n{}", ran.stdout, ran.stderr, server.stderr());
    }
}

/// Runs each `sh` block of the page against a host, and compares its answer with the `json` block behind it.
#[test]
fn the_examples_of_the_page_give_the_documents_that_stand_behind_them() {
    let page = fs::read_to_string(crate_dir("../docs/api.md")).unwrap();
    let server = Server::start(&[]);
    let dir = TempDir::new().unwrap();
    fs::copy(support::guest(Guest::Hello), dir.path().join("hello.bireme.wasm")).unwrap();
    let mut examples = 0;
    for block in page.split("```sh\n").skip(1) {
        let (script, rest) = block.split_once("```\n").unwrap();
        let Some(expected) = rest.trim_start().strip_prefix("```json\n") else { continue };
        let expected = expected.split_once("```").unwrap().0;
        let script = script.replace("127.0.0.1:8080", &server.address.to_string()).replace("curl ", "curl -sS --fail ");
        let answer = run_example(&script, dir.path());
        let (answered, expected): (Vec<_>, Vec<_>) = (documents(&answer), documents(expected));
        assert_eq!(answered.len(), expected.len(), "{script}\n{answer}");
        for (answered, expected) in answered.iter().zip(&expected) {
            assert_eq!(keys(answered), keys(expected), "{script}\n{answered}");
        }
        examples += 1;
    }
    assert!(examples >= 5, "the page has {examples} examples");
}

/// Header with the token, as the page's first block sets it.
fn authorization() -> String {
    format!("authorization: Bearer {}", support::TOKEN)
}

fn run_example(script: &str, dir: &Path) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).env("token", authorization()).current_dir(dir);
    let ran = finish(shell);
    assert_eq!(ran.status, 0, "{script}\n{ran:#?}");
    ran.stdout
}

fn documents(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}

/// Returns the names of a document's fields; of a line that wraps one document, with the fields of that.
fn keys(document: &Value) -> Vec<String> {
    let fields = document.as_object().unwrap();
    let within = |name: &String, value: &Value| match value.as_object() {
        Some(inner) if fields.len() == 1 => inner.keys().map(|key| format!("{name}.{key}")).collect(),
        _ => vec![name.clone()],
    };
    fields.iter().flat_map(|(name, value)| within(name, value)).collect()
}

#[test]
fn the_first_digits_of_an_id_name_a_call_or_a_map_if_one_has_them() {
    let server = Server::start(&[Guest::Hello]);
    let call = server.post("/api/v1/apps/hello/functions/square/calls?wait=30", "7").json();
    let id = call["id"].as_str().unwrap();
    // A map of the same moment does not count: the path says which of them is meant.
    let map = server.post("/api/v1/apps/hello/functions/square/maps", "").json();
    let found = server.get(&format!("/api/v1/calls/{}", &id[..8]));
    assert_eq!(found.json()["id"], id, "{found:#?}");
    assert_eq!(server.get(&format!("/api/v1/calls/{}/result", &id[..20])).body, "49");
    let map_id = map["id"].as_str().unwrap();
    let closed = server.post(&format!("/api/v1/maps/{}/close", &map_id[..20]), "");
    assert_eq!((closed.status, &closed.json()["id"]), (200, &map["id"]), "{closed:#?}");

    let check = |path: &str, status: u16, code: &str| {
        let reply = server.get(path);
        assert_eq!((reply.status, &reply.json()["code"]), (status, &Value::from(code)), "{reply:#?}");
    };
    check("/api/v1/calls/ffffffff", 404, "unknown-call");
    check("/api/v1/maps/ffffffff", 404, "unknown-map");
    check(&format!("/api/v1/calls/{}", &id[..7]), 400, "bad-query");
    // Two calls of the same 65 s have the first 8 digits in common, unless the second fell into the next span.
    let other = server.post("/api/v1/apps/hello/functions/square/calls", "8").json();
    if other["id"].as_str().unwrap()[..8] == id[..8] {
        check(&format!("/api/v1/calls/{}", &id[..8]), 400, "bad-query");
    }
}

#[test]
fn a_request_waits_for_the_end_of_a_map() {
    let server = Server::start(&[Guest::Hello]);
    let map = server.post("/api/v1/apps/hello/functions/square/maps", "").json();
    let path = format!("/api/v1/maps/{}", map["id"].as_str().unwrap());
    let open = server.get(&format!("{path}?wait=0.05")).json();
    assert_eq!(open["state"], "open");
    server.post(&format!("{path}/inputs"), "1\n2\n");
    server.post(&format!("{path}/close"), "");
    let ended = server.get(&format!("{path}?wait=60")).json();
    assert_eq!((&ended["state"], &ended["counts"]["done"]), (&Value::from("done"), &Value::from(2)));
}

/// A client of the feed: events as they come.
pub(crate) struct Feed {
    lines: std::io::Lines<BufReader<TcpStream>>,
    last: String,
}

impl Feed {
    pub(crate) fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let last = last.map(|last| format!("last-event-id: {last}\r\n")).unwrap_or_default();
        write!(
            stream,
            "GET /api/v1/events?{query} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{last}\r\n",
            support::TOKEN
        )
        .unwrap();
        let mut feed = Self { lines: BufReader::new(stream).lines(), last: String::new() };
        // The id of the feed's end comes at once.
        while feed.last.is_empty() {
            feed.line();
        }
        feed
    }

    fn line(&mut self) -> String {
        let line = self.lines.next().expect("the feed goes on").unwrap();
        if let Some(id) = line.strip_prefix("id: ") {
            self.last = id.to_owned();
        }
        line
    }

    /// Reads events until one passes.
    pub(crate) fn until(&mut self, passes: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line();
            if let Some(data) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(data).unwrap();
                if passes(&event) {
                    return event;
                }
            }
        }
    }
}

#[test]
fn one_feed_tells_of_calls_maps_apps_and_logs_and_goes_on_where_a_client_left_it() {
    let server = Server::start(&[]);
    let mut feed = Feed::open(&server, "", None);
    let component = fs::read(support::guest(Guest::Hello)).unwrap();
    let head = format!(
        "POST /api/v1/apps?accept=all HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
         application/wasm\r\ncontent-length: {}\r\n\r\n",
        component.len()
    );
    let deployed = support::exchange(server.address, &[head.as_bytes(), &component].concat());
    assert_eq!(deployed.status, 201, "{deployed:#?}");
    let app = feed.until(|event| event["kind"] == "app");
    assert_eq!((&app["data"]["app"], &app["data"]["record"]["action"]), (&"hello".into(), &"deploy".into()));

    let call = server.post("/api/v1/apps/hello/functions/whoami/calls?wait=30", "{}").json();
    let of_call = |event: &Value| event["kind"] == "call" && event["data"]["id"] == call["id"];
    assert_eq!(feed.until(of_call)["data"]["state"], "leased");
    let left = feed.last.clone();
    assert_eq!(feed.until(of_call)["data"]["state"], "done");
    let map = server.post("/api/v1/apps/hello/functions/square/maps", "2\n3\n").body;
    let map: Value = serde_json::from_str(map.lines().last().unwrap()).unwrap();
    let ended = feed.until(|event| event["kind"] == "map" && event["data"]["state"] == "done");
    assert_eq!((&ended["data"]["id"], &ended["data"]["counts"]["done"]), (&map["summary"]["id"], &2.into()));

    // Behind the first event of the call come the same ones again, the log line among them.
    let mut again = Feed::open(&server, "kind=call&kind=log&app=hello", Some(&left));
    let line = again.until(|event| event["kind"] == "log");
    assert_eq!((&line["data"]["message"], &line["data"]["call"]), (&"asked who I am".into(), &call["id"]));
    let mut again = Feed::open(&server, "kind=call", Some(&left));
    assert_eq!(again.until(|_| true)["data"]["state"], "done");
    let lost = Feed::open(&server, "", Some("01a20e64-a124-707d-9175-a92a41304ffb-7")).until(|_| true);
    assert_eq!(lost["kind"], "lost", "{lost}");
}
