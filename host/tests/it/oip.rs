//! `/v2`: the Open Inference Protocol as its clients meet it, NVIDIA's own among them.

use std::process::Command;

use serde_json::{Value, json};

use crate::python::python_with;
use crate::support::{self, MODEL, Reply, Server, data_with_model, real_model};
use crate::tiny::{HIDDEN, ids};

/// The client that is held against the host.
const CLIENT: &str = "tritonclient[http]==2.73.0";

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
#[expect(clippy::print_stderr, reason = "how near the vectors are is worth a line")]
fn the_client_of_triton_gets_the_vectors_of_another_engine() {
    let Some(model) = real_model(MODEL) else { return };
    let Some(python) = python_with(CLIENT) else { return };
    let (data, own) = (support::crate_dir("tests/data"), data_with_model(MODEL, &model));
    let server = Server::start_over(own.path(), &[]);
    let mut command = Command::new(python);
    command.arg(data.join("triton_client.py")).arg(server.address.to_string()).arg(MODEL);
    let (is_good, said) = run(command.args([data.join("minilm-reference.json"), model.join("tokenizer.json")]));
    assert!(is_good, "{said}\n{}", server.stderr());
    assert!(said.contains("lowest cosine"), "{said}");
    eprintln!("{}", said.trim());
}

/// Wants an error as the protocol has it.
#[track_caller]
fn check_error(reply: &Reply, status: u16, words: &str) {
    assert_eq!(reply.status, status, "{reply:#?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let error = reply.json();
    let message = error["error"].as_str().unwrap_or_else(|| panic!("{error}"));
    assert!(message.contains(words), "no `{words}` in `{message}`");
    assert_eq!(error.as_object().unwrap().len(), 1);
}

fn infer(server: &Server, headers: &str, body: &str) -> Reply {
    let path = format!("/v2/models/{MODEL}/infer");
    server.exchange(&format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn curl_is_client_enough() {
    let server = Server::start(&[]);
    let text = r#"{"name":"text","shape":[1],"datatype":"BYTES","data":["What is THIS sentence word"]}"#;
    let reply = infer(&server, "", &format!(r#"{{"id":"42","inputs":[{text}]}}"#));
    let answer = reply.json();
    assert_eq!((reply.status, &answer["id"], &answer["model_name"]), (200, &json!("42"), &json!(MODEL)), "{answer}");
    let output = &answer["outputs"][0];
    assert_eq!(
        (&output["name"], &output["shape"], &output["datatype"]),
        (&json!("embedding"), &json!([1, HIDDEN]), &json!("FP32"))
    );
    let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
    assert_eq!((&receipt["inference"]["tokens"], &receipt["attempts"]), (&json!(7), &json!(0)), "{receipt}");
    assert!(receipt["wall_us"].as_u64().unwrap() > 0);

    // The same as tokens gives the same vector to the last bit, and no number is longer than a float needs.
    let ids = ids("what is this sentence word");
    let ids = json!({ "name": "input_ids", "shape": [1, 7], "datatype": "INT64", "data": [ids] });
    let tokens = infer(&server, "", &format!(r#"{{"inputs":[{ids}]}}"#)).json();
    assert_eq!(tokens["outputs"][0]["data"], output["data"]);
    let longest = output["data"].as_array().unwrap().iter().map(|number| number.to_string().len()).max();
    assert!(longest.unwrap() <= 16, "{longest:?}");

    let metrics = server.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let tokens = "\nbireme_batch_tokens_total 14\n";
    assert!(metrics.body.contains(tokens), "{}", metrics.body);
    assert!(metrics.body.contains(&format!("\nbireme_model_workers{{model=\"{MODEL}\"}} 1\n")), "{}", metrics.body);
}

#[test]
fn what_is_hostile_or_wrong_gets_the_protocols_error_and_the_host_goes_on() {
    let server = Server::start(&[]);
    let good = r#"{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]}]}"#;
    for (headers, body, status, words) in [
        ("", "", 400, "not what the protocol says"),
        ("", "{", 400, "not what the protocol says"),
        ("", r#"{"inputs":[]}"#, 400, "there is neither"),
        ("", r#"{"inputs":[{"name":"text","shape":[2],"datatype":"BYTES","data":["a"]}]}"#, 400, "input `text`"),
        (
            "",
            r#"{"inputs":[{"name":"text","shape":[4294967296,4294967296,4294967296],"datatype":"BYTES","data":[]}]}"#,
            400,
            "input `text`",
        ),
        ("", r#"{"inputs":[{"name":"input_ids","shape":[1,2],"datatype":"INT64","data":[2,4294967295]}]}"#, 400, ""),
        ("", r#"{"inputs":[{"name":"input_ids","shape":[1,2],"datatype":"INT64","data":[2,99999]}]}"#, 400, ""),
        ("inference-header-content-length: 99999\r\n", good, 400, "99999 bytes"),
        ("inference-header-content-length: -1\r\n", good, 400, "no number of bytes"),
        ("inference-header-content-length: 99999999999999999999\r\n", good, 400, "no number of bytes"),
        ("inference-header-content-length: 10\r\n", good, 400, "not what the protocol says"),
        ("content-encoding: gzip\r\n", good, 415, "compressed"),
    ] {
        check_error(&infer(&server, headers, body), status, words);
    }
    let deep = format!(r#"{{"inputs":[{{"name":"text","shape":[1],"datatype":"BYTES","data":{}"#, "[".repeat(1 << 20));
    check_error(&infer(&server, "", &deep), 400, "not what the protocol says");
    // Refused by its length, before a byte of it is read.
    let head = format!("POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    check_error(
        &server.exchange(&format!("{head}content-length: {}\r\n\r\n", 1u64 << 40)),
        413,
        "limit of an inference",
    );

    check_error(&server.get("/v2/models/nope"), 404, "nope");
    check_error(&server.get("/v2/models/nope/ready"), 404, "nope");
    check_error(&server.get("/v2/models/..%2f..%2fetc"), 404, "");
    check_error(&server.get(&format!("/v2/models/{MODEL}/versions/2")), 404, "no version `2`");
    check_error(&server.get("/v2/nothing"), 404, "/v2/health");
    let reply = server.get(&format!("/v2/models/{MODEL}/infer"));
    check_error(&reply, 405, "POST");
    assert_eq!(reply.header("allow"), Some("POST"));
    check_error(&server.post("/v2/health/live", ""), 405, "GET");
    check_error(&server.post("/v2/repository/index", "[]["), 400, "index request");

    assert_eq!(infer(&server, "", good).status, 200);
}
