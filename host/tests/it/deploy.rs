//! Versions on a host: deployed, kept, diffed, rolled back, stopped; and the logs of their calls.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bireme::app::metadata::Metadata;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Guest, Output, Process, Server, command, exchange, file, finish, fresh_data, guest, post, shared_data, wait_until,
};

/// A host and the commands that talk to it.
struct Deck {
    data: TempDir,
    server: Server,
}

impl Deck {
    fn start() -> Self {
        let data = fresh_data();
        let server = Server::start_over(data.path(), &[]);
        Self { data, server }
    }

    fn restart(&mut self) {
        assert_eq!(self.server.stop(), 0);
        self.server = Server::start_over(self.data.path(), &[]);
    }

    fn bireme(&self, args: &[&str]) -> Output {
        finish(self.command(args))
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = command(shared_data(), args);
        command.env("BIREME_HOST", self.server.address.to_string());
        command
    }

    /// Runs a command that must do well, and returns its JSON.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let output = self.bireme(&[&["--json"], args].concat());
        assert_eq!(output.status, 0, "{output:#?}");
        output.json()
    }

    /// Deploys and returns the version.
    #[track_caller]
    fn deploy(&self, component: &str) -> String {
        self.json(&["deploy", component, "--accept"])["version"].as_str().unwrap().to_owned()
    }

    fn greet(&self) -> (u16, Option<String>) {
        let reply = post(self.server.address, "/hello/greet", r#"{"name":"Ada"}"#);
        (reply.status, reply.header("bireme-version").map(str::to_owned))
    }
}

/// Writes a component that differs from `hello` in what it says of itself: another version of the app.
fn variant(dir: &TempDir, name: &str, outbound: &[&str]) -> String {
    let bytes = fs::read(guest(Guest::Hello)).unwrap();
    let mut metadata = Metadata::read(&bytes).unwrap();
    metadata.app.description = name.to_owned();
    metadata.functions[0].attributes.outbound = outbound.iter().map(|&origin| origin.to_owned()).collect();
    file(dir, format!("{name}.wasm"), &metadata.attach(Metadata::strip(&bytes)))
}

#[test]
fn versions_are_kept_over_restarts_and_one_can_go_back() {
    let mut deck = Deck::start();
    assert_eq!(deck.json(&["apps"]), json!({ "apps": [] }));
    let first = deck.deploy(guest(Guest::Hello));
    assert_eq!(deck.greet(), (200, Some(first.clone())));
    let other = variant(&deck.data, "other", &[]);
    let outcome = deck.json(&["deploy", &other, "-m", "another"]);
    assert_eq!((&outcome["previous"], &outcome["changed"]), (&json!(first), &json!(true)));
    let second = outcome["version"].as_str().unwrap().to_owned();
    assert_eq!(deck.json(&["deploy", &other])["changed"], false);

    deck.restart();
    assert_eq!(deck.greet(), (200, Some(second.clone())));
    let called = deck.json(&["call", "hello::greet", "--name", "Ada"]);
    assert_eq!((&called["result"], &called["version"]), (&json!("hello, Ada"), &json!(second)));
    assert_eq!(called["receipt"]["attempts"], 1);

    assert_eq!(deck.json(&["rollback", "hello"])["version"], json!(first));
    assert_eq!(deck.greet(), (200, Some(first.clone())));
    let history = deck.json(&["history", "hello"]);
    let records = history["records"].as_array().unwrap();
    let of = |key: &str| records.iter().map(|record| record[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("action"), ["rollback", "deploy", "deploy"]);
    assert_eq!(of("version"), [json!(first), json!(second), json!(first)]);
    assert_eq!(records[1]["message"], "another");
    assert_eq!(deck.json(&["rollback", "hello", "--to", &second[..5]])["version"], json!(second));

    assert_eq!(deck.json(&["stop", "hello"])["stopped"], json!(second));
    let reply = deck.server.post("/hello/greet", "{}");
    assert!(reply.status == 404 && reply.body.contains("`bireme start hello` starts it again"), "{reply:#?}");
    deck.restart();
    assert_eq!(deck.json(&["apps"])["apps"][0]["state"], "stopped");
    let again = deck.bireme(&["--json", "stop", "hello"]);
    assert_eq!((again.status, &again.json()["error"]["code"]), (1, &json!("app-stopped")));
    assert_eq!(deck.json(&["start", "hello"])["version"], json!(second));
    assert_eq!(deck.greet(), (200, Some(second.clone())));
    let again = deck.bireme(&["start", "hello"]);
    assert_eq!(again.status, 2, "{again:#?}");
    assert!(again.stderr.contains(&format!("hello {second} is live already")), "{again:#?}");
    assert_eq!(deck.bireme(&["start", "helo"]).status, 4);
}

#[test]
fn what_a_version_newly_declares_must_be_accepted() {
    let deck = Deck::start();
    let quiet = variant(&deck.data, "quiet", &[]);
    let curious = variant(&deck.data, "curious", &["$site", "https://example.com"]);
    let version = deck.deploy(&quiet);

    let refused = deck.bireme(&["deploy", &curious]);
    assert_eq!(refused.status, 1);
    for expected in ["+ outbound:$site", "+ outbound:https://example.com", "error[not-accepted]", "--accept"] {
        assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
    }
    assert_eq!(deck.greet(), (200, Some(version.clone())));
    let dry = deck.json(&["deploy", &curious, "--dry-run"]);
    assert_eq!(dry["added"], json!(["outbound:$site", "outbound:https://example.com"]));
    assert_eq!(deck.greet(), (200, Some(version)));

    // One of two is not all.
    let component = fs::read(&curious).unwrap();
    let half = upload(&deck, "/api/v1/apps?accept=outbound:$site", &component);
    assert_eq!((half.status, half.json()["added"].clone()), (409, dry["added"].clone()));
    let both = upload(&deck, "/api/v1/apps?accept=outbound:$site&accept=outbound:https://example.com", &component);
    assert_eq!(both.status, 201, "{both:#?}");

    let outcome = deck.json(&["deploy", &quiet]);
    assert_eq!((&outcome["added"], &outcome["removed"]), (&json!([]), &dry["added"]));
}

#[test]
fn a_bad_component_changes_nothing() {
    let deck = Deck::start();
    let version = deck.deploy(guest(Guest::Hello));
    let whole = fs::read(guest(Guest::Hello)).unwrap();
    let mut reserved = Metadata::read(&whole).unwrap();
    reserved.app.name = bireme::ids::AppName::new("api").unwrap();
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("junk", b"not wasm".to_vec(), "bad-component"),
        ("core", b"\0asm\x01\0\0\0".to_vec(), "bad-component"),
        ("cut", whole[..whole.len() / 2].to_vec(), "bad-app"),
        ("empty", b"\0asm\x0d\0\x01\0".to_vec(), "bad-component"),
        ("reserved", reserved.attach(Metadata::strip(&whole)), "bad-app"),
    ];
    for (name, bytes, code) in cases {
        let reply = upload(&deck, "/api/v1/apps?accept=all", &bytes);
        assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some(code)), "{name}: {reply:#?}");
        assert_eq!(deck.greet(), (200, Some(version.clone())), "{name}");
    }
    let reply = upload(&deck, "/api/v1/apps?acept=all", &whole);
    assert_eq!(reply.json()["code"], "bad-query");
    assert!(reply.body.contains("did you mean `accept`?"), "{}", reply.body);
    assert_eq!(deck.json(&["history", "hello"])["records"].as_array().unwrap().len(), 1);
}

