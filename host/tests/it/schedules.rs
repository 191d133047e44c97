//! Schedules: paused, resumed, run by hand, and over every way in which a host may end.

use std::fs;

use bireme::app::metadata::{Metadata, Schedule};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Feed;
use crate::support::{Guest, Output, Server, command, file, finish, fresh_data, guest, shared_data, wait_until};

/// A host over a data directory that outlives it.
struct Deck {
    data: TempDir,
    server: Server,
}

impl Deck {
    /// Starts a host and deploys an app `clock` whose functions have these schedules.
    fn start(schedules: &[(&str, Value)]) -> Self {
        let data = fresh_data();
        let server = Server::start_over(data.path(), &[]);
        let deck = Self { data, server };
        let component = clock(&deck.data, schedules);
        let output = deck.bireme(&["deploy", &component, "--accept"]);
        assert_eq!(output.status, 0, "{output:#?}");
        deck
    }

    fn restart(&mut self) {
        assert_eq!(self.server.stop(), 0);
        self.server = Server::start_over(self.data.path(), &[]);
    }

    /// Ends the host as a power cut would, and starts another.
    fn crash(&mut self) {
        self.server.process.signal(Signal::KILL);
        self.server.process.wait();
        self.server = Server::start_over(self.data.path(), &[]);
    }

    fn bireme(&self, args: &[&str]) -> Output {
        let mut command = command(shared_data(), args);
        command.env("BIREME_HOST", self.server.address.to_string());
        finish(command)
    }

    #[track_caller]
    fn schedule(&self, args: &[&str]) -> Value {
        let output = self.bireme(&[&["--json", "schedule"], args].concat());
        assert_eq!(output.status, 0, "{output:#?}");
        output.json()
    }

    fn history(&self, function: &str) -> Vec<Value> {
        self.schedule(&["history", &format!("clock::{function}")])["history"].as_array().unwrap().clone()
    }
}

/// Writes the hostile guest as an app of another name, with these schedules in its description.
fn clock(dir: &TempDir, schedules: &[(&str, Value)]) -> String {
    clock_with(dir, schedules, 0)
}

/// The same, with retries.
fn clock_with(dir: &TempDir, schedules: &[(&str, Value)], retries: u32) -> String {
    let bytes = fs::read(guest(Guest::Hostile)).unwrap();
    let mut metadata = Metadata::read(&bytes).unwrap();
    metadata.app.name = bireme::ids::AppName::new("clock").unwrap();
    for (name, schedule) in schedules {
        let function = metadata.functions.iter_mut().find(|function| function.name.as_str() == *name).unwrap();
        function.attributes.schedule = Some(serde_json::from_value::<Schedule>(schedule.clone()).unwrap());
        // Longer than any test, and so is the wait between two attempts.
        function.attributes.timeout_ms = Some(600_000);
        let retries = json!({ "max": retries, "initial_ms": 600_000, "max_delay_ms": 600_000 });
        function.attributes.retries = serde_json::from_value(retries).unwrap();
    }
    file(dir, "clock.wasm", &metadata.attach(Metadata::strip(&bytes)))
}

fn is(outcome: &str) -> impl Fn(&&Value) -> bool {
    move |run: &&Value| run["outcome"] == outcome
}

/// Due on the first day of a year: never, to a test.
fn yearly(missed: &str) -> Value {
    json!({ "cron": "0 0 1 1 *", "tz": "Europe/Stockholm", "missed": missed })
}

