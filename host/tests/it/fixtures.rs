//! Data directories that real hosts left, in every state that there is, opened by this one.
//!
//! `fixtures/README.md` says which host wrote them and how. Nothing depends on the date: rows are kept for 100 years.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Reply, Server, fresh_data, wait_until};

/// The app that wrote the rows.
const APP: &str = "states";

/// Returns the directory of the fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Returns a copy of a data directory, with the components that all of them share.
pub(crate) fn data_of(name: &str) -> TempDir {
    let data = fresh_data();
    unpack(&fixtures().join("apps"), &data.path().join("apps"));
    unpack(&fixtures().join(name), data.path());
    data
}

/// Unpacks every file of a directory that is packed.
fn unpack(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            unpack(&path, &to.join(name));
        } else if let Some(name) = name.strip_suffix(".gz") {
            let mut bytes = Vec::new();
            GzDecoder::new(File::open(&path).unwrap()).read_to_end(&mut bytes).unwrap();
            fs::write(to.join(name), bytes).unwrap();
        }
    }
}

/// Starts a host that deletes nothing for its age.
#[track_caller]
fn serve(data: &Path) -> Server {
    Server::try_start(data, &[], &["--keep", "36500d"]).unwrap_or_else(|output| panic!("no server: {output:#?}"))
}

/// Starts a host that lacks the component of the rows' app, so that nothing runs, and puts the component back.
#[track_caller]
fn serve_without_the_app(data: &Path, version: &str) -> Server {
    let is_of_app = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(version);
    let component =
        fs::read_dir(data.join("apps")).unwrap().map(|entry| entry.unwrap().path()).find(is_of_app).unwrap();
    let away = data.join("component");
    fs::rename(&component, &away).unwrap();
    let server = serve(data);
    fs::rename(&away, &component).unwrap();
    server
}

/// What the host that wrote `states-2` told of it before it was killed.
fn expected() -> Value {
    let text = fs::read_to_string(fixtures().join("states-2/expected.json")).unwrap();
    with_texts(serde_json::from_str(&text).unwrap())
}

/// Returns a document with the long texts of which only the length was noted.
fn with_texts(value: Value) -> Value {
    match value {
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("text_bytes") => {
            text_of(fields["text_bytes"].as_u64().unwrap())
        }
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, with_texts(value))).collect(),
        Value::Array(items) => items.into_iter().map(with_texts).collect(),
        value => value,
    }
}

fn text_of(bytes: u64) -> Value {
    Value::from("x".repeat(usize::try_from(bytes).unwrap()))
}

/// Checks that `actual` has all that `expected` has; it may have more fields.
#[track_caller]
fn has_all(actual: &Value, expected: &Value) {
    fn first_difference(actual: &Value, expected: &Value, path: &str) -> Option<String> {
        match (actual, expected) {
            (Value::Object(actual), Value::Object(expected)) => expected.iter().find_map(|(name, expected)| {
                first_difference(actual.get(name).unwrap_or(&Value::Null), expected, &format!("{path}/{name}"))
            }),
            (Value::Array(actual), Value::Array(expected)) if actual.len() == expected.len() => {
                let pairs = actual.iter().zip(expected).enumerate();
                pairs.into_iter().find_map(|(i, (a, e))| first_difference(a, e, &format!("{path}/{i}")))
            }
            _ if actual == expected => None,
            _ => Some(format!("at `{path}` is {actual:.200?} in place of {expected:.200?}")),
        }
    }
    if let Some(difference) = first_difference(actual, expected, "") {
        panic!("{difference}\n{actual:#}");
    }
}

/// Returns the version of the rows' app, which is the same in all directories.
fn app_version(expected: &Value) -> String {
    let app = expected["apps"].as_array().unwrap().iter().find(|app| app["name"] == APP).unwrap();
    text(app, "version").to_owned()
}

