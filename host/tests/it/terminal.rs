//! Commands on a terminal: progress, colours, groups of failures. `script` of util-linux gives them one.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Guest, Output, Server, bireme, command, data_without_models, file, finish, finish_with, fresh_data, function,
    shared_data,
};

/// A host with an app whose inputs take their time and fail.
struct Deck {
    data: TempDir,
    server: Server,
}

impl Deck {
    fn start() -> Self {
        let data = fresh_data();
        let server = Server::try_start(data.path(), &[Guest::Authored], &["--secret", "API_KEY=k"]);
        Self { server: server.unwrap_or_else(|output| panic!("no server: {output:#?}")), data }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(shared_data(), args);
        command.env("BIREME_HOST", self.server.address.to_string());
        command
    }

    #[track_caller]
    fn text(&self, args: &[&str]) -> String {
        let output = finish(self.command(args));
        assert_eq!(output.status, 0, "{output:#?}");
        output.stdout
    }

    fn maps(&self) -> Vec<Value> {
        self.server.get("/api/v1/calls?kind=map").json()["calls"].as_array().unwrap().clone()
    }
}

/// Runs a command on a terminal of 80 columns. None, and said so, where there is no `script`.
fn on_terminal(command: &Command) -> Option<Output> {
    let mut words = vec!["exec".to_owned()];
    words.extend(
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| shlex::try_quote(word.to_str().unwrap()).unwrap().into_owned()),
    );
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty cols 80 rows 24; {}", words.join(" ")), "/dev/null"]);
    script.env("TERM", "xterm-256color").env_remove("NO_COLOR").stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    if Command::new("script").arg("--version").output().is_err() {
        // Past the test harness, which shows nothing of a test that passes.
        let _ = std::io::stderr().write_all(b"skipped: needs `script` of util-linux\n");
        return None;
    }
    Some(finish(script))
}

const RED: &str = "\u{1b}[31m";

#[test]
fn progress_counts_what_is_done_behind_a_slow_first_input() {
    let deck = Deck::start();
    let inputs = file(&deck.data, "inputs.jsonl", format!("3000\n{}", "0\n".repeat(29)).as_bytes());
    let local = function(Guest::Authored, "nap");
    let here = command(shared_data(), &["map", "--secret", "API_KEY=k", &local, "--inputs", &inputs]);
    let address = deck.server.address.to_string();
    let there = deck.command(&["map", "authored::nap", "--host", &address, "--inputs", &inputs]);
    for command in [here, there] {
        let Some(output) = on_terminal(&command) else { return };
        assert_eq!(output.status, 0, "{output:#?}");
        assert!(output.stdout.contains("29 of 30 done"), "{output:#?}");
        assert!(output.stdout.contains("3000\r\n0\r\n"), "{output:#?}");
    }
}

