//! The key-value data of an app, from the command line and over HTTP.

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Guest, Output, Server, command, exchange, finish, finish_with, fresh_data, shared_data};

/// A host of two apps, of which `authored` has a bucket.
struct Deck {
    /// Goes last.
    server: Server,
    _data: TempDir,
}

impl Deck {
    fn start() -> Self {
        let data = fresh_data();
        let server =
            Server::try_start(data.path(), &[Guest::Authored, Guest::Hello], &["--secret", "API_KEY=x"]).unwrap();
        let deck = Self { server, _data: data };
        for key in ["argo", "alkedo", "user/ada"] {
            let input = json!({ "key": key, "new": key.to_uppercase() });
            assert_eq!(deck.server.post("/authored/text_at", &input.to_string()).status, 200);
        }
        deck
    }

    fn kv(&self, args: &[&str]) -> Output {
        let mut command = command(shared_data(), &[&["kv"], args].concat());
        command.env("BIREME_HOST", self.server.address.to_string());
        finish_with(command, "")
    }

    fn text_at(&self, key: &str) -> serde_json::Value {
        self.server.post("/authored/text_at", &json!({ "key": key, "new": null }).to_string()).json()
    }
}

#[test]
fn buckets_and_keys_are_listed_page_by_page() {
    let deck = Deck::start();
    assert_eq!(deck.kv(&["ls", "authored"]).stdout, "counted\n");
    assert_eq!(deck.kv(&["ls", "authored", "--json"]).json(), json!({ "buckets": ["counted"], "next": null }));
    assert_eq!(deck.kv(&["ls", "authored", "counted"]).stdout, "alkedo\nargo\nuser/ada\n");
    assert_eq!(deck.kv(&["ls", "authored", "counted", "--prefix", "a", "--limit", "1"]).stdout, "alkedo\n");
    assert_eq!(deck.kv(&["ls", "authored", "counted", "--after", "argo"]).stdout, "user/ada\n");
    let page = deck.kv(&["ls", "authored", "counted", "--limit", "2", "--json"]);
    assert_eq!(page.json(), json!({ "keys": ["alkedo", "argo"], "next": "argo" }));
    let page = deck.server.get("/api/v1/apps/authored/kv/keys?bucket=counted&limit=2&after=alkedo");
    assert_eq!(page.json(), json!({ "keys": ["argo", "user/ada"], "next": null }));
    let none = deck.kv(&["ls", "hello"]);
    assert_eq!((none.status, none.stdout.as_str()), (0, ""), "{none:#?}");
    assert!(none.stderr.contains("hello has no key-value data"), "{none:#?}");
}

