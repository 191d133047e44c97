//! Calls and maps that survive: accepted, run, retried, cancelled, resumed, over the death of a host.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Guest, Output, Process, Reply, Server, command, file, finish, finish_with, fresh_data, shared_data, wait_until,
};

/// A host that can be killed, and the commands that talk to it.
struct Deck {
    data: TempDir,
    server: Server,
}

impl Deck {
    fn start() -> Self {
        let data = fresh_data();
        let server = serve(data.path(), &[]);
        Self { data, server }
    }

    fn kill(&mut self) {
        self.server.process.signal(Signal::KILL);
        self.server.process.wait();
    }

    fn restart(&mut self) {
        self.server = serve(self.data.path(), &[]);
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = command(shared_data(), args);
        command.env("BIREME_HOST", self.server.address.to_string());
        command
    }

    fn bireme(&self, args: &[&str]) -> Output {
        finish(self.command(args))
    }

    /// Runs a command that must do well, and returns what it printed.
    #[track_caller]
    fn text(&self, args: &[&str]) -> String {
        let output = self.bireme(args);
        assert_eq!(output.status, 0, "{output:#?}");
        output.stdout.trim().to_owned()
    }

    #[track_caller]
    fn spawn(&self, function: &str, input: &str) -> String {
        self.text(&["spawn", &format!("authored::{function}"), input])
    }

    fn of_call(&self, id: &str) -> Value {
        self.server.get(&format!("/api/v1/calls/{id}")).json()
    }

    fn of_map(&self, id: &str) -> Value {
        self.server.get(&format!("/api/v1/maps/{id}")).json()
    }

    fn wait_for(&self, id: &str, state: &str) {
        wait_until(state, || self.of_call(id)["state"] == state);
    }

    /// Makes a map of these lines without waiting for it.
    fn detached(&self, function: &str, lines: &str) -> String {
        let function = format!("authored::{function}");
        let output = finish_with(self.command(&["map", &function, "--detach"]), lines);
        assert_eq!(output.status, 0, "{output:#?}");
        output.stdout.trim().to_owned()
    }

    /// Sends a request with headers of its own.
    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let length = body.len();
        self.server.exchange(&format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    /// Nothing runs, waits or is held.
    fn is_idle(&self) -> bool {
        let list = self.server.get("/api/v1/calls").json();
        list["live"] == json!([]) && list["waiting"] == 0 && list["maps"] == 0
    }
}

/// Serves the app that the calls are of.
#[track_caller]
fn serve(data: &Path, more: &[&str]) -> Server {
    let more = [more, &["--secret", "API_KEY=k"]].concat();
    Server::try_start(data, &[Guest::Authored], &more).unwrap_or_else(|output| panic!("no server: {output:#?}"))
}

const SPAWN: &str = "/api/v1/apps/authored/functions/flaky/calls";

#[test]
fn a_spawned_call_is_tried_again_and_says_what_became_of_each_attempt() {
    let deck = Deck::start();
    let id = deck.spawn("flaky", "2");
    assert_eq!(deck.text(&["get", &id, "--wait"]), "3");
    let call = deck.of_call(&id);
    assert_eq!((&call["state"], &call["attempts"], &call["output"]), (&json!("done"), &json!(3), &json!(3)), "{call}");
    assert_eq!(call["receipt"]["attempts"], 3);
    let failed = call["failed_attempts"].as_array().unwrap();
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[1]["failure"]["message"], "attempt 2 fails");

    // More failures than retries, and a failure that no retry mends.
    let id = deck.spawn("flaky", "9");
    let output = deck.bireme(&["get", &id, "--wait"]);
    assert_eq!(output.status, 1, "{output:#?}");
    assert!(output.stderr.contains("attempt 4 fails"), "{output:#?}");
    let call = deck.of_call(&id);
    assert_eq!((&call["state"], &call["attempts"]), (&json!("dead"), &json!(4)));
    let id = deck.spawn("hopeless", "\"no\"");
    assert_eq!(deck.bireme(&["get", &id, "--wait"]).status, 1);
    let call = deck.of_call(&id);
    assert_eq!((&call["state"], &call["attempts"]), (&json!("failed"), &json!(1)));

