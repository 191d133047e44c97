//! Batched functions: called with single inputs, run on groups.
//!
//! Groups are made to be full, so that their sizes do not depend on who is fast; a group that was not would wait for
//! 10 s.

use serde_json::{Value, json};

use crate::support::{
    Connection, Guest, Output, Server, bireme, command, finish_with, fresh_data, function, shared_data, wait_until,
};

/// Maps a function over lines, and returns for each input its output or its error, in their order.
fn map(name: &str, input: &str) -> Vec<Value> {
    records(&map_of(name, input))
}

fn map_of(name: &str, input: &str) -> Output {
    let target = function(Guest::Hostile, name);
    finish_with(command(shared_data(), &["--json", "map", "--quiet", "--keep-going", &target]), input)
}

#[track_caller]
fn records(output: &Output) -> Vec<Value> {
    let lines = output.stdout.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|record: &Value| !record["index"].is_null())
        .collect()
}

fn outputs(records: &[Value]) -> Vec<Value> {
    records.iter().map(|record| record["output"].clone()).collect()
}

fn lines(numbers: impl IntoIterator<Item = u32>) -> String {
    numbers.into_iter().map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_map_fills_groups() {
    assert_eq!(outputs(&map("group_sizes", &lines(0..640))), vec![json!(8); 640]);
    assert_eq!(outputs(&map("group_sizes_one_at_a_time", &lines(0..64))), vec![json!(8); 64]);
    let output = bireme(&["run", &function(Guest::Hostile, "maps_in_groups"), "24"]);
    assert_eq!(output.json(), json!(vec![8; 24]), "{output:#?}");
}

#[test]
fn a_lone_call_waits_no_longer_than_it_must() {
    let target = function(Guest::Hostile, "group_sizes_soon");
    let output = bireme(&["--json", "run", &target, "7"]).json();
    assert_eq!((&output["result"], &output["receipt"]["group_inputs"]), (&json!(1), &json!(1)));
    // Nothing is an input, too, where the parameter is an `Option`.
    assert_eq!(bireme(&["run", &target]).json(), 1);
    let server = Server::start(&[Guest::Hostile]);
    assert_eq!(server.post("/hostile/group_sizes_soon", "").body, "1");
}

#[test]
fn calls_of_many_clients_meet() {
    let server = Server::start(&[Guest::Hostile]);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let reply = server.post("/hostile/group_sizes", &n.to_string());
                assert_eq!((reply.status, reply.body.as_str()), (200, "8"), "{reply:#?}");
                let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
                assert_eq!((&receipt["attempts"], &receipt["group_inputs"]), (&json!(1), &json!(8)));
            });
        }
    });
}

#[test]
fn an_input_that_does_not_fit_fails_alone() {
    let records = map("group_sizes", "0\n1\n\"two\"\n3\n{\"inputs\":4}\n5\n{\"input\":6}\n7\n");
    // The function sees those that fit.
    for (index, record) in records.iter().enumerate() {
        if index == 2 || index == 6 {
            assert_eq!(record["error"]["code"], "invalid-input", "{record}");
        } else {
            assert_eq!(record["output"], 6, "{record}");
        }
    }
    assert_eq!(records[2]["error"]["message"], "$: expected an integer (`u32`), found \"two\"");
}

#[test]
fn what_is_not_one_json_value_joins_no_group() {
    let server = Server::start(&[Guest::Hostile]);
    for body in ["1,2", "1]", "[", "1 2", "{\"inputs\":1}},{", "nul"] {
        let reply = server.post("/hostile/group_sizes", body);
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("invalid-input")), "{body}: {reply:#?}");
    }
    let bytes = "POST /hostile/group_sizes HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/vnd.bireme.batch+json\r\ncontent-length: 3\r\n\r\n[1]";
    // What a client calls a group is one input, and none that fits.
    assert_eq!(server.exchange(bytes).status, 400);
}

#[test]
fn an_input_that_traps_the_guest_fails_alone() {
    let records = map("group_panics_at_13", &lines([1, 2, 3, 4, 5, 13, 7, 8]));
    assert_eq!(records[5]["error"]["code"], "crashed");
    assert!(records[5]["error"]["message"].as_str().unwrap().contains("13 brings ill luck"), "{}", records[5]);
    // Halves of 8, 4 and 2, whoever came first.
    let mut sizes: Vec<u64> = outputs(&records).iter().filter_map(Value::as_u64).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2, 2, 4, 4, 4, 4]);
}

#[test]
fn an_input_that_hangs_fails_alone() {
    let records = map("group_hangs_at_13", &lines([1, 2, 3, 13, 5, 6, 7, 8]));
    assert_eq!(records[3]["error"]["code"], "timeout");
    for (index, record) in records.iter().enumerate().filter(|(index, _)| *index != 3) {
        assert_eq!(record["output"], 1, "{index}: {record}");
    }
}