#[test]
fn a_schedule_is_paused_resumed_and_run_by_hand_over_restarts() {
    let every_second = json!({ "period_ms": 1_000 });
    let mut deck = Deck::start(&[("looks_around", every_second.clone()), ("exits", yearly("skip"))]);
    let done = |deck: &Deck| deck.history("looks_around").iter().filter(is("done")).count();
    wait_until("it ran twice", || done(&deck) >= 2);
    let first = deck.history("looks_around").last().unwrap().clone();
    assert_eq!((&first["number"], &first["times"]), (&json!(1), &json!(1)));
    assert!(first["call"].is_string() && first["ended_ms"].as_u64() >= first["started_ms"].as_u64(), "{first}");

    let listed = deck.bireme(&["schedule", "list", "clock"]).stdout;
    assert!(listed.contains("clock::looks_around") && listed.contains("every 1s"), "{listed}");
    assert!(listed.contains("at 00:00, on day 1, in January (Europe/Stockholm)"), "{listed}");
    assert!(listed.contains("days)") && listed.contains("not yet"), "{listed}");

    let mut feed = Feed::open(&deck.server, "kind=schedule", None);
    assert_eq!(deck.schedule(&["pause", "clock::looks_around"])["paused"], true);
    let paused = feed.until(|event| event["data"]["paused"] == true);
    assert_eq!((&paused["kind"], &paused["data"]["function"]), (&json!("schedule"), &json!("looks_around")));
    drop(feed);
    wait_until("the last run has ended", || deck.schedule(&["list"])["schedules"][1]["running"] == 0);
    let history = deck.history("looks_around");
    // An ended run is put on record before the host ends.
    deck.restart();
    assert_eq!(deck.history("looks_around"), history);
    let listed = deck.schedule(&["list"]);
    assert_eq!((&listed["schedules"][1]["paused"], &listed["schedules"][1]["next_ms"]), (&json!(true), &json!(null)));
    assert_eq!(deck.schedule(&["list", "other"]), json!({ "schedules": [] }));

    let call = deck.schedule(&["run-now", "clock::looks_around"])["call"].clone();
    let by_hand = |run: &Value| run["call"] == call && run["due_ms"].is_null() && run["outcome"] == "done";
    wait_until("it ran by hand", || by_hand(&deck.history("looks_around")[0]));
    deck.schedule(&["run-now", "clock::exits"]);
    wait_until("its failure is told", || deck.history("exits")[0]["code"] == "crashed");
    let shown = deck.bireme(&["schedule", "history", "clock::exits"]).stdout;
    assert!(shown.contains("by hand") && shown.contains("failed [crashed]"), "{shown}");

    // Another version with the same times keeps what the operator did.
    let component = clock(&deck.data, &[("looks_around", every_second)]);
    assert_eq!(deck.bireme(&["deploy", &component, "--accept"]).status, 0);
    assert_eq!(deck.schedule(&["list"])["schedules"].as_array().unwrap().len(), 1);
    assert_eq!(deck.schedule(&["list"])["schedules"][0]["paused"], true);
    let before = done(&deck);
    assert_eq!(deck.schedule(&["resume", "clock::looks_around"])["paused"], false);
    wait_until("it goes on", || done(&deck) > before);
    let missed = deck.history("looks_around").iter().any(|run| run["why"] == "missed");
    assert!(!missed, "nothing is missed in a pause");
}

#[test]
fn what_a_crash_cuts_off_is_told_and_made_up_for_where_that_is_asked_for() {
    // It spins until the host ends.
    let mut deck = Deck::start(&[("spin", yearly("run_once"))]);
    deck.schedule(&["run-now", "clock::spin"]);
    let again = deck.bireme(&["--json", "schedule", "run-now", "clock::spin"]);
    assert_eq!((again.status, &again.json()["error"]["code"]), (1, &json!("already-running")));
    deck.crash();
    let history = deck.history("spin");
    assert_eq!((history.len(), &history[0]["outcome"]), (1, &json!("interrupted")), "{history:?}");

    let component = clock(&deck.data, &[("spin", json!({ "period_ms": 1_000, "missed": "run_once" }))]);
    assert_eq!(deck.bireme(&["deploy", &component, "--accept"]).status, 0);
    wait_until("it began", || deck.history("spin").iter().any(|run| run["outcome"] == "running"));
    let begun = deck.history("spin").iter().find(|run| run["outcome"] == "running").unwrap().clone();
    deck.crash();
    let made_up = |run: &&Value| {
        let (from, due) = (run["from_ms"].as_u64(), begun["due_ms"].as_u64());
        run["outcome"] == "running" && from == due
    };
    wait_until("it is made up for", || deck.history("spin").iter().any(|run| made_up(&run)));
    let history = deck.history("spin");
    let cut_off = history.iter().find(|run| run["number"] == begun["number"]).unwrap();
    assert_eq!(cut_off["outcome"], "interrupted");
    assert_eq!(history.iter().filter(is("running")).count(), 1);
}