#[test]
fn failed_inputs_stand_in_groups_with_their_inputs_on_a_terminal_alone() {
    let deck = Deck::start();
    let lines = "\"no room\"\n\"gone\"\n\"no room\"\n";
    let map = finish_with(deck.command(&["map", "authored::hopeless", "--detach"]), lines);
    let id = map.stdout.trim();
    deck.text(&["get", id, "--wait"]);
    let failed = deck.command(&["results", id, "--failed", "--follow"]);
    let lines: Vec<Value> =
        deck.text(&["results", id, "--failed"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["error"], json!({ "code": "terminal", "message": "gone" }));
    let Some(output) = on_terminal(&failed) else { return };
    assert!(output.stdout.contains(&format!("2 inputs: {RED}no room")), "{output:#?}");
    assert!(output.stdout.contains("       0  \"no room\"\r\n       2  \"no room\"\r\n1 input: "), "{output:#?}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let mut unknown = command(shared_data(), &["explain", "nothing"]);
    let Some(output) = on_terminal(&unknown) else { return };
    assert!(output.stdout.starts_with(&format!("{RED}\u{1b}[1merror[usage]:\u{1b}[0m no error has")), "{output:#?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        unknown.env(name, value);
        let output = on_terminal(&unknown).unwrap();
        assert!(output.stdout.starts_with("error[usage]: no error has"), "{name}: {output:#?}");
        unknown.env_remove(name);
        unknown.env("TERM", "xterm-256color");
    }
    let json = on_terminal(&command(shared_data(), &["--json", "explain", "nothing"])).unwrap();
    assert!(json.stdout.starts_with("{\"error\":{\"code\":\"usage\""), "{json:#?}");
    assert!(!bireme(&["explain", "nothing"]).stderr.contains('\u{1b}'));
}

#[test]
fn a_list_fits_the_terminal_and_its_ids_are_taken_by_every_command() {
    let deck = Deck::start();
    let args = ["map", "authored::slow_square", "--detach", "--inputs", "-"];
    let id = finish_with(deck.command(&args), "{\"n\":1,\"bad\":0}\n{\"n\":2,\"bad\":2}\n").stdout;
    deck.text(&["get", id.trim(), "--wait"]);
    let list = deck.text(&["ps"]);
    let row: Vec<&str> = list.lines().nth(1).unwrap().split("  ").collect();
    assert_eq!((row[1], row[2]), ("authored::slow_square", "done 1, failed 1"), "{list}");
    let short = row[0];
    assert!(short.len() < 20 && id.starts_with(short), "{list}");
    assert!(deck.text(&["get", short]).starts_with("1 of 2 done, 1 failed; cpu "));
    assert_eq!(deck.text(&["results", short, "--index", "0"]), "1\n");
    assert!(deck.text(&["results", short, "--failed"]).starts_with("{\"index\":1,"));
    assert_eq!(deck.text(&["export", short]).lines().count(), 2);
    assert!(deck.text(&["cancel", short]).starts_with("1 of 2 done"));
    assert_eq!(finish(deck.command(&["map", "--resume", short, "--keep-going"])).status, 1);
    // A state has the word that the list shows.
    assert_eq!(deck.text(&["ps", "--state", "done"]), list);
    assert_eq!(deck.text(&["ps", "--state", "failed"]), "");
    if let Some(output) = on_terminal(&deck.command(&["ps"])) {
        let text = console::strip_ansi_codes(&output.stdout).into_owned();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(output.stdout.contains(&format!("{RED}done 1, failed 1")), "{output:#?}");
    }
}

#[test]
fn a_status_is_no_error_while_a_call_runs() {
    let deck = Deck::start();
    let call = deck.text(&["spawn", "authored::nap", "600000"]);
    let call = call.trim();
    crate::support::wait_until("it runs", || {
        deck.server.get(&format!("/api/v1/calls/{call}")).json()["state"] == "leased"
    });
    let status = deck.text(&["get", call]);
    assert!(status.starts_with("running, attempt 1, for "), "{status}");
    let json: Value = serde_json::from_str(&deck.text(&["--json", "get", call])).unwrap();
    assert_eq!(json["state"], "leased");
    let waited = finish(deck.command(&["get", call, "--wait", "0.05"]));
    assert_eq!((waited.status, waited.stdout.as_str()), (5, ""), "{waited:#?}");
    assert!(waited.stderr.starts_with("error[timeout]: it has not ended: running, attempt 1"), "{waited:#?}");
    assert!(deck.text(&["ps", "--state", "running"]).contains("running"));
    deck.text(&["cancel", call]);
}

#[test]
fn a_map_without_readable_inputs_is_not_made() {
    let deck = Deck::start();
    let address = deck.server.address.to_string();
    let directory = deck.data.path().to_str().unwrap();
    for inputs in ["no such file", directory] {
        let output = finish(deck.command(&["map", "authored::nap", "--host", &address, "--inputs", inputs]));
        assert_ne!(output.status, 0, "{output:#?}");
        assert_eq!(deck.maps(), Vec::<Value>::new(), "{output:#?}");
    }
}

#[test]
fn logs_of_a_name_that_is_not_there_are_an_error_with_a_near_one() {
    let deck = Deck::start();
    let unknown = finish(deck.command(&["logs", "autored"]));
    assert_eq!((unknown.status, unknown.stdout.as_str()), (4, ""), "{unknown:#?}");
    assert!(unknown.stderr.starts_with("error[unknown-app]: no app `autored` is on "), "{unknown:#?}");
    assert!(unknown.stderr.contains("; did you mean `authored`?\n"), "{unknown:#?}");
    let unknown = finish(deck.command(&["logs", "authored", "--function", "flakey", "-f"]));
    assert_eq!(unknown.status, 4, "{unknown:#?}");
    let message = "error[unknown-function]: `authored` has no function `flakey`; did you mean `flaky`?\n";
    assert!(unknown.stderr.starts_with(message), "{unknown:#?}");
    assert_eq!(deck.text(&["logs", "authored", "--function", "flaky"]), "");
}

#[test]
fn options_of_a_command_may_follow_its_target() {
    let deck = Deck::start();
    let address = deck.server.address.to_string();
    // Nobody answers at the address that the environment names.
    let run = |args: &[&str]| {
        let mut command = command(shared_data(), args);
        command.env("BIREME_HOST", "127.0.0.1:1");
        finish(command)
    };
    let output = run(&["call", "authored::nap", "--ms", "1", "--host", &address, "--json", "-v"]);
    assert_eq!((output.status, &output.json()["result"]), (0, &json!(1)), "{output:#?}");
    let spawned = ["spawn", "authored::nap", "1", "--idempotency-key", "k", "--priority=low", "--host", &address];
    let (first, second) = (run(&spawned), run(&spawned));
    assert_eq!((first.status, &first.stdout), (0, &second.stdout), "{first:#?}");
    let call = deck.server.get(&format!("/api/v1/calls/{}", first.stdout.trim())).json();
    assert_eq!(call["priority"], "low");
    let wrong = run(&["call", "authored::nap", "1", "--host", &address, "--priority", "low"]);
    assert!(wrong.stderr.contains("`nap` has no parameter `priority`"), "{wrong:#?}");

    let data = data_without_models();
    let data = data.path().to_str().unwrap();
    let output = bireme(&["run", &function(Guest::Hello, "add"), "--a", "1", "--b", "2", "--data", data]);
    assert_eq!((output.status, output.stdout.as_str()), (0, "3\n"), "{output:#?}");
}