#[test]
fn a_value_is_read_set_and_deleted_byte_for_byte() {
    let deck = Deck::start();
    assert_eq!(deck.kv(&["get", "authored", "counted", "argo"]).stdout, "ARGO");
    let set = deck.kv(&["set", "authored", "counted", "argo", "-50"]);
    assert_eq!(set.stdout, "argo in bucket counted of authored is set: 3 B\n", "{set:#?}");
    assert_eq!(deck.text_at("argo"), "-50");
    assert_eq!(deck.server.post("/authored/count_by_increment", r#"{"key":"argo","delta":1}"#).json(), -49);

    let mut command = command(shared_data(), &["kv", "set", "authored", "counted", "a key?&", "--json"]);
    command.env("BIREME_HOST", deck.server.address.to_string());
    let set = finish_with(command, "two\nlines\n");
    assert_eq!(set.json(), json!({ "bucket": "counted", "key": "a key?&", "bytes": 10 }));
    assert_eq!(deck.kv(&["get", "authored", "counted", "a key?&"]).stdout, "two\nlines\n");
    let value = deck.kv(&["get", "authored", "counted", "a key?&", "--json"]).json();
    assert_eq!(value, json!({ "app": "authored", "bucket": "counted", "key": "a key?&", "text": "two\nlines\n" }));

    let put = b"PUT /api/v1/apps/authored/kv/value?bucket=b&key=raw HTTP/1.1\r\nhost: localhost\r\n\
        connection: close\r\ncontent-length: 4\r\n\r\n\x00\xff\r\n";
    assert_eq!(exchange(deck.server.address, put).status, 200);
    assert_eq!(deck.kv(&["get", "authored", "b", "raw", "--json"]).json()["base64"], "AP8NCg==");

    let deleted = deck.kv(&["rm", "authored", "counted", "argo"]);
    assert_eq!(deleted.stdout, "argo is deleted from bucket counted of authored\n", "{deleted:#?}");
    assert_eq!(deck.text_at("argo"), json!(null));
}

#[test]
fn a_value_set_with_a_time_to_live_expires() {
    let deck = Deck::start();
    assert_eq!(deck.kv(&["set", "authored", "counted", "argo", "x", "--ttl", "1h"]).status, 0);
    assert_eq!(deck.text_at("argo"), "x");
    let put = "PUT /api/v1/apps/authored/kv/value?bucket=counted&key=argo&ttl=0.001 HTTP/1.1\r\nhost: localhost\r\n\
        connection: close\r\ncontent-length: 1\r\n\r\nx";
    assert_eq!(exchange(deck.server.address, put.as_bytes()).status, 200);
    crate::support::wait_until("the value expires", || deck.text_at("argo").is_null());
    let refused = deck.kv(&["set", "authored", "counted", "argo", "x", "--ttl", "soon"]);
    assert_eq!(refused.status, 2, "{refused:#?}");
    let refused = deck.kv(&["set", "authored", "counted", "argo", "x", "--ttl", "0s"]);
    assert!(refused.stderr.contains("at least a millisecond"), "{refused:#?}");
}

#[test]
fn a_slip_in_a_name_is_answered_with_the_nearest() {
    let deck = Deck::start();
    let check = |args: &[&str], says: &str| {
        let output = deck.kv(args);
        assert!(output.status == 4 && output.stderr.contains(says), "{says}: {output:#?}");
    };
    check(&["ls", "autored"], "did you mean `authored`?");
    check(&["ls", "authored", "cuonted"], "did you mean `counted`?");
    check(&["ls", "hello", "counted"], "it has no key-value data");
    check(
        &["get", "authored", "counted", "algo"],
        "no key `algo` in bucket `counted` of `authored`; did you mean `argo`?",
    );
    check(&["rm", "authored", "counted", "zzz"], "`bireme kv ls authored counted` lists them");
    check(&["get", "authored", "count", "argo"], "`authored` has no bucket `count`; did you mean `counted`?");
    let large = "x".repeat((8 << 20) + 1);
    let mut command = command(shared_data(), &["kv", "set", "authored", "counted", "argo"]);
    command.env("BIREME_HOST", deck.server.address.to_string());
    let refused = finish_with(command, &large);
    assert!(refused.stderr.contains("error[input-too-large]"), "{refused:#?}");
    let refused = deck.server.get("/api/v1/apps/authored/kv/value?bucket=counted");
    assert!(refused.status == 400 && refused.body.contains("`key` is missing"), "{refused:#?}");
    let refused = deck.server.get("/api/v1/apps/authored/kv/keys?bucket=counted&limit=0");
    assert!(refused.status == 400 && refused.body.contains("from 1 to 1000"), "{refused:#?}");
}

#[test]
fn the_data_of_a_stopped_app_can_be_read() {
    let data = fresh_data();
    let mut server = Server::start_over(data.path(), &[]);
    let bireme = |server: &Server, args: &[&str]| {
        let mut command = command(shared_data(), args);
        command.env("BIREME_HOST", server.address.to_string());
        finish(command)
    };
    let component = crate::support::guest(Guest::Hello);
    assert_eq!(bireme(&server, &["deploy", component, "--accept"]).status, 0);
    assert_eq!(bireme(&server, &["kv", "set", "hello", "b", "k", "kept"]).status, 0);
    assert_eq!(bireme(&server, &["stop", "hello"]).status, 0);
    assert_eq!(bireme(&server, &["kv", "get", "hello", "b", "k"]).stdout, "kept");
    assert_eq!(server.stop(), 0);
}