#[test]
fn an_input_of_which_the_function_says_so_fails_alone_and_is_retried() {
    let data = fresh_data();
    let server = Server::start_over(data.path(), &[Guest::Hostile]);
    std::thread::scope(|scope| {
        for n in [1, 2, 13, 4] {
            let server = &server;
            scope.spawn(move || {
                let reply = server.post("/hostile/group_fails_by_input", &n.to_string());
                let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
                if n == 13 {
                    let problem = reply.json();
                    assert_eq!(
                        (&problem["code"], &problem["causes"]),
                        (&json!("terminal"), &json!(["everybody knows"]))
                    );
                } else {
                    assert_eq!((reply.status, reply.body), (200, n.to_string()));
                }
                assert_eq!(receipt["attempts"], if n == 1 { 2 } else { 1 }, "{n}");
            });
        }
    });
}

#[test]
fn a_group_that_fails_for_good_is_not_run_again() {
    let records = map("group_fails_together", &lines([1, 13, 3, 4]));
    // The one that came into a group with it shares its fate, whichever that is.
    let failed: Vec<_> = records.iter().filter(|record| record["error"].is_object()).collect();
    assert_eq!(failed.len(), 2, "{records:?}");
    assert!(failed.iter().all(|record| record["error"]["message"] == "13 brings ill luck"), "{records:?}");
    assert!(records[1]["error"].is_object(), "{records:?}");
    for record in map("group_forgets_one", &lines([1, 2])) {
        let message = record["error"]["message"].as_str().unwrap();
        assert!(message.contains("1 outputs for a group of 2 inputs"), "{record}");
    }
}

#[test]
fn a_guest_that_does_not_answer_each_input_answers_none() {
    for (name, reason) in [
        ("answers_one_of_two", "there are 1"),
        ("answers_three_of_two", "there are more"),
        ("answers_one_for_both", "the answer is `application/json`"),
        ("answers_no_json", "expected value"),
        ("answers_code_of_its_own", "unknown variant `bored`"),
    ] {
        let records = map(name, &lines([1, 2]));
        assert_eq!(records.len(), 2, "{name}");
        for record in records {
            assert_eq!(record["error"]["code"], "terminal", "{name}: {record}");
            let message = record["error"]["message"].as_str().unwrap();
            assert!(message.contains("its group of 2 inputs") && message.contains(reason), "{name}: {message}");
        }
    }
}

#[test]
fn no_secret_is_in_what_became_of_an_input() {
    let target = function(Guest::Authored, "tells_secret_to_each");
    let arguments = ["--json", "map", "--secret", "API_KEY=s3cret-value", "--keep-going", &target];
    let output = finish_with(command(shared_data(), &arguments), "1\n2\n");
    let records = records(&output);
    assert_eq!(records[1]["error"]["message"], "failure 2 ***", "{output:#?}");
    assert!(!output.stdout.contains("s3cret-value") && !output.stderr.contains("s3cret-value"), "{output:#?}");
}

#[test]
fn a_call_that_is_cancelled_leaves_its_group() {
    let server = Server::start(&[Guest::Hostile]);
    let calls = || server.get("/api/v1/calls").json()["live"].clone();
    let mut connection = Connection::open(server.address);
    connection.send(b"POST /hostile/group_sizes HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n7");
    wait_until("the call waits in its group", || calls()[0]["function"] == "hostile::group_sizes");
    drop(connection);
    wait_until("the call is cancelled", || calls() == json!([]));
    std::thread::scope(|scope| {
        // With the one that left, seven would have filled the group.
        for n in 0..8 {
            let server = &server;
            scope.spawn(move || assert_eq!(server.post("/hostile/group_sizes", &n.to_string()).body, "8"));
        }
    });
}

#[test]
fn a_call_whose_caller_runs_out_of_time_waits_no_longer() {
    let output = bireme(&["run", &function(Guest::Hostile, "waits_in_vain")]);
    assert!(output.status == 5 || output.status == 69, "{output:#?}");
}

#[test]
fn a_group_is_bounded_in_bytes_and_so_is_what_it_gives() {
    // Two of them are over the 8 MiB of one input.
    let text = format!("\"{}\"\n", "x".repeat(5 << 20));
    assert_eq!(outputs(&map("group_sizes_of_texts", &text.repeat(2))), [1, 1]);
    // Together over the 8 MiB of one output, in halves not; and one that is over it by itself.
    let len = |record: &Value| record["output"].as_str().map(str::len);
    let records = map("group_repeats", &format!("{0}\n{0}\n{0}\n{0}\n", 3 << 20));
    assert!(records.iter().all(|record| len(record) == Some(3 << 20)), "{}", records.len());
    let records = map("group_repeats", &format!("1\n2\n{}\n4\n", 9 << 20));
    assert_eq!(records[2]["error"]["code"], "output-too-large");
    assert_eq!([0, 1, 3].map(|index| len(&records[index])), [Some(1), Some(2), Some(4)]);
}

#[test]
fn inspect_shows_it() {
    let text = bireme(&["inspect", crate::support::guest(Guest::Hostile)]).stdout;
    assert!(text.contains("groups of up to 8 inputs after at most 10s"), "{text}");
    let json = bireme(&["--json", "inspect", crate::support::guest(Guest::Hostile)]).json();
    let functions = json["functions"].as_array().unwrap();
    let one = functions.iter().find(|function| function["name"] == "group_sizes_soon").unwrap();
    assert_eq!(one["attributes"]["batched"], json!({ "max_size": 1000, "wait_ms": 10 }));
    assert_eq!(one["parameters"], json!(["inputs"]));
    assert_eq!(one["output"]["type"], "integer");
}