    let listed = deck.text(&["--json", "ps", "--function", "authored::flaky", "--state", "dead"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["calls"].as_array().unwrap().len(), 1, "{listed}");
    assert!(deck.is_idle());
}

#[test]
fn calls_and_maps_of_the_control_api_have_the_operator_as_their_principal() {
    let deck = Deck::start();
    let (call, map) = (deck.spawn("flaky", "0"), deck.detached("slow_square", "1\n2\n"));
    assert_eq!(deck.of_call(&call)["principal"], "operator");
    assert_eq!(deck.of_map(&map)["principal"], "operator");
    let list = deck.server.get("/api/v1/calls").json();
    let principals: Vec<&Value> = list["calls"].as_array().unwrap().iter().map(|call| &call["principal"]).collect();
    assert_eq!(principals, ["operator", "operator"]);
}

#[test]
fn a_request_that_is_sent_twice_with_one_key_is_one_call() {
    let deck = Deck::start();
    let key = "idempotency-key: \"k-1\"\r\ncontent-type: application/json\r\n";
    let first = deck.request("POST", SPAWN, key, "0");
    assert_eq!(first.status, 202, "{first:#?}");
    let id = first.json()["id"].clone();
    assert_eq!(first.header("location").unwrap(), format!("/api/v1/calls/{}", id.as_str().unwrap()));
    assert_eq!(deck.request("POST", SPAWN, key, "0").json()["id"], id);
    let other = deck.request("POST", SPAWN, key, "1");
    assert_eq!((other.status, &other.json()["code"]), (422, &json!("key-reused")));
    // Another function's key is another key.
    let nap = deck.request("POST", "/api/v1/apps/authored/functions/nap/calls", key, "0");
    assert_ne!(nap.json()["id"], id);
    let long = format!("idempotency-key: {}\r\n", "k".repeat(300));
    assert_eq!(deck.request("POST", SPAWN, &long, "0").status, 400);
}

#[test]
fn a_client_may_wait_for_the_result_and_has_it_in_the_answer() {
    let deck = Deck::start();
    let reply = deck.request("POST", SPAWN, "prefer: wait=30\r\n", "1");
    assert_eq!((reply.status, &reply.json()["output"]), (200, &json!(2)), "{reply:#?}");
    assert_eq!(reply.header("preference-applied"), Some("wait"));
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    let result = deck.server.get(&format!("/api/v1/calls/{id}/result"));
    assert_eq!((result.status, result.body.as_str()), (200, "2"));
    assert_eq!(deck.server.get(&format!("/api/v1/calls/{id}/input")).body, "1");

    let reply = deck.request("POST", "/api/v1/apps/authored/functions/nap/calls", "prefer: wait=0.05\r\n", "60000");
    assert_eq!((reply.status, &reply.json()["state"]), (202, &json!("leased")));
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(deck.server.get(&format!("/api/v1/calls/{id}/result")).status, 202);
    assert!(deck.text(&["get", &id]).starts_with("running, attempt 1"));
    assert_eq!(deck.text(&["cancel", &id]), "cancelled");

    for (path, status) in [
        ("/api/v1/calls/nonsense", 400),
        ("/api/v1/calls/0199c0de-0000-7000-8000-000000000000", 404),
        ("/api/v1/maps/0199c0de-0000-7000-8000-000000000000", 404),
        ("/api/v1/calls?state=odd", 400),
    ] {
        assert_eq!(deck.server.get(path).status, status, "{path}");
    }
    assert_eq!(deck.bireme(&["get", "0199c0de-0000-7000-8000-000000000000"]).status, 4);
}

#[test]
fn a_call_is_cancelled_wherever_it_is() {
    let deck = Deck::start();
    let running = deck.spawn("nap_alone", "600000");
    deck.wait_for(&running, "leased");
    let queued = deck.spawn("nap_alone", "600000");
    let in_backoff = deck.spawn("patient", "{}");
    deck.wait_for(&in_backoff, "waiting");
    assert_eq!(deck.of_call(&queued)["state"], "accepted");
    for id in [&queued, &in_backoff, &running] {
        assert_eq!(deck.text(&["cancel", id]), "cancelled", "{id}");
        assert_eq!(deck.of_call(id)["state"], "cancelled");
    }
    // Once is enough, and what has ended stays as it was.
    assert_eq!(deck.text(&["cancel", &running]), "cancelled");
    let done = deck.spawn("flaky", "0");
    deck.text(&["get", &done, "--wait"]);
    assert_eq!(deck.text(&["cancel", &done]), "it had ended before: done");
    wait_until("all places to be free", || deck.is_idle());
    // The function's only place is free again.
    assert_eq!(deck.text(&["get", &deck.spawn("nap_alone", "1"), "--wait"]), "1");
}

#[test]
fn what_was_accepted_outlives_its_host() {
    let mut deck = Deck::start();
    let running = deck.spawn("nap_alone", "600000");
    deck.wait_for(&running, "leased");
    let queued: Vec<String> = (0..3).map(|n| deck.spawn("nap_alone", &n.to_string())).collect();
    let in_backoff = deck.spawn("patient", "{}");
    deck.wait_for(&in_backoff, "waiting");
    let next = deck.of_call(&in_backoff)["next_ms"].clone();
    deck.kill();
    deck.restart();
    assert!(deck.server.stderr().contains("going on with 5 calls"), "{}", deck.server.stderr());
    wait_until("it to begin again", || deck.of_call(&running)["attempts"] == 2);
    let call = deck.of_call(&running);
    assert_eq!((&call["state"], &call["lost"]), (&json!("leased"), &json!(1)), "{call}");
    assert_eq!(deck.text(&["cancel", &running]), "cancelled");
    for (n, id) in queued.iter().enumerate() {
        assert_eq!(deck.text(&["get", id, "--wait"]), n.to_string());
        assert_eq!(deck.of_call(id)["attempts"], 1);
    }
    let call = deck.of_call(&in_backoff);
    assert_eq!((&call["state"], &call["next_ms"]), (&json!("waiting"), &next));

    // A host that is stopped lets calls under way finish.
    let last = deck.spawn("nap", "200");
    deck.wait_for(&last, "leased");
    assert_eq!(deck.server.stop(), 0);
    deck.restart();
    assert_eq!(deck.text(&["get", &last]), "200");
    assert_eq!(deck.of_call(&last)["attempts"], 1);
}

#[test]
fn more_calls_than_the_queue_holds_run_once_each_in_their_order() {
    let mut deck = Deck::start();
    let path = "/api/v1/apps/authored/functions/nap_alone/calls";
    let spawn = |deck: &Deck| deck.request("POST", path, "", "0").json()["id"].as_str().unwrap().to_owned();
    let waiting = |deck: &Deck| deck.server.get("/api/v1/calls").json()["waiting"].clone();
    let running = deck.spawn("nap_alone", "600000");
    deck.wait_for(&running, "leased");
    // 256 of a function wait in memory, the others on disk alone.
    let mut ids: Vec<String> = (0..400).map(|_| spawn(&deck)).collect();
    assert_eq!(waiting(&deck), 400);
    assert_eq!(deck.text(&["cancel", &ids.pop().unwrap()]), "cancelled");
    assert_eq!(deck.text(&["cancel", &ids.remove(0)]), "cancelled");
    deck.kill();
    deck.restart();
    wait_until("it to begin again", || deck.of_call(&running)["attempts"] == 2);
    ids.push(spawn(&deck));
    assert_eq!(waiting(&deck), 399);
    assert_eq!(deck.text(&["cancel", &running]), "cancelled");
    wait_until("all to end", || deck.is_idle());
    let calls: Vec<Value> = ids.iter().map(|id| deck.of_call(id)).collect();
    assert!(calls.iter().all(|call| call["state"] == "done" && call["attempts"] == 1), "{calls:?}");
    assert!(calls.iter().map(|call| call["ended_ms"].as_u64().unwrap()).is_sorted());
}

fn squares(n: u64) -> String {
    (0..n).map(|n| format!("{{\"n\":{n},\"bad\":0}}\n")).collect()
}

#[test]
fn a_map_goes_on_when_its_host_is_killed_again_and_again() {
    let mut deck = Deck::start();
    let n = 2_000;
    let id = deck.detached("slow_square", &squares(n));
    let mut before = Vec::new();
    for kill in 1..=3 {
        wait_until("some results", || deck.of_map(&id)["counts"]["done"].as_u64().unwrap() >= kill * 200);
        let results = deck.server.get(&format!("/api/v1/maps/{id}/results")).body;
        before.push(results);
        deck.kill();
        deck.restart();
    }
    let output = deck.bireme(&["results", &id, "--follow"]);
    let results: Vec<u64> = output.stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(results, (0..n).map(|n| n * n).collect::<Vec<_>>());
    let map = deck.of_map(&id);
    assert_eq!(map["state"], "done");
    assert_eq!((&map["counts"]["accepted"], &map["counts"]["done"]), (&json!(n), &json!(n)));

    // What was shown before a kill is what is there after it.
    let after = deck.server.get(&format!("/api/v1/maps/{id}/results")).body;
    let after: Vec<Value> = after.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in before.iter().flat_map(|text| text.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(index) = line["index"].as_u64() {
            assert_eq!(after[usize::try_from(index).unwrap()], line);
        }
    }
    // Each input was tried once for each host that it met, at most.
    assert!(after.iter().filter_map(|line| line["attempt"].as_u64()).all(|attempt| attempt <= 4));
    assert_eq!(deck.text(&["results", &id, "--index", "41"]), "1681");
    wait_until("nothing to be left", || deck.is_idle());
}

#[test]
fn an_attached_map_waits_for_its_host_to_come_back() {
    let mut deck = Deck::start();
    let inputs = file(&deck.data, "inputs.jsonl", squares(1_500).as_bytes());
    let address = deck.server.address.to_string();
    let mut map = deck.command(&["map", "authored::slow_square", "--host", &address, "--inputs", &inputs]);
    let child = map.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("some results", || {
        let list = deck.server.get("/api/v1/calls?kind=map").json();
        list["calls"][0]["counts"]["done"].as_u64().unwrap_or(0) > 100
    });
    deck.kill();
    // At the address that the command knows.
    deck.server = serve(deck.data.path(), &["--listen", &address]);
    let output = child.wait_with_output().unwrap();
    let results: Vec<u64> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(results, (0..1_500).map(|n| n * n).collect::<Vec<_>>());
    assert!(output.status.success());
}

#[test]
fn a_wait_for_a_call_or_a_map_goes_on_with_the_next_host() {
    let mut deck = Deck::start();
    let address = deck.server.address.to_string();
    let map = deck.detached("slow_square", &squares(1_500));
    let call = deck.spawn("nap_alone", "1000");
    let waits = [&map, &call].map(|id| {
        let mut get = deck.command(&["get", id, "--wait"]);
        get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    wait_until("some results", || deck.of_map(&map)["counts"]["done"].as_u64().unwrap_or(0) > 100);
    // In order, so that waits are answered before their end.
    deck.server.process.signal(Signal::TERM);
    deck.server.process.wait();
    deck.server = serve(deck.data.path(), &["--listen", &address]);
    let [of_map, of_call] = waits.map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(of_map.starts_with("1,500 of 1,500 done"), "{of_map}");
    assert_eq!(of_call, "1000\n");
}

#[test]
fn a_prefix_names_a_call_or_a_map_unless_both_have_it() {
    let deck = Deck::start();
    // The first digits are the time: of ids that are made one after the other, they are the same.
    let both = (0..3).find_map(|_| {
        let (call, map) = (deck.spawn("flaky", "0"), deck.detached("flaky", "0\n1\n"));
        (call[..8] == map[..8]).then_some((call, map))
    });
    let (call, map) = both.expect("the first digits change once a minute");
    let refused = deck.bireme(&["cancel", &call[..8]]);
    assert_eq!(refused.status, 2, "{refused:#?}");
    assert!(refused.stderr.contains(&call) && refused.stderr.contains(&map), "{refused:#?}");

    let prefix = |id: &str| id[..id.len() - 1].to_owned();
    assert_eq!(deck.text(&["get", &prefix(&call), "--wait"]), "1");
    assert!(deck.text(&["get", &prefix(&map), "--wait"]).starts_with("2 of 2 done"));
    assert_eq!(deck.text(&["results", &prefix(&map)]), "1\n2");
    assert_eq!(deck.text(&["results", &prefix(&map), "--index", "1"]), "2");
    assert_eq!(deck.text(&["map", "--resume", &prefix(&map)]), "1\n2");
    assert_eq!(deck.text(&["cancel", &prefix(&call)]), "it had ended before: done");
    let unknown = deck.bireme(&["get", "0197c0de-0000"]);
    assert_eq!(unknown.status, 4, "{unknown:#?}");
    assert!(unknown.stderr.starts_with("error[unknown-call]"), "{unknown:#?}");
}

#[test]
fn a_map_that_was_left_is_gone_on_with() {
    let deck = Deck::start();
    let inputs = file(&deck.data, "inputs.jsonl", squares(3_000).as_bytes());
    let address = deck.server.address.to_string();
    let args = ["map", "authored::slow_square", "--host", &address, "--inputs", &inputs];
    let child = deck.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut process = Process(child);
    let mut id = String::new();
    wait_until("some results", || {
        let list = deck.server.get("/api/v1/calls?kind=map").json();
        id = list["calls"][0]["id"].as_str().unwrap_or_default().to_owned();
        list["calls"][0]["counts"]["done"].as_u64().unwrap_or(0) > 100
    });
    process.signal(Signal::INT);
    assert_eq!(process.wait(), 130);
    let mut stderr = String::new();
    std::io::Read::read_to_string(process.0.stderr.as_mut().unwrap(), &mut stderr).unwrap();
    assert!(stderr.contains(&format!("bireme map --resume {id}")), "{stderr}");

    let output = deck.bireme(&["map", "--resume", &id, "--inputs", &inputs]);
    assert_eq!(output.status, 0, "{output:#?}");
    assert_eq!(output.stdout.lines().count(), 3_000);
    assert_eq!(output.stdout.lines().last(), Some("8994001"));

    // On request Ctrl-C cancels.
    let args = [&args[..], &["--cancel-on-interrupt"]].concat();
    let child = deck.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut process = Process(child);
    wait_until("some results", || {
        let list = deck.server.get("/api/v1/calls?kind=map&state=live").json();
        list["calls"][0]["counts"]["done"].as_u64().unwrap_or(0) > 100
    });
    process.signal(Signal::INT);
    assert_eq!(process.wait(), 130);
    let map = &deck.server.get("/api/v1/calls?kind=map").json()["calls"][0];
    assert_eq!(map["state"], "cancelled", "{map}");
    let count = |name: &str| map["counts"][name].as_u64().unwrap();
    assert_eq!(count("done") + count("cancelled"), count("accepted"));
    wait_until("nothing to be left", || deck.is_idle());

    // What was cancelled can be run after all.
    let id = map["id"].as_str().unwrap();
    let accepted = count("accepted");
    let output = deck.bireme(&["map", "--retry-failed", id]);
    assert_eq!(output.status, 0, "{output:#?}");
    assert_eq!(output.stdout.lines().count() as u64, accepted);
}

#[test]
fn failed_inputs_are_told_apart_and_run_again() {
    let deck = Deck::start();
    let lines: String = (1..=50).map(|n| format!("{{\"n\":{n},\"bad\":10}}\n")).collect();
    let address = deck.server.address.to_string();
    let run = |more: &[&str]| {
        let args = ["map", "authored::slow_square", "--host", &address];
        finish_with(deck.command(&[&args[..], more].concat()), &lines)
    };
    let output = run(&["--keep-going"]);
    assert_eq!(output.status, 1, "{output:#?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 50);
    let failed: Value = serde_json::from_str(lines[9]).unwrap();
    assert_eq!(failed, json!({ "error": { "code": "terminal", "message": "10 is bad", "index": 9 } }));
    let map = deck.server.get("/api/v1/calls?kind=map").json()["calls"][0].clone();
    let id = map["id"].as_str().unwrap();
    assert_eq!((&map["counts"]["done"], &map["counts"]["failed"]), (&json!(45), &json!(5)));
    assert!(output.stderr.contains(&format!("bireme map --retry-failed {id}")), "{output:#?}");
    let failed = deck.text(&["results", id, "--failed"]);
    let indexes: Vec<u64> =
        failed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [9, 19, 29, 39, 49]);

    // They fail again, and everything else stays as it was.
    let output = deck.bireme(&["map", "--retry-failed", id, "--keep-going"]);
    assert_eq!(output.status, 1, "{output:#?}");
    assert_eq!(output.stdout.lines().count(), 50);
    let again = deck.of_map(id);
    assert_eq!((&again["counts"]["done"], &again["counts"]["failed"]), (&json!(45), &json!(5)));
    // The receipts add up: every attempt of both rounds.
    assert_eq!(again["receipt"]["attempts"], 55);
}

#[test]
fn outcomes_and_calls_are_exported() {
    let deck = Deck::start();
    let map = deck.detached("flaky", "0\n\"x\"\n1\n");
    deck.text(&["get", &deck.spawn("flaky", "0"), "--wait"]);
    wait_until("the map to end", || deck.of_map(&map)["state"] == "done");
    let lines = deck.text(&["export", &map]);
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[2]["output"], &rows[2]["attempt"]), (&json!("2"), &json!(2)), "{rows:?}");
    assert_eq!((&rows[1]["output"], &rows[1]["error_code"]), (&Value::Null, &json!("invalid-input")));
    let path = deck.data.path().join("calls.parquet");
    let written = deck.text(&["--json", "export", "-o", path.to_str().unwrap()]);
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap()["rows"], 2);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    assert_eq!(deck.bireme(&["export", &map, "--format", "parquet"]).status, 2);
}