#[test]
fn a_component_that_was_changed_on_disk_costs_its_app_alone() {
    let mut deck = Deck::start();
    let first = deck.deploy(guest(Guest::Hello));
    deck.deploy(&variant(&deck.data, "other", &[]));
    deck.deploy(guest(Guest::Hostile));
    let live = deck.json(&["history", "hello"])["records"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(deck.server.stop(), 0);
    let path = deck.data.path().join("apps").join(live).with_extension("wasm");
    let mut bytes = fs::read(&path).unwrap();
    bytes[1_000] ^= 1;
    fs::write(&path, bytes).unwrap();

    deck.server = Server::start_over(deck.data.path(), &[]);
    let apps = deck.json(&["apps"]);
    assert_eq!((&apps["apps"][0]["state"], &apps["apps"][1]["state"]), (&json!("failed"), &json!("live")));
    assert!(apps["apps"][0]["reason"].as_str().unwrap().contains("digest"), "{apps}");
    assert_eq!(deck.greet().0, 404);
    assert_eq!(deck.json(&["rollback", "hello"])["version"], json!(first));
    assert_eq!(deck.greet(), (200, Some(first)));
}

#[test]
fn no_call_fails_while_versions_are_swapped() {
    let deck = Deck::start();
    let (one, two) = (variant(&deck.data, "one", &[]), variant(&deck.data, "two", &[]));
    let versions = [deck.deploy(&one), deck.deploy(&two)];
    let stop = Arc::new(AtomicBool::new(false));
    let address = deck.server.address;
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let reply = post(address, "/hello/greet", r#"{"name":"Ada"}"#);
                    assert_eq!((reply.status, reply.body.as_str()), (200, "\"hello, Ada\""));
                    seen.push(reply.header("bireme-version").unwrap().to_owned());
                }
                seen
            })
        })
        .collect();
    for component in [&one, &two, &one, &two, &one] {
        deck.deploy(component);
        assert_eq!(deck.greet().0, 200);
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let seen = caller.join().unwrap();
        assert!(seen.iter().all(|version| versions.contains(version)));
    }
    // What changes at once is made one after the other.
    let both: Vec<Process> = [&one, &two]
        .map(|component| {
            let mut deploy = deck.command(&["deploy", component]);
            Process(deploy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        })
        .into_iter()
        .collect();
    both.into_iter().for_each(|mut deploy| assert_eq!(deploy.wait(), 0));
    let history = deck.json(&["history", "hello"]);
    let numbers: Vec<u64> =
        history["records"].as_array().unwrap().iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1] + 1), "{numbers:?}");
}