fn rows(expected: &Value) -> &[Value] {
    expected["rows"].as_array().unwrap()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn is_map(row: &Value) -> bool {
    row["kind"] == "map"
}

/// Whether something more will happen to a call or map.
fn is_open(row: &Value) -> bool {
    matches!(text(row, "state"), "accepted" | "leased" | "waiting" | "open" | "running")
}

/// Returns the path of a call or map.
fn path(row: &Value) -> String {
    format!("/api/v1/{}s/{}", text(row, "kind"), text(row, "id"))
}

/// Returns the function's name without its app.
fn function(row: &Value) -> &str {
    text(row, "function").split("::").last().unwrap()
}

#[track_caller]
fn request(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    server.exchange(&format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
}

#[track_caller]
fn ok(reply: Reply) -> Value {
    assert!(matches!(reply.status, 200..=202), "{reply:#?}");
    reply.json()
}

#[track_caller]
fn call(server: &Server, function: &str, input: &Value) -> Value {
    ok(server.post(&format!("/{APP}/{function}"), &input.to_string()))
}

/// Returns the outcomes of a map, by index, as one stream tells them.
fn results(server: &Server, row: &Value) -> Vec<Value> {
    let body = server.get(&format!("{}/results", path(row))).body;
    let lines = body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["index"].is_u64()).collect()
}

/// Checks a call or map, its inputs and its outcomes.
#[track_caller]
fn check_row(server: &Server, row: &Value) {
    let path = path(row);
    let mut document = row.clone();
    let fields = document.as_object_mut().unwrap();
    let (input, inputs, outcomes) = (fields.remove("input"), fields.remove("inputs"), fields.remove("results"));
    has_all(&ok(server.get(&path)), &document);
    if let Some(input) = input {
        assert_eq!(server.get(&format!("{path}/input")).json(), input);
    }
    if row["state"] == "done" && !is_map(row) {
        assert_eq!(server.get(&format!("{path}/result")).json(), row["output"]);
    }
    let Some((inputs, outcomes)) = inputs.zip(outcomes) else { return };
    let (inputs, outcomes) = (inputs.as_array().unwrap().clone(), outcomes.as_array().unwrap().clone());
    has_all(&json!(results(server, row)), &json!(outcomes));
    let by_index: BTreeMap<u64, &Value> =
        outcomes.iter().map(|outcome| (outcome["index"].as_u64().unwrap(), outcome)).collect();
    // Each by itself, of a long map some.
    let step = inputs.len() / 20 + 1;
    for (index, input) in (0..).zip(inputs).step_by(step) {
        assert_eq!(ok(server.get(&format!("{path}/inputs/{index}")))["input"], input);
        let reply = server.get(&format!("{path}/results/{index}"));
        match by_index.get(&index) {
            Some(outcome) => has_all(&ok(reply), outcome),
            None if is_open(row) => assert_eq!(reply.status, 202, "{reply:#?}"),
            None => assert_eq!(row["state"], "cancelled"),
        }
    }
}

/// Returns what becomes of a call that has not ended: its output, or the code of its failure.
fn outcome(function: &str, input: &Value, attempt: &Value) -> Result<Value, &'static str> {
    match function {
        "double" | "double_behind" | "double_alone" | "wait_behind" => match input["n"].as_u64().unwrap() {
            n if n > 1_000 => Err("terminal"),
            n => Ok(json!(n * 2)),
        },
        "text_behind" => Ok(text_of(input["bytes"].as_u64().unwrap())),
        "patient" if input["failures"].as_u64() < attempt.as_u64() => Ok(attempt.clone()),
        "patient" => Err("failed"),
        other => panic!("no call of `{other}` was left open"),
    }
}