#[test]
fn inputs_and_results_stream_both_ways() {
    let deck = Deck::start();
    let path = "/api/v1/apps/authored/functions/flaky/maps?order=completion";
    let reply = deck.request("POST", path, "content-type: application/x-ndjson\r\n", "0\n1\n\n\"x\"\n2");
    assert_eq!(reply.status, 201, "{reply:#?}");
    let lines: Vec<Value> = reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut outcomes: Vec<_> = lines.iter().filter(|line| line["index"].is_u64()).collect();
    outcomes.sort_by_key(|line| line["index"].as_u64());
    assert_eq!(outcomes.len(), 4, "{reply:#?}");
    assert_eq!((&outcomes[1]["output"], &outcomes[1]["attempt"]), (&json!(2), &json!(2)));
    assert_eq!(outcomes[2]["error"]["code"], "invalid-input");
    assert_eq!(lines[0]["map"]["state"], "open");
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!((&summary["state"], &summary["counts"]["retried"]), (&json!("done"), &json!(3)), "{summary}");

    // In pieces: each says where it begins, so that it can be sent twice, but not out of order.
    let made = deck.request("POST", "/api/v1/apps/authored/functions/flaky/maps", "", "");
    assert_eq!(made.status, 201);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let append =
        |from: u64, lines: &str| deck.request("POST", &format!("/api/v1/maps/{id}/inputs?from={from}"), "", lines);
    assert_eq!(append(0, "0\n0\n").json()["accepted"], 2);
    assert_eq!(append(1, "0\n1\n").json()["accepted"], 3);
    let gap = append(5, "0\n");
    assert_eq!((gap.status, &gap.json()["code"], &gap.json()["accepted"]), (409, &json!("input-gap"), &json!(3)));
    assert_eq!(deck.server.post(&format!("/api/v1/maps/{id}/retry-failed"), "").status, 409);
    assert_eq!(deck.server.post(&format!("/api/v1/maps/{id}/close"), "").status, 200);
    assert_eq!(append(3, "0\n").status, 409);
    wait_until("the map to end", || deck.of_map(&id)["state"] == "done");
    assert_eq!(deck.server.get(&format!("/api/v1/maps/{id}/results/2")).json()["output"], 2);
    assert_eq!(deck.server.get(&format!("/api/v1/maps/{id}/results/3")).status, 404);
    assert_eq!(deck.server.get(&format!("/api/v1/maps/{id}/inputs/2")).json()["input"], 1);
}