#[test]
fn grants_of_an_app_stay_until_others_are_given() {
    let deck = Deck::start();
    let with = |args: &[&str]| {
        deck.json(&[&["deploy", guest(Guest::Hostile), "--accept"], args].concat());
        deck.json(&["apps"])["apps"][0]["grants"].clone()
    };
    assert_eq!(with(&[]), json!([]));
    let site = "site=http://127.0.0.1:9";
    assert_eq!(with(&["--grant", site]), json!([site]));
    assert_eq!(with(&[]), json!([site]));
    assert_eq!(with(&["--grant", ""]), json!([]));
    let bad = deck.bireme(&["deploy", guest(Guest::Hostile), "--accept", "--grant", "site=nowhere"]);
    assert!(bad.stderr.contains("error[config]") && bad.stderr.contains("site=nowhere"), "{}", bad.stderr);
}

#[test]
fn logs_are_filtered_and_followed_to_the_end_of_the_host() {
    let mut deck = Deck::start();
    deck.deploy(guest(Guest::Hello));
    deck.deploy(guest(Guest::Hostile));
    let mut follow = deck.command(&["logs", "hostile", "-f", "--level", "error"]);
    let mut follow = Process(follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut followed = BufReader::new(follow.0.stdout.take().unwrap()).lines();

    // The follower may connect at any time: what it asks for is kept.
    let panicked = deck.server.post("/hostile/panics", r#"{"message":"no more oars"}"#);
    assert_eq!(panicked.status, 502);
    let line = followed.next().unwrap().unwrap();
    assert!(
        line.contains(" error  ") && line.contains(" hostile::panics: ") && line.contains("failed [crashed]"),
        "{line}"
    );
    assert!(line.contains("no more oars (hostile/src/resources.rs:"), "{line}");

    let logs = |args: &[&str]| {
        let output = deck.bireme(&[&["--json", "logs"], args].concat());
        assert_eq!(output.status, 0, "{output:#?}");
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let call = panicked.header("bireme-call").unwrap();
    let system = logs(&["--call", call, "--source", "system"]);
    assert_eq!((system.len(), &system[0]["app"], &system[0]["call"]), (1, &json!("hostile"), &json!(call)));
    assert_eq!(system[0]["version"], json!(panicked.header("bireme-version").unwrap()));
    assert!(!logs(&["--search", "OARS", "--since", "1h"]).is_empty());
    assert!(logs(&["hello"]).is_empty());
    assert!(logs(&["--until", "1h"]).is_empty());
    assert_eq!(logs(&["hostile", "-n", "1"]).len(), 1);

    let slow = std::thread::spawn({
        let address = deck.server.address;
        move || {
            exchange(address, b"GET /api/v1/logs?level=loud HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        }
    });
    assert_eq!(slow.join().unwrap().status, 400);

    // A stream without an end does not hold the host up.
    assert_eq!(deck.server.stop(), 0);
    assert!(followed.next().is_none());
    assert_eq!(follow.wait(), 0);

    deck.server = Server::start_over(deck.data.path(), &[]);
    let kept = deck.bireme(&["--json", "logs", "--call", call, "--source", "system"]);
    assert!(kept.stdout.contains("no more oars"), "a restart keeps them: {kept:#?}");
}

#[test]
fn without_a_host_the_next_step_is_named() {
    let mut apps = command(shared_data(), &["apps"]);
    // Port 1 is nobody's.
    let output = finish({
        apps.env("BIREME_HOST", "127.0.0.1:1");
        apps
    });
    assert_eq!(output.status, 69);
    assert!(output.stderr.contains("error[no-host]") && output.stderr.contains("bireme serve"), "{}", output.stderr);
    let output = finish(command(shared_data(), &["history", "a/b", "--host", "http://127.0.0.1:1"]));
    assert_eq!(output.status, 2, "{output:#?}");
}

#[test]
fn an_app_on_the_command_line_stands_in_for_the_deployed_one() {
    let data = fresh_data();
    let deployed = {
        let server = Server::start_over(data.path(), &[]);
        let deck = Deck { data, server };
        let version = deck.deploy(&variant(&deck.data, "deployed", &[]));
        let Deck { data, mut server } = deck;
        assert_eq!(server.stop(), 0);
        (data, version)
    };
    let (data, version) = deployed;
    let live = |server: &Server| {
        let reply = server.post("/hello/greet", r#"{"name":"Ada"}"#);
        reply.header("bireme-version").unwrap().to_owned()
    };
    let mut given = Server::start_over(data.path(), &[Guest::Hello]);
    assert_ne!(live(&given), version);
    wait_until("it is said", || given.stderr().contains("in the place of the deployed `hello`"));
    assert_eq!(given.stop(), 0);
    let again = Server::start_over(data.path(), &[]);
    assert_eq!(live(&again), version);
    assert!(Path::new(data.path()).join("apps").is_dir());
}

/// Sends a component as a client of the API would.
fn upload(deck: &Deck, path: &str, component: &[u8]) -> crate::support::Reply {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/wasm\r\ncontent-length: {}\r\n\r\n",
        component.len()
    );
    exchange(deck.server.address, &[head.as_bytes(), component].concat())
}