#[test]
fn every_row_is_there_as_it_was_left() {
    let expected = expected();
    let data = data_of("states-2");
    let server = serve_without_the_app(data.path(), &app_version(&expected));

    let states: BTreeMap<String, String> = server.get("/api/v1/apps").json()["apps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|app| (text(app, "name").to_owned(), text(app, "state").to_owned()))
        .collect();
    let as_text = |(name, state): (&String, &String)| format!("{name} {state}");
    assert_eq!(
        states.iter().map(as_text).collect::<Vec<_>>(),
        ["csv-etl stopped", "docs-search failed", "feed-scraper failed", "hello live", "states failed"]
    );
    let reason = |app: &str| text(&server.get(&format!("/api/v1/apps/{app}")).json(), "detail").to_owned();
    assert!(reason("docs-search").contains("could not be restored"), "{}", reason("docs-search"));
    assert!(reason("feed-scraper").contains("its digest is another"), "{}", reason("feed-scraper"));
    for (app, records) in expected["histories"].as_object().unwrap() {
        has_all(&server.get(&format!("/api/v1/apps/{app}/history")).json()["records"], records);
    }

    // Every state of a call and of a map is among them.
    let count = |kind: &str, state: &str| {
        let is_counted = |row: &&Value| row["kind"] == kind && row["state"] == state;
        rows(&expected).iter().filter(is_counted).count()
    };
    for state in ["accepted", "leased", "waiting", "done", "failed", "dead", "cancelled"] {
        assert!(count("call", state) > 0, "no call is {state}");
    }
    for state in ["open", "running", "done", "cancelled"] {
        assert!(count("map", state) > 0, "no map is {state}");
    }
    let listed = |query: &str| -> Vec<Value> {
        let listed = server.get(&format!("/api/v1/calls?limit=1000{query}")).json();
        listed["calls"].as_array().unwrap().iter().rev().map(|row| row["id"].clone()).collect()
    };
    let ids = |is_wanted: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        rows(&expected).iter().filter(|row| is_wanted(row)).map(|row| row["id"].clone()).collect()
    };
    assert_eq!(listed(""), ids(&|_| true));
    assert_eq!(listed("&state=live"), ids(&is_open));
    assert_eq!(listed("&kind=map&state=done"), ids(&|row| is_map(row) && row["state"] == "done"));
    assert_eq!(listed(&format!("&app={APP}")), ids(&|_| true));
    assert_eq!(listed("&function=states::double"), ids(&|row| row["function"] == "states::double"));
    for row in rows(&expected) {
        check_row(&server, row);
    }
    let open = server.get("/api/v1/calls").json();
    assert_eq!((&open["live"], &open["maps"]), (&json!([]), &json!(ids(&|row| is_map(row) && is_open(row)).len())));
}