#[test]
fn large_outputs_pass_through_the_journal_in_bounded_memory() {
    let mut deck = Deck::start();
    let id = deck.detached("text_of", &"1000000\n".repeat(400));
    wait_until("the map to end", || deck.of_map(&id)["state"] == "done");
    deck.server.stop();
    deck.restart();
    let output = deck.bireme(&["results", &id]);
    assert_eq!(output.stdout.lines().filter(|line| line.len() == 1_000_002).count(), 400, "{}", output.stderr);
    let peak = crate::support::peak_bytes(deck.server.process.pid());
    assert!(peak < 300 << 20, "{} MiB", peak >> 20);
}

#[test]
fn what_has_ended_is_kept_as_long_as_was_asked_for() {
    let mut deck = Deck::start();
    let ended = deck.spawn("flaky", "0");
    deck.text(&["get", &ended, "--wait"]);
    let map = deck.detached("flaky", "0\n0\n");
    wait_until("the map to end", || deck.of_map(&map)["state"] == "done");
    let open = deck.spawn("patient", "{}");
    deck.wait_for(&open, "waiting");
    let restart = |data: &Path, keep: &str| serve(data, &["--keep", keep]);
    deck.server.stop();
    deck.server = restart(deck.data.path(), "1h");
    assert_eq!(deck.text(&["get", &ended]), "1");
    deck.server.stop();
    deck.server = restart(deck.data.path(), "1h,authored=0s");
    wait_until("what has ended to go", || {
        deck.server.get("/api/v1/calls").json()["calls"].as_array().unwrap().len() == 1
    });
    assert_eq!(deck.bireme(&["get", &ended]).status, 4);
    assert_eq!(deck.bireme(&["results", &map]).status, 4);
    assert_eq!(deck.of_call(&open)["state"], "waiting");
    let refused = Server::try_start(fresh_data().path(), &[], &["--keep", "soon"]).err().unwrap();
    assert_eq!(refused.status, 2);
    assert!(fs::exists(deck.data.path().join("store.redb")).unwrap());
}

#[test]
fn ps_lists_and_then_prints_each_change() {
    let deck = Deck::start();
    let before = deck.spawn("flaky", "0");
    deck.wait_for(&before, "done");
    let mut command = deck.command(&["--json", "ps", "--follow", "--kind", "call"]);
    let mut follow = Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let lines = BufReader::new(follow.0.stdout.take().unwrap()).lines();
    let mut entries = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut is_next =
        |id: &str, state: &str| entries.next().is_some_and(|entry| entry["id"] == id && entry["state"] == state);
    assert!(is_next(&before, "done"), "the list comes first");
    let call = deck.spawn("flaky", "0");
    assert!(is_next(&call, "leased") && is_next(&call, "done"));
}
