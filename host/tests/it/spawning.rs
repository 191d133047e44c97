//! Calls and maps that functions spawn: read while they run and after a restart, cancelled with their parent, bounded.

use serde_json::{Value, json};
use tempfile::TempDir;

use rustix::process::Signal;

use crate::support::{Guest, Server, fresh_data, wait_until};

/// A host that serves the app, and can be killed.
struct Deck {
    data: TempDir,
    server: Server,
}

impl Deck {
    fn start() -> Self {
        let data = fresh_data();
        let server = Server::start_over(data.path(), &[Guest::Spawning]);
        Self { data, server }
    }

    fn kill_and_restart(&mut self) {
        self.server.process.signal(Signal::KILL);
        self.server.process.wait();
        self.server = Server::start_over(self.data.path(), &[Guest::Spawning]);
    }

    #[track_caller]
    fn call(&self, function: &str, input: Value) -> Value {
        let reply = self.server.post(&format!("/spawning/{function}"), &input.to_string());
        assert_eq!(reply.status, 200, "{function}: {reply:#?}");
        reply.json()
    }

    /// Spawns a call from outside and returns its id.
    fn spawn(&self, function: &str, input: Value) -> String {
        let path = format!("/api/v1/apps/spawning/functions/{function}/calls");
        self.server.post(&path, &input.to_string()).json()["id"].as_str().unwrap().to_owned()
    }

    fn state(&self, id: &str) -> String {
        self.server.get(&format!("/api/v1/calls/{id}")).json()["state"].as_str().unwrap_or_default().to_owned()
    }

    fn wait_for_note(&self, name: &str) -> String {
        let mut noted = Value::Null;
        wait_until(name, || {
            noted = self.call("noted", json!({ "name": name }));
            noted.is_string()
        });
        noted.as_str().unwrap().to_owned()
    }

    fn delete(&self, path: &str) -> Value {
        self.server.exchange(&format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).json()
    }

    fn is_idle(&self) -> bool {
        let list = self.server.get("/api/v1/calls").json();
        list["live"] == json!([]) && list["waiting"] == 0 && list["maps"] == 0
    }
}

#[test]
fn a_function_spawns_and_reads_what_became_of_it() {
    let mut deck = Deck::start();
    assert_eq!(deck.call("spawn_and_wait", json!({ "n": 21 })), 42);
    let spawned = deck.call("spawn_behind", json!({ "gate": "g", "n": 4 }));
    let id = spawned[0].as_str().unwrap().to_owned();
    assert_eq!(spawned[1], false);
    assert_eq!(deck.call("look", json!({ "call": id })), Value::Null);
    deck.kill_and_restart();
    deck.call("open_gate", json!({ "gate": "g" }));
    assert_eq!(deck.call("wait_for", json!({ "call": id })), 8);
    assert_eq!(deck.call("look", json!({ "call": id })), 8);
    assert_eq!(deck.call("cancel", json!({ "call": id })), false);
    // What is no call of this app is not there.
    let unknown = deck.server.post("/spawning/look", r#"{"call":"0199c0de-0000-7000-8000-000000000000"}"#);
    assert_eq!(unknown.status, 500, "{unknown:#?}");
    assert_eq!(unknown.json()["code"], "terminal");
}

#[test]
fn a_map_that_a_function_spawned_is_read_by_index_and_in_both_orders() {
    let mut deck = Deck::start();
    let map = deck.call("map_behind", json!({ "gate": "m", "numbers": [1, 2, 2_000, 4] }));
    wait_until("what has no gate to end", || {
        deck.call("progress", json!({ "map": map }))[3] == 0
            && deck.call("look_at", json!({ "map": map, "index": 0 })) == 2
    });
    assert_eq!(deck.call("look_at", json!({ "map": map, "index": 1 })), Value::Null);
    deck.kill_and_restart();
    deck.call("open_gate", json!({ "gate": "m" }));
    let read = deck.call("read", json!({ "map": map }));
    assert_eq!(read[0].as_array().unwrap().len(), 4, "{read}");
    assert_eq!(read[0][0]["Ok"], 2);
    assert_eq!(read[0][3]["Ok"], 8);
    assert!(read[0][2]["Err"].is_string(), "{read}");
    let mut completed: Vec<u64> = read[1].as_array().unwrap().iter().map(|index| index.as_u64().unwrap()).collect();
    completed.sort_unstable();
    assert_eq!(completed, [0, 1, 2, 3]);
    assert_eq!(deck.call("progress", json!({ "map": map })), json!([4, 3, 1, 0, true]));
    assert_eq!(deck.call("sum_of_sums", json!({ "rows": [[1, 2], [3], []] })), 12);
}

#[test]
fn children_are_cancelled_with_their_parent() {
    let deck = Deck::start();
    let parent = deck.spawn("nest", json!({ "gate": "never", "depth": 2 }));
    let ids: Vec<String> = (0..=2).map(|depth| deck.wait_for_note(&format!("never-{depth}"))).collect();
    let cancelled = deck.delete(&format!("/api/v1/calls/{parent}"));
    assert_eq!(cancelled["state"], "cancelled");
    for id in &ids {
        wait_until("the child to be cancelled", || deck.state(id) == "cancelled");
    }
    // Also those of a call that is made in memory on the way, and maps.
    let parent = deck.spawn("nest_in_memory", json!({ "gate": "gone" }));
    let map = deck.wait_for_note("gone-map");
    let call = deck.wait_for_note("gone-0");
    deck.delete(&format!("/api/v1/calls/{parent}"));
    wait_until("the call to be cancelled", || deck.state(&call) == "cancelled");
    wait_until("the map to be cancelled", || {
        deck.server.get(&format!("/api/v1/maps/{map}")).json()["state"] == "cancelled"
    });
    wait_until("nothing to be left", || deck.is_idle());
}

#[test]
fn a_bomb_of_spawns_ends_by_itself() {
    let deck = Deck::start();
    deck.spawn("bomb", json!({}));
    // 1 + 2 + 4 + 8: calls nest four deep.
    wait_until("the calls to end", || deck.is_idle() && deck.call("bombed", json!({ "bucket": "bomb" }))[0] == 15);
    assert_eq!(deck.call("bombed", json!({ "bucket": "bomb" }))[1], "depth-exceeded");
    deck.spawn("map_bomb", json!({ "width": 3 }));
    wait_until("the maps to end", || deck.is_idle() && deck.call("bombed", json!({ "bucket": "map-bomb" }))[0] == 40);
    assert_eq!(deck.call("bombed", json!({ "bucket": "map-bomb" }))[1], "depth-exceeded");
    // Parents that wait for their children leave them their places.
    assert_eq!(deck.call("tree", json!({ "width": 6, "depth": 3 })), 216);
    let held = deck.call("hold_maps", json!({}));
    assert!(held[0].as_u64().unwrap() > 0 && held[1] == "overloaded", "{held}");
    assert_eq!(deck.call("spawn_and_wait", json!({ "n": 1 })), 2);
}

#[test]
fn without_a_host_that_keeps_calls_there_is_none() {
    let output = crate::support::bireme(&["run", &crate::support::function(Guest::Spawning, "spawn_and_wait"), "1"]);
    assert_eq!(output.status, 69, "{output:#?}");
    assert!(output.stderr.contains("bireme serve"), "{output:#?}");
}