#[test]
fn what_was_left_open_reaches_its_end_with_the_right_results() {
    let expected = expected();
    let data = data_of("states-2");
    let mut server = serve(data.path());

    // What clients knew: values, log lines, and keys that mean the same call or map.
    for (bucket, kept) in expected["kept"].as_object().unwrap() {
        assert_eq!(call(&server, "kept", &json!({ "bucket": bucket })), *kept);
    }
    assert_eq!(ok(server.post("/hello/count", r#"{"key":"oars"}"#)), 4);
    assert!(server.get("/api/v1/logs?app=states").body.contains("a value is kept"));
    let keyed = |row: &Value, input: &str| {
        let key = format!("idempotency-key: {}\r\n", text(row, "idempotency_key"));
        let path = format!("/api/v1/apps/{APP}/functions/{}/{}s", function(row), text(row, "kind"));
        request(&server, "POST", &path, &format!("{key}content-type: application/json\r\n"), input)
    };
    let mut keys = 0;
    for row in rows(&expected).iter().filter(|row| row["idempotency_key"].is_string()) {
        let input = if is_map(row) { String::new() } else { row["input"].to_string() };
        let reply = keyed(row, &input);
        assert_eq!(reply.json()["id"], row["id"], "{reply:#?}");
        if !is_map(row) {
            assert_eq!(keyed(row, "{}").status, 422);
        }
        keys += 1;
    }
    assert!(keys > 9, "{keys}");

    // What nobody opens a gate for is cancelled, with what it has spawned before and after the kill.
    let is_dropped = |row: &Value| function(row) == "wait_behind" && row["input"]["gate"] == "never" && is_open(row);
    let dropped = rows(&expected).iter().find(|row| is_dropped(row)).unwrap();
    let is_cancelled = |row: &Value| is_dropped(row) || row["parent"] == dropped["id"];
    assert_eq!(rows(&expected).iter().filter(|row| is_cancelled(row)).count(), 2);
    assert_eq!(ok(request(&server, "DELETE", &path(dropped), "", ""))["state"], "cancelled");

    // Maps that take inputs still do.
    call(&server, "open_gate", &json!({ "gate": "later" }));
    let open: Vec<&Value> = rows(&expected).iter().filter(|row| row["state"] == "open").collect();
    assert_eq!(open.len(), 3);
    for row in &open {
        // The last that it has is sent again.
        let mut lines: Vec<String> = row["inputs"].as_array().unwrap().iter().map(Value::to_string).collect();
        let (accepted, from) = (lines.len(), lines.len().saturating_sub(1));
        let input = if function(row) == "double" { json!({ "n": 11 }) } else { json!({ "gate": "later", "n": 11 }) };
        lines.push(input.to_string());
        let appended = server.post(&format!("{}/inputs?from={from}", path(row)), &lines[from..].join("\n"));
        assert_eq!(ok(appended)["accepted"], accepted + 1);
        assert_eq!(ok(server.post(&format!("{}/close", path(row)), ""))["closed"], true);
    }

    wait_until("everything has ended", || {
        let live = server.get("/api/v1/calls?state=live").json();
        live["calls"].as_array().unwrap().iter().all(is_scheduled)
    });
    for row in rows(&expected) {
        match is_map(row) {
            _ if is_cancelled(row) => assert_eq!(server.get(&path(row)).json()["state"], "cancelled"),
            _ if !is_open(row) => check_row(&server, row),
            true => check_ended_map(&server, row),
            false => check_ended_call(&server, row),
        }
    }
    // A call that was tried again has spawned again; both calls have ended, and are its own.
    let waited = rows(&expected).iter().find(|row| row["idempotency_key"] == "call-leased").unwrap();
    let children = |function: &str| {
        let path = format!("/api/v1/calls?limit=1000&state=done&function=states::{function}");
        let listed = server.get(&path).json();
        listed["calls"].as_array().unwrap().iter().filter(|row| row["parent"] == waited["id"]).count()
    };
    assert_eq!(children("double_behind"), 2);

    // What died runs again when it is asked to.
    let is_dead = |row: &&Value| is_map(row) && row["counts"]["dead"] == 1 && !is_open(row);
    let dead = rows(&expected).iter().find(is_dead).unwrap();
    assert_eq!(ok(server.post(&format!("{}/retry-failed", path(dead)), ""))["retried"], 1);
    wait_until("it died again", || server.get(&path(dead)).json()["state"] == "done");
    has_all(&server.get(&path(dead)).json()["counts"], &json!({ "accepted": 4, "done": 3, "dead": 1 }));

    // And all of it is on disk. A host that is stopped waits for calls under way, so what is scheduled ends first.
    call(&server, "open_gate", &json!({ "gate": "slow-ticks" }));
    assert_eq!(server.stop(), 0);
    server = serve(data.path());
    assert!(!server.stderr().contains("going on with"), "{}", server.stderr());
    for row in rows(&expected).iter().filter(|row| is_open(row) && !is_cancelled(row)) {
        if is_map(row) { check_ended_map(&server, row) } else { check_ended_call(&server, row) }
    }
}

/// Checks a call that was open, by what its function does.
#[track_caller]
fn check_ended_call(server: &Server, row: &Value) {
    let now = ok(server.get(&path(row)));
    let attempts = row["attempts"].as_u64().unwrap();
    let lost = u64::from(row["state"] == "leased");
    let more = json!({
        "attempts": attempts + 1,
        "accepted_ms": row["accepted_ms"],
        "parent": row["parent"],
        "priority": row["priority"],
        "idempotency_key": row["idempotency_key"],
        "depth": row["depth"],
    });
    has_all(&now, &more);
    assert_eq!(now["lost"].as_u64().unwrap_or_default(), lost, "{now:#}");
    match outcome(function(row), &row["input"], &now["attempts"]) {
        Ok(output) => assert_eq!((&now["state"], &now["output"]), (&json!("done"), &output)),
        Err(code) => {
            let state = if code == "failed" { "dead" } else { "failed" };
            assert_eq!((&now["state"], &now["failure"]["code"]), (&json!(state), &json!(code)), "{now:#}");
        }
    }
}

/// Checks a map that was open, by what its function does. What had an outcome then has the same.
#[track_caller]
fn check_ended_map(server: &Server, row: &Value) {
    let now = ok(server.get(&path(row)));
    let accepted = now["counts"]["accepted"].as_u64().unwrap();
    assert_eq!((&now["state"], &now["closed"], &now["parent"]), (&json!("done"), &json!(true), &row["parent"]));
    let results = results(server, row);
    assert_eq!(results.len() as u64, accepted, "{now:#}");
    let mut done = 0;
    for (index, result) in (0..).zip(&results) {
        assert_eq!(result["index"], index);
        let input = ok(server.get(&format!("{}/inputs/{index}", path(row))))["input"].clone();
        match outcome(function(row), &input, &result["attempt"]) {
            Ok(output) => {
                assert_eq!(result["output"], output);
                done += 1;
            }
            Err(code) => assert_eq!(result["error"]["code"], code),
        }
        assert_eq!(ok(server.get(&format!("{}/results/{index}", path(row)))), *result);
    }
    assert_eq!(now["counts"]["done"], done, "{now:#}");
    for before in row["results"].as_array().unwrap() {
        has_all(&results[usize::try_from(before["index"].as_u64().unwrap()).unwrap()], before);
    }
}

#[test]
fn apps_and_their_schedules_go_on_where_they_were() {
    let expected = expected();
    let data = data_of("states-2");
    let server = serve(data.path());
    let schedule = |function: &str| ok(server.get(&format!("/api/v1/schedules/{APP}/{function}")));
    let history = |function: &str| schedule(function)["history"].as_array().unwrap().clone();
    let before = |function: &str| expected["schedules"][function]["history"].as_array().unwrap();
    let kinds: Vec<&Value> = ["fails_yearly", "slow_ticks", "ticks", "yearly"].into_iter().flat_map(before).collect();
    for (name, kind) in [
        ("outcome", "done"),
        ("outcome", "failed"),
        ("outcome", "interrupted"),
        ("outcome", "running"),
        ("why", "missed"),
        ("why", "overlap"),
    ] {
        assert!(kinds.iter().any(|run| run[name] == kind), "no run has {name} {kind}");
    }

    // What is due while a schedule is paused is never made up for.
    has_all(&schedule("ticks"), &expected["schedules"]["ticks"]);
    assert_eq!(schedule("ticks")["paused"], true);
    // A New Year that has passed since was missed, or is made up for.
    for (function, is_made_up) in [("fails_yearly", false), ("yearly", true)] {
        let is_past = expected["schedules"][function]["next_ms"].as_u64().unwrap() < now_ms();
        let is_later = |run: &&Value| run["number"].as_u64() > before(function)[0]["number"].as_u64();
        wait_until("what was due is on record", || history(function).iter().any(|run| is_later(&run)) == is_past);
        wait_until("what is due has ended", || schedule(function)["running"] == 0);
        let (later, earlier): (Vec<Value>, Vec<Value>) = history(function).into_iter().partition(|run| is_later(&run));
        has_all(&json!(earlier), &json!(before(function)));
        if let Some(first) = later.last().filter(|_| is_made_up) {
            let next = &expected["schedules"][function]["next_ms"];
            assert_eq!((&first["outcome"], &first["from_ms"]), (&json!("done"), next));
        }
    }

    // A run that the host's end cut off is made up for, once its gate is open; with what waited for its end.
    let cut_off = before("slow_ticks").iter().find(|run| run["outcome"] == "running").unwrap();
    assert_eq!((&cut_off["interruptions"], &expected["schedules"]["slow_ticks"]["waiting"]), (&json!(1), &json!(true)));
    let number = |run: &Value| run["number"].as_u64().unwrap();
    let run_of = |wanted: u64| history("slow_ticks").into_iter().find(|run| number(run) == wanted);
    assert_eq!(run_of(number(cut_off)).unwrap()["outcome"], "interrupted");
    for run in before("slow_ticks").iter().filter(|run| number(run) < number(cut_off)) {
        has_all(&run_of(number(run)).unwrap(), run);
    }
    let is_made_up = |run: &Value| run["from_ms"] == cut_off["from_ms"] && run["interruptions"] == 2;
    wait_until("it is made up for", || history("slow_ticks").iter().any(is_made_up));
    call(&server, "open_gate", &json!({ "gate": "slow-ticks" }));
    wait_until("it is done", || history("slow_ticks").iter().any(|run| is_made_up(run) && run["outcome"] == "done"));

    // A schedule that was paused goes on when it is resumed, and so does a stopped app.
    let ticks = history("ticks").len();
    ok(server.post("/api/v1/schedules/states/ticks/resume", ""));
    wait_until("it ticks", || history("ticks").len() > ticks && history("ticks")[0]["outcome"] == "done");
    ok(server.post("/api/v1/apps/csv-etl/rollback", ""));
    assert_eq!(server.get("/api/v1/apps/csv-etl").json()["version"], expected["histories"]["csv-etl"][0]["version"]);
    // Each version that the history names can be gone back to.
    let versions = expected["histories"]["hello"].as_array().unwrap();
    let live = text(&versions[0], "version");
    let other = versions.iter().map(|record| text(record, "version")).find(|version| *version != live).unwrap();
    assert_eq!(ok(server.post("/api/v1/apps/hello/rollback", ""))["version"], other);
    assert_eq!(ok(server.post("/hello/greet", r#"{"name":"Ada"}"#)), "hello, Ada");
}

/// Whether a call is a run of a schedule: these begin with the host, and the fixture has none.
fn is_scheduled(call: &Value) -> bool {
    call["run"].is_u64()
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[test]
fn a_call_whose_acceptance_was_not_told_is_found_by_its_key() {
    let data = data_of("cut-answer-2");
    let server = serve(data.path());
    let spawn = |function: &str, key: &str, input: &str| {
        let path = format!("/api/v1/apps/{APP}/functions/{function}/calls");
        let headers = format!("idempotency-key: {key}\r\ncontent-type: application/json\r\n");
        ok(request(&server, "POST", &path, &headers, input))
    };
    let unanswered = spawn("double", "unanswered", r#"{"n":8}"#);
    let answered = spawn("double_behind", "answered", r#"{"gate":"later","n":3}"#);
    let listed = server.get("/api/v1/calls").json();
    let spawned = listed["calls"].as_array().unwrap().iter().filter(|call| !is_scheduled(call));
    assert_eq!(spawned.count(), 2, "{listed}");
    call(&server, "open_gate", &json!({ "gate": "later" }));
    for (row, output) in [(unanswered, 16), (answered, 6)] {
        wait_until("it is done", || server.get(&path(&row)).json()["state"] == "done");
        let done = server.get(&path(&row)).json();
        // Both were leased as they were accepted, and that attempt ended with the host.
        has_all(&done, &json!({ "output": output, "attempts": 2, "lost": 1 }));
    }
}

#[test]
fn files_of_results_that_no_row_refers_to_are_removed_and_the_results_are_made_again() {
    let data = data_of("cut-results-2");
    let results = data.path().join("results");
    let files = || -> Vec<String> {
        let names =
            |dir: &Path| -> Vec<PathBuf> { fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect() };
        let files = names(&results).into_iter().flat_map(|dir| names(&dir));
        files.map(|path| path.strip_prefix(&results).unwrap().to_str().unwrap().to_owned()).collect()
    };
    let left = files();
    assert!(left.len() > 1, "{left:?}");

    let mut server = serve_without_the_app(data.path(), &app_version(&expected()));
    wait_until("what no row refers to is gone", || files().len() == 1);
    assert_eq!(server.stop(), 0);

    server = serve(data.path());
    let key = "idempotency-key: large\r\n";
    let map = ok(request(&server, "POST", &format!("/api/v1/apps/{APP}/functions/text_behind/maps"), key, ""));
    assert_eq!((&map["state"], &map["counts"]["accepted"]), (&json!("open"), &json!(4)));
    ok(server.post(&format!("{}/close", path(&map)), ""));
    wait_until("the map has ended", || server.get(&path(&map)).json()["state"] == "done");
    for index in 0..4 {
        let result = ok(server.get(&format!("{}/results/{index}", path(&map))));
        assert_eq!(result["output"], text_of(270_010 + index));
    }
    assert_eq!(files().len(), 4);
}
