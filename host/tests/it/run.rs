//! `bireme run`, `build` and `inspect`: one call from a terminal, and what an app says of itself.

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    self, Guest, Output, Process, bireme, built, command, finish, fresh_data, function, guest, shared_data,
};

/// Runs one function of `hello`.
fn hello(name: &str, input: &[&str]) -> Output {
    bireme(&[&["run", &function(Guest::Hello, name)], input].concat())
}

/// Wants a result and nothing else.
#[track_caller]
fn check(output: &Output, expected: Value) {
    assert_eq!(output.status, 0, "{output:#?}");
    assert_eq!(output.json(), expected);
}

/// Wants a failure with this status, these words in this order, and nothing on stdout.
#[track_caller]
fn check_error(output: &Output, status: i32, words: &[&str]) {
    assert_eq!(output.status, status, "{output:#?}");
    assert_eq!(output.stdout, "", "{output:#?}");
    let mut rest = output.stderr.as_str();
    for word in words {
        match rest.split_once(word) {
            Some((_, after)) => rest = after,
            None => panic!("no `{word}` where it belongs in {output:#?}"),
        }
    }
}

#[test]
fn an_input_is_json_or_one_flag_for_each_parameter() {
    check(&hello("greet", &[r#"{"name": "Ada"}"#]), json!("hello, Ada"));
    check(&hello("greet", &["--name", "Ada"]), json!("hello, Ada"));
    check(&hello("greet", &["--name=--name"]), json!("hello, --name"));
    check(&hello("add", &["--a", "-1", "--b", "3"]), json!(2));
    check(&hello("sum", &["--numbers", "[1, 2.5]"]), json!(3.5));
    let nested = json!([1, { "a": null }, "é\n"]);
    check(&hello("echo", &[&json!({ "value": nested }).to_string()]), nested);
}

#[test]
fn a_single_parameter_can_be_given_bare() {
    check(&hello("greet", &[r#""Ada""#]), json!("hello, Ada"));
    check(&hello("square", &["12"]), json!(144));
}

#[test]
fn functions_call_and_map_each_other() {
    check(&hello("fan_out", &["--n", "100"]), json!(328_350));
    check(&hello("leaves", &["--width", "3", "--depth", "3"]), json!(27));
}

#[test]
fn a_call_knows_itself_and_its_log_goes_to_stderr() {
    let output = hello("whoami", &[]);
    let identity = output.json();
    assert_eq!(identity["app"], "hello");
    assert_eq!(identity["function"], "whoami");
    assert_eq!(identity["attempt"], 1);
    assert_eq!(output.stderr, "hello::whoami info: asked who I am attempt=1\n");
}

#[test]
fn a_wrong_field_is_named_with_the_nearest_and_the_shape() {
    let shape = r#"hint: `add` takes {"a": integer, "b": integer}"#;
    check_error(
        &hello("greet", &["--nmae", "Ada"]),
        2,
        &[
            "error[invalid-input]: `greet` has no parameter `nmae`; did you mean `name`?",
            r#"hint: `greet` takes {"name": string}"#,
        ],
    );
    check_error(&hello("add", &["--a", "1", "--b", "two"]), 2, &["`--b`: expected integer, found `two`", shape]);
    check_error(&hello("add", &["--a", "1"]), 2, &["`--b` is missing", shape]);
    check_error(&hello("add", &[r#"{"a": 1, "c": 2}"#]), 2, &["error[invalid-input]", "`c`", shape]);
    check_error(
        &hello("add", &[r#"{"a": 1, "b": "2"}"#]),
        2,
        &["$.b: expected an integer (`i64`), found \"2\"", shape],
    );
    check_error(&hello("add", &[r#"{"a": 1,"#]), 2, &["the input is not JSON", "line 1 column 8", shape]);
    check_error(&hello("greet", &["Ada"]), 2, &["the input is not JSON", "a string is written '\"Ada\"'"]);
}

#[test]
fn a_wrong_value_deep_inside_is_named_by_its_path() {
    let drawing = json!({ "drawing": { "title": "t", "shapes": [
        { "dot": { "x": 0, "y": 0 } },
        { "path": { "points": [{ "x": 1, "y": "far" }] } },
    ] } });
    let typed = function(Guest::Hostile, "typed");
    check_error(
        &bireme(&["run", &typed, &drawing.to_string()]),
        2,
        &["$.drawing.shapes[1].path.points[0].y: expected a number, found \"far\"", "hint: `typed` takes {\"drawing\""],
    );
    let good = drawing.to_string().replace("\"far\"", "2");
    check(&bireme(&["run", &typed, &good]), json!(2.0));
}

#[test]
fn an_unknown_function_or_app_exits_with_4() {
    check_error(
        &hello("gret", &[]),
        4,
        &[
            "error[unknown-function]: `hello` has no function `gret`; did you mean `greet`?",
            "hint: it has add, count, echo",
        ],
    );
    check_error(&bireme(&["run", "nowhere::greet"]), 4, &["error[unknown-app]: no app at `nowhere`", "hint:"]);
    check_error(&bireme(&["run", "greet"]), 2, &["error[usage]: `greet` is not APP::FUNCTION"]);
}

#[test]
fn a_function_that_fails_says_why_with_its_causes() {
    check_error(
        &bireme(&["run", &function(Guest::Hostile, "fails")]),
        1,
        &["error[failed]: it failed, as it always does", "caused by: invalid digit found in string"],
    );
}

#[test]
fn retries_follow_failures_and_crashes_up_to_their_number() {
    for name in ["fails_until_attempt", "panics_until_attempt"] {
        let target = function(Guest::Hostile, name);
        check(&bireme(&["run", &target, "--n", "2"]), json!(2));
    }
    // A terminal failure is final, whatever `retries` says.
    let output = bireme(&["run", &function(Guest::Hostile, "fails_terminal"), "--receipt"]);
    check_error(&output, 1, &["attempts", "error[terminal]: it cannot be done"]);
    let attempts: Vec<&str> = output.stderr.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(attempts, ["attempts", "1"]);
}

#[test]
fn json_wraps_the_result_with_its_call_and_receipt() {
    let add = function(Guest::Hello, "add");
    for arguments in [
        &["--json", "run", &add, "--a", "1", "--b", "2"],
        // The command's own flags may follow the function.
        &["run", &add, "--a", "1", "--b", "2", "--json"],
    ] {
        let output = bireme(arguments);
        let envelope = output.json();
        assert_eq!(output.status, 0, "{output:#?}");
        assert_eq!(envelope["result"], 3);
        assert!(envelope["call"].as_str().is_some_and(|call| call.len() == 36), "{envelope}");
        assert_eq!(envelope["receipt"]["attempts"], 1);
        assert!(envelope["receipt"]["memory_peak_bytes"].as_u64().unwrap() > 0);
    }
}

#[test]
fn json_makes_an_error_an_object_on_stdout() {
    let gret = function(Guest::Hello, "gret");
    let output = bireme(&["--json", "run", &gret]);
    assert_eq!((output.status, output.stderr.as_str()), (4, ""));
    let error = &output.json()["error"];
    assert_eq!(error["code"], "unknown-function");
    assert_eq!(error["message"], "`hello` has no function `gret`; did you mean `greet`?");
    assert!(error["hint"].as_str().unwrap().starts_with("it has add"));
}

#[test]
fn json_behind_the_function_makes_an_error_an_object_too() {
    let output = bireme(&["run", &function(Guest::Hostile, "fails_terminal"), "--json"]);
    assert_eq!((output.status, output.stderr.as_str()), (1, ""));
    assert_eq!(output.json()["error"]["code"], "terminal");
}

#[test]
fn the_receipt_goes_to_stderr() {
    let output = hello("add", &["--a", "1", "--b", "2", "--receipt"]);
    assert_eq!((output.status, output.stdout.as_str()), (0, "3\n"));
    let names: Vec<&str> = output.stderr.lines().filter_map(|line| line.trim().split("  ").next()).collect();
    assert_eq!(names[..4], ["attempts", "queue", "wall", "instantiation"]);
    assert!(names.contains(&"guest code") && names.ends_with(&["cpu", "memory peak"]), "{names:?}");
}

#[test]
fn a_receipt_tells_host_calls_apart() {
    let receipt = |name: &str, arguments: &[&str]| {
        let target = function(Guest::Hello, name);
        let output = bireme(&[&["--json", "run", &target], arguments].concat());
        output.json()["receipt"].clone()
    };
    // A map is opened, fed and read.
    let fan_out = receipt("fan_out", &["--n", "10"]);
    let functions = &fan_out["host_calls"]["functions"];
    assert!(functions["count"].as_u64().unwrap() >= 3 && functions["wall_us"].as_u64().unwrap() > 0, "{fan_out}");
    assert_eq!(fan_out["host_calls"].get("key_value"), None);
    let parts = |receipt: &Value| receipt["wall_parts"].as_object().unwrap().clone();
    let sum = parts(&fan_out).values().map(|part| part.as_u64().unwrap()).sum::<u64>();
    assert_eq!(json!(sum), fan_out["wall_us"], "{fan_out}");
    assert!(parts(&fan_out).contains_key("functions_us"), "{fan_out}");

    let target = function(Guest::Hello, "count");
    let data = fresh_data();
    let count = finish(command(data.path(), &["--json", "run", &target, "--key", "k"])).json()["receipt"].clone();
    assert_eq!(count["host_calls"]["key_value"]["count"], 1, "one increment: {count}");

    // A function that touches nothing has no such part.
    assert_eq!(receipt("add", &["--a", "1", "--b", "2"]).get("host_calls"), None);
}

#[test]
fn ctrl_c_cancels_the_call_and_exits_with_130() {
    // A site that takes the request and never answers: once it has a connection, the call runs.
    let site = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let origin = format!("http://{}", site.local_addr().unwrap());
    let (grant, target) = (format!("site={origin}"), function(Guest::Hostile, "fetch_within"));
    let input = json!({ "url": origin, "ms": 10_000, "bytes_max": 1 }).to_string();
    let child = command(shared_data(), &["run", "--grant", &grant, &target, &input])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.unwrap());
    let _connection = site.accept().unwrap();
    process.signal(Signal::INT);
    assert_eq!(process.wait(), 130);
    let mut stderr = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "error[interrupted]: interrupted; the call was cancelled\n");
}

#[test]
fn inspect_shows_functions_with_schemas_and_attributes() {
    let output = bireme(&["inspect", guest(Guest::Hostile), "--json"]);
    let app = output.json();
    assert_eq!(app["app"]["name"], "hostile");
    assert!(app["version"].is_string() && app["bytes"].as_u64().unwrap() > 0);
    let functions = app["functions"].as_array().unwrap();
    let names: Vec<&str> = functions.iter().map(|function| function["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.contains(&"typed"), "{names:?}");
    let find = |name: &str| functions.iter().find(|function| function["name"] == name).unwrap();

    let typed = find("typed");
    assert_eq!(typed["parameters"], json!(["drawing", "scale"]));
    assert_eq!(typed["doc"], "Takes a nested record and counts its points.");
    assert_eq!(typed["input"]["required"], json!(["drawing"]));
    assert_eq!(typed["output"]["type"], "number");
    let spin = find("spin");
    assert_eq!(spin["attributes"], json!({ "timeout_ms": 200, "retries": 0 }));
    let fetch = find("fetch");
    assert_eq!(fetch["attributes"]["outbound"], json!(["$site", "https://example.com"]));
    assert_eq!(find("embed_it")["attributes"]["models"], json!([support::MODEL]));
}

#[test]
fn build_gives_a_component_that_describes_itself() {
    let built = built(Guest::Hello);
    assert_eq!(built["app"]["name"], "hello");
    assert_eq!(built["functions"].as_array().unwrap().len(), 9);
    let path = built["path"].as_str().unwrap();
    assert!(path.ends_with("hello.bireme.wasm"), "{path}");
    let component = std::fs::read(path).unwrap();
    assert_eq!(built["bytes"], component.len());
    // What it says of the app is what `inspect` reads in the file.
    let inspected = bireme(&["--json", "inspect", path]).json();
    assert_eq!(built["version"], inspected["version"]);
    assert_eq!(built["functions"][0]["name"], inspected["functions"][0]["name"]);
    let section = b"bireme:metadata";
    assert!(component.windows(section.len()).any(|window| window == section));
    check(&hello("greet", &["--name", "you"]), json!("hello, you"));
}

#[test]
fn a_directory_without_a_crate_is_not_built() {
    let dir = tempfile::tempdir().unwrap();
    let output = bireme(&["build", dir.path().to_str().unwrap()]);
    check_error(&output, 2, &["error[no-crate]", "is no crate: it has no Cargo.toml"]);
}