#[test]
fn what_has_no_schedule_is_told_apart_from_what_is_not_there() {
    let deck = Deck::start(&[("exits", yearly("skip"))]);
    let check = |target: &str, status: i32, code: &str, words: &str| {
        let output = deck.bireme(&["--json", "schedule", "pause", target]);
        let error = &output.json()["error"];
        assert_eq!((output.status, error["code"].as_str()), (status, Some(code)), "{output:#?}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    };
    check("clock::spin", 4, "not-scheduled", "`clock::spin` has no schedule");
    check("clock::exit", 4, "unknown-function", "did you mean `exits`?");
    check("clok::exits", 4, "unknown-app", "did you mean `clock`?");
    check("exits", 2, "usage", "is not APP::FUNCTION");
    let get = |path: &str| deck.server.get(&format!("/api/v1/schedules{path}"));
    assert_eq!(get("/clock/exits").json()["history"], json!([]));
    assert_eq!((get("/clock/exits/run").status, get("/clock/exits/run").header("allow")), (405, Some("POST")));
    assert_eq!(get("/clock/exits/stop").status, 404);
    assert_eq!(get("?ap=clock").json()["code"], "bad-query");
    let run = deck.server.post("/api/v1/schedules/clock/exits/run", "");
    assert_eq!((run.status, run.json()["call"].is_string()), (202, true));
}

/// A host that serves `clock` and is killed at a fail point: `NAME@N`. Returns once it is dead.
fn killed_at(data: &TempDir, component: &str, point: &str) {
    let mut command = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0", component]);
    command.env("BIREME_FAIL_POINT", point);
    // It may die before it listens.
    if let Ok(mut server) = Server::spawn(command, data.path()) {
        server.process.wait();
    }
}

/// Serves `clock` over what a dead host has left, until some run is done.
fn next_host(data: TempDir, component: &str) -> Deck {
    let server = Server::try_start(data.path(), &[], &[component]).unwrap_or_else(|output| panic!("{output:#?}"));
    let deck = Deck { data, server };
    let first = deck.history("looks_around").len();
    wait_until("another run is done", || {
        let history = deck.history("looks_around");
        history.len() > first.max(1) && history[0]["outcome"] == "done"
    });
    deck
}

/// The runs of a history by number, without those that were skipped.
fn runs(history: &[Value]) -> Vec<&Value> {
    let mut runs: Vec<&Value> = history.iter().filter(|run| run["outcome"] != "skipped").collect();
    runs.sort_by_key(|run| run["number"].as_u64());
    runs
}

#[test]
fn a_host_killed_around_a_run_leaves_exactly_the_runs_that_its_schedule_promises() {
    // On disk and not begun; over in the guest, and not on disk; on disk.
    let points = [
        ("journal.advance.after@2", "interrupted"),
        ("journal.settle.before@1", "interrupted"),
        ("journal.settle.after@1", "done"),
    ];
    for missed in ["skip", "run_once"] {
        for (point, outcome) in points {
            let data = fresh_data();
            let component = clock(&data, &[("looks_around", json!({ "period_ms": 1_000, "missed": missed }))]);
            killed_at(&data, &component, point);
            let deck = next_host(data, &component);
            let history = deck.history("looks_around");
            let runs = runs(&history);
            let case = format!("{missed}, {point}: {history:#?}");
            assert_eq!((&runs[0]["number"], &runs[0]["outcome"]), (&json!(1), &json!(outcome)), "{case}");
            let is_again = |run: &&&Value| run["from_ms"].as_u64() <= runs[0]["due_ms"].as_u64();
            let made_up = u64::from(missed == "run_once" && outcome == "interrupted");
            assert_eq!(runs[1..].iter().filter(is_again).count() as u64, made_up, "{case}");
            if made_up == 1 {
                assert_eq!(runs[1]["interruptions"], 1, "{case}");
            }
            // Each run is one call, and each call one attempt.
            let calls = deck.server.get("/api/v1/calls?app=clock").json()["calls"].clone();
            assert!(calls.as_array().unwrap().iter().all(|call| call["attempts"] == 1), "{case}\n{calls:#}");
            let call = deck.server.get(&format!("/api/v1/calls/{}", runs[0]["call"].as_str().unwrap())).json();
            let state = if outcome == "done" { "done" } else { "dead" };
            assert_eq!(
                (&call["state"], call["function"].as_str()),
                (&json!(state), Some("clock::looks_around")),
                "{call:#}"
            );
        }
    }
}

#[test]
fn a_run_that_ends_its_host_each_time_is_made_up_for_three_times() {
    let data = fresh_data();
    let component = clock(&data, &[("looks_around", json!({ "period_ms": 1_000, "missed": "run_once" }))]);
    killed_at(&data, &component, "journal.advance.after@2");
    for _ in 0..3 {
        // Its first commit ends the run before and begins the one that makes up for it.
        killed_at(&data, &component, "journal.advance.after@1");
    }
    let deck = next_host(data, &component);
    let history = deck.history("looks_around");
    let runs = runs(&history);
    let interruptions: Vec<&Value> = runs[..4].iter().map(|run| &run["interruptions"]).collect();
    assert_eq!(interruptions, [0, 1, 2, 3], "{history:#?}");
    assert!(runs[..4].iter().all(|run| run["outcome"] == "interrupted"), "{history:#?}");
    assert!(runs[4]["from_ms"].as_u64() > runs[3]["due_ms"].as_u64(), "{history:#?}");
}

#[test]
fn a_run_is_a_call_that_can_be_found_and_cancelled() {
    let deck = Deck::start(&[("spin", yearly("skip"))]);
    let call = deck.schedule(&["run-now", "clock::spin"])["call"].as_str().unwrap().to_owned();
    let listed = deck.bireme(&["--json", "ps", "--function", "clock::spin"]).stdout;
    assert!(listed.contains(&call), "{listed}");
    assert_eq!(deck.bireme(&["cancel", &call]).status, 0);
    let history = deck.history("spin");
    assert_eq!((&history[0]["outcome"], &history[0]["code"]), (&json!("failed"), &json!("cancelled")), "{history:?}");
    // The schedule knows that it has ended.
    wait_until("it may run again", || deck.bireme(&["schedule", "run-now", "clock::spin"]).status == 0);
}

#[test]
fn a_run_cut_off_between_two_attempts_is_interrupted_and_its_history_outlives_its_call() {
    let data = fresh_data();
    let component = clock_with(&data, &[("exits", yearly("skip"))], 1);
    let mut deck = Deck { server: Server::start_over(data.path(), &[]), data };
    assert_eq!(deck.bireme(&["deploy", &component, "--accept"]).status, 0);
    let call = deck.schedule(&["run-now", "clock::exits"])["call"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/calls/{call}");
    wait_until("it waits for its second attempt", || deck.server.get(&path).json()["state"] == "waiting");
    assert_eq!(deck.history("exits")[0]["outcome"], "running");
    deck.crash();
    assert_eq!(deck.history("exits")[0]["outcome"], "interrupted");
    let ended = deck.server.get(&path).json();
    assert_eq!((&ended["state"], &ended["attempts"]), (&json!("dead"), &json!(1)), "{ended:#}");

    assert_eq!(deck.server.stop(), 0);
    let more = ["--keep", "0s"];
    deck.server = Server::try_start(deck.data.path(), &[], &more).unwrap_or_else(|output| panic!("{output:#?}"));
    wait_until("the call is deleted", || deck.server.get(&path).status == 404);
    let history = deck.history("exits");
    assert_eq!((history.len(), &history[0]["call"]), (1, &json!(call)), "{history:?}");
}

#[test]
fn a_panic_of_the_host_over_a_run_ends_it() {
    let data = fresh_data();
    let component = clock_with(&data, &[("looks_around", yearly("run_once"))], 1);
    let mut command = command(data.path(), &["--json", "serve", "--listen", "127.0.0.1:0", &component]);
    command.env("BIREME_PANIC_POINT", "durable.leased@1");
    let server = Server::spawn(command, data.path()).unwrap_or_else(|output| panic!("{output:#?}"));
    let deck = Deck { data, server };
    deck.schedule(&["run-now", "clock::looks_around"]);
    wait_until("it has ended", || deck.history("looks_around")[0]["code"] == "unavailable");
    // Once, though it has retries left, and the next run is free.
    deck.schedule(&["run-now", "clock::looks_around"]);
    wait_until("the next is done", || deck.history("looks_around")[0]["outcome"] == "done");
    assert_eq!(deck.history("looks_around").len(), 2);
}
