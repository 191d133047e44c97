//! Durable calls and maps over HTTP, where clients meet or go away.

use std::io::Write;
use std::net::TcpStream;

use serde_json::Value;

use crate::support::{Guest, Reply, Server, post, wait_until, with_token};

/// Makes a map of numbers that are squared, and returns its path.
fn map(server: &Server) -> String {
    let made = post(server.address, "/api/v1/apps/hello/functions/square/maps", "");
    assert_eq!(made.status, 201, "{made:?}");
    format!("/api/v1/maps/{}", made.json()["id"].as_str().unwrap())
}

fn delete(server: &Server, path: &str) -> Reply {
    server.exchange(&format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
}

fn under_way(server: &Server) -> (Value, Value) {
    let list = server.get("/api/v1/calls?limit=1").json();
    (list["waiting"].clone(), list["maps"].clone())
}

#[test]
fn clients_that_append_at_the_same_time_lose_nothing() {
    let server = Server::start(&[Guest::Hello]);
    let map = map(&server);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (server, map) = (&server, &map);
            scope.spawn(move || {
                for n in 0..8 {
                    let appended = server.post(&format!("{map}/inputs"), &format!("{}", client * 8 + n));
                    assert_eq!(appended.status, 200, "{appended:?}");
                }
            });
        }
    });
    assert_eq!(server.get(&map).json()["counts"]["accepted"], 64);
    let mut inputs: Vec<_> =
        (0..64).map(|n| server.get(&format!("{map}/inputs/{n}")).json()["input"].as_u64().unwrap()).collect();
    inputs.sort_unstable();
    assert_eq!(inputs, (0..64).collect::<Vec<_>>());
}

#[test]
fn a_cancel_takes_effect_though_its_client_is_gone() {
    let server = Server::start(&[Guest::Hello]);
    let maps: Vec<_> = (0..30).map(|_| map(&server)).collect();
    for map in &maps {
        let mut client = TcpStream::connect(server.address).unwrap();
        let request = format!("DELETE {map} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        client.write_all(&with_token(request.as_bytes())).unwrap();
    }
    // Each may have been heard or not; none is cancelled on disk and open in memory.
    for map in &maps {
        wait_until("what is cancelled has ended", || {
            let map = server.get(map).json();
            map["state"] == "open" || map["ended_ms"].is_u64()
        });
        assert_eq!(delete(&server, map).json()["state"], "cancelled");
    }
    wait_until("no map is under way", || under_way(&server) == (0.into(), 0.into()));
}

#[test]
fn a_map_that_has_ended_stays_as_it_was() {
    let server = Server::start(&[Guest::Hello]);
    for _ in 0..20 {
        let map = map(&server);
        server.post(&format!("{map}/inputs"), "3");
        server.post(&format!("{map}/close"), "");
        wait_until("the map has ended", || server.get(&map).json()["ended_ms"].is_u64());
        assert_eq!(delete(&server, &map).json()["state"], "done");
        assert_eq!(server.get(&map).json()["state"], "done");
    }
}

#[test]
fn what_was_cancelled_begins_anew() {
    let server = Server::start(&[Guest::Hostile]);
    let made = post(server.address, "/api/v1/apps/hostile/functions/sleeps/maps", "");
    let map = format!("/api/v1/maps/{}", made.json()["id"].as_str().unwrap());
    server.post(&format!("{map}/inputs"), &"200\n".repeat(100));
    assert_eq!(delete(&server, &map).json()["state"], "cancelled");
    let again = server.post(&format!("{map}/retry-failed"), "");
    assert_eq!(again.status, 200, "{again:?}");
    wait_until("it has ended", || server.get(&map).json()["counts"]["done"] == 100);
    // Nobody's host died, so nobody needed a second attempt.
    for index in [0, 50, 99] {
        assert_eq!(server.get(&format!("{map}/results/{index}")).json()["attempt"], 1);
    }
}
