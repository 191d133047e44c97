//! Changes of key-value data that depend on what is there, by many clients at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Guest, Server, fresh_data};

const CLIENTS: u64 = 16;

/// A server of the authored guest, and of another. The directory goes last.
fn serve(another: Guest) -> (TempDir, Server) {
    let data = fresh_data();
    let server = Server::try_start(data.path(), &[Guest::Authored, another], &["--secret", "API_KEY=x"]).unwrap();
    (data, server)
}

/// Calls a function so many times, from 16 clients.
fn call_from_many(server: &Server, path: &str, input: &Value, calls: u64) {
    let (body, begun) = (input.to_string(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while begun.fetch_add(1, Ordering::Relaxed) < calls {
                    let reply = server.post(path, &body);
                    assert_eq!(reply.status, 200, "{reply:#?}");
                }
            });
        }
    });
}

fn text_at(server: &Server, key: &str) -> Value {
    server.post("/authored/text_at", &json!({ "key": key, "new": null }).to_string()).json()
}

#[test]
fn a_counter_of_sixteen_clients_counts_every_call() {
    let (_data, server) = serve(Guest::Hello);
    call_from_many(&server, "/hello/count", &json!({ "key": "k" }), 1_000);
    assert_eq!(server.post("/hello/count", r#"{"key":"k"}"#).json(), 1_001);

    for (function, input) in [
        ("count_by_increment", json!({ "key": "count_by_increment", "delta": 1 })),
        ("count_by_update", json!({ "key": "count_by_update" })),
        ("count_by_swap", json!({ "key": "count_by_swap" })),
    ] {
        call_from_many(&server, &format!("/authored/{function}"), &input, 1_000);
        assert_eq!(text_at(&server, function), "1000", "{function}");
    }
}

#[test]
fn increments_and_updates_of_one_key_count_together() {
    let (_data, server) = serve(Guest::Hello);
    std::thread::scope(|scope| {
        let both =
            [("count_by_increment", json!({ "key": "k", "delta": 1 })), ("count_by_swap", json!({ "key": "k" }))];
        for (function, input) in both {
            let server = &server;
            scope.spawn(move || call_from_many(server, &format!("/authored/{function}"), &input, 100));
        }
        // Another key of the same bucket, in the same commits.
        call_from_many(&server, "/authored/count_by_set", &json!({ "key": "another" }), 100);
    });
    assert_eq!(text_at(&server, "k"), "200");
}

#[test]
fn a_swap_that_expects_another_value_sees_the_one_there_is() {
    let (_data, server) = serve(Guest::Hello);
    let swap = |expected: Value, new: &str| {
        let input = json!({ "key": "k", "expected": expected, "new": new });
        server.post("/authored/swap_text", &input.to_string()).json()
    };
    assert_eq!(swap(json!(null), "one"), json!(null));
    assert_eq!(swap(json!(null), "two"), "one");
    assert_eq!(swap(json!("other"), "two"), "one");
    assert_eq!(text_at(&server, "k"), "one");
    assert_eq!(swap(json!("one"), "two"), json!(null));
    assert_eq!(text_at(&server, "k"), "two");
}

#[test]
fn what_cannot_be_added_fails_for_good_with_the_key_and_stays() {
    let (_data, server) = serve(Guest::Hello);
    let refused = |value: &str, says: &str| {
        server.post("/authored/text_at", &json!({ "key": "k", "new": value }).to_string());
        let reply = server.post("/authored/count_by_increment", r#"{"key":"k","delta":1}"#);
        let error = reply.json();
        assert_eq!(error["code"], "terminal", "{reply:#?}");
        assert!(reply.body.contains("`k`") && reply.body.contains(says), "{reply:#?}");
        assert_eq!(text_at(&server, "k"), value);
    };
    refused("seven", "is no whole number in decimal text");
    refused("1.5", "is no whole number in decimal text");
    refused(&i64::MAX.to_string(), "holds 9223372036854775807, and that plus 1 does not fit 64 bits");
    let reply = server.post("/authored/count_by_increment", r#"{"key":"k","delta":-1}"#);
    assert_eq!(reply.json(), i64::MAX - 1, "{reply:#?}");
}

#[test]
fn a_batch_is_written_and_read_and_keys_are_listed_by_prefix() {
    let (_data, server) = serve(Guest::Hello);
    let texts: serde_json::Map<String, Value> =
        (0..600).map(|i| (format!("{}/{i:0>1000}", i % 2), i.to_string().into())).collect();
    let batch = |texts: &Value, delete: &Value| {
        server.post("/authored/batch", &json!({ "texts": texts, "delete": delete }).to_string())
    };
    let keys: Vec<&String> = texts.keys().collect();
    let mut read: Vec<Value> = texts.values().cloned().collect();
    read[0] = Value::Null;
    assert_eq!(batch(&json!(texts), &json!([keys[0]])).json(), json!(read));
    // In two pages.
    let listed = server.post("/authored/keys_with", r#"{"prefix":"1/"}"#);
    assert_eq!(listed.json(), json!(keys[300..]));
    assert_eq!(server.post("/authored/keys_with", r#"{"prefix":"2"}"#).json(), json!([]));
    let many: serde_json::Map<String, Value> = (0..1_001).map(|i| (i.to_string(), "x".into())).collect();
    let refused = batch(&json!(many), &json!([]));
    assert!(refused.body.contains("a batch has at most 1000 keys; this one has 1001"), "{refused:#?}");
}

#[test]
fn a_value_with_a_time_to_live_goes_and_a_counter_keeps_its_time() {
    let (_data, server) = serve(Guest::Hello);
    let set = |ttl_ms: u64| {
        server.post("/authored/text_for", &json!({ "key": "k", "new": "7", "ttl_ms": ttl_ms }).to_string())
    };
    set(3_600_000);
    assert_eq!(server.post("/authored/count_by_increment", r#"{"key":"k","delta":1}"#).json(), 8);
    set(1);
    let began = std::time::Instant::now();
    while text_at(&server, "k") != Value::Null {
        assert!(began.elapsed().as_secs() < 60, "it stays");
    }
    assert_eq!(server.post("/authored/keys_with", r#"{"prefix":""}"#).json(), json!([]));
    assert_eq!(server.post("/authored/count_by_increment", r#"{"key":"k","delta":1}"#).json(), 1);
    let refused = set(0);
    assert!(refused.body.contains("at least a millisecond"), "{refused:#?}");
}

#[test]
fn a_component_of_either_draft_links_and_counts() {
    let (_data, server) = serve(Guest::StockWasi);
    let told = |path: &str| server.get(&format!("/stock_wasi/{path}")).body;
    assert_eq!([told("draft/increment/3"), told("draft/increment/4")], ["Ok(3)", "Ok(7)"]);
    // The same number, by the words of the newer one.
    assert_eq!([told("draft2/increment/-9"), told("draft2/increment/1")], ["Ok(-2)", "Ok(-1)"]);
    // Which the older cannot say.
    assert!(told("draft/increment/0").contains("`n` holds -1"), "{}", told("draft/increment/0"));
    assert_eq!(told("draft2/increment/0"), "Ok(-1)");
    assert_eq!(told("draft2/swap"), "None, then lost to one, then two");
    assert_eq!([told("draft/batch"), told("draft2/batch")], [r#"[Some(("a", [1])), None]"#; 2]);
}

#[test]
fn values_that_wait_for_a_swap_are_the_functions_memory() {
    let (_data, server) = serve(Guest::StockWasi);
    let hoard = server.get("/stock_wasi/draft2/hoard");
    assert_eq!(hoard.json()["code"], "memory-limit", "{hoard:#?}");
    assert_eq!(server.get("/stock_wasi/draft2/in-turn").body, "800 MiB in turn");
}
