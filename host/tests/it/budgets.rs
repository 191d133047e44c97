//! Budgets of a host: an app that uses up its part of slots or memory leaves the others theirs.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Guest, PATIENCE, Server, fresh_data, peak_bytes, wait_until};

const MIB: u64 = 1 << 20;
/// The smallest memory of a host, so that its budgets are soon used up.
const LITTLE: [&str; 2] = ["--memory-max", "1280MiB"];

fn start(more: &[&str]) -> (Server, tempfile::TempDir) {
    let data = fresh_data();
    let server = Server::try_start(data.path(), &[Guest::Hello, Guest::Hostile], more);
    (server.unwrap_or_else(|output| panic!("no server: {output:#?}")), data)
}

#[track_caller]
fn other_app_runs(server: &Server) {
    assert_eq!(server.post("/hello/add", r#"{"a":1,"b":2}"#).body, "3");
}

/// Returns the value of a metric without labels.
fn gauge(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("bireme_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// Sends a request for an answer of `bytes` and reads its status alone.
fn ask_without_reading(server: &Server, bytes: u64) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = bytes.to_string();
    let length = body.len();
    let head = "POST /hostile/big_output HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    write!(stream, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status).unwrap();
    (stream, String::from_utf8_lossy(&status[status.len() - 3..]).into_owned())
}

#[test]
fn answers_that_are_not_read_use_up_the_memory_of_their_app_alone() {
    let (server, _data) = start(&LITTLE);
    other_app_runs(&server);
    let before = peak_bytes(server.process.pid());
    let bytes_max = gauge(&server, "sandbox_bytes_max");
    let answer_bytes = 7 * MIB;
    // Twice as many as there is room for.
    let unread: Vec<_> =
        (0..2 * bytes_max / answer_bytes).map(|_| ask_without_reading(&server, answer_bytes)).collect();
    let (held, refused): (Vec<_>, Vec<_>) = unread.iter().partition(|(_, status)| status == "200");
    assert!(!held.is_empty() && refused.iter().all(|(_, status)| status == "503"), "{unread:?}");
    assert!(refused.len() as u64 >= bytes_max / answer_bytes, "{} of {} were refused", refused.len(), unread.len());
    other_app_runs(&server);
    let grown = peak_bytes(server.process.pid()) - before;
    assert!(grown < bytes_max + 100 * MIB, "it grew by {} MiB of {}", grown / MIB, bytes_max / MIB);
    drop(unread);
    wait_until("the memory is given back", || gauge(&server, "sandbox_bytes") == 0);
    assert_eq!(ask_without_reading(&server, answer_bytes).1, "200");
}

#[test]
fn an_app_that_sleeps_in_every_slot_leaves_the_others_theirs() {
    let (server, _data) = start(&LITTLE);
    let slots = gauge(&server, "slots");
    assert!(slots < 200, "{slots} slots are too many for this test");
    let inputs = "600000\n".repeat(64);
    let maps: Vec<String> = (0..slots.div_ceil(64) + 1)
        .map(|_| {
            let created = server.post("/api/v1/apps/hostile/functions/sleeps_long/maps", "").json();
            let id = created["id"].as_str().unwrap().to_owned();
            let path = format!("/api/v1/maps/{id}/inputs");
            assert_eq!(server.post(&path, &inputs).json()["accepted"], 64);
            id
        })
        .collect();
    let mut used = 0;
    wait_until("the maps take no more slots", || {
        let now = gauge(&server, "slots_used");
        let is_steady = now > slots / 2 && now == used;
        used = now;
        is_steady
    });
    assert!(used < slots, "all of {slots} slots are taken");
    for _ in 0..20 {
        other_app_runs(&server);
    }
    for id in maps {
        let cancelled = server
            .exchange(&format!("DELETE /api/v1/maps/{id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
        assert_eq!(cancelled.status, 200, "{cancelled:?}");
    }
    wait_until("the slots are given back", || gauge(&server, "slots_used") == 0);
}

#[test]
fn maps_beyond_the_slots_wait_with_few_calls_each() {
    let (server, _data) = start(&LITTLE);
    let inputs = "600000\n".repeat(64);
    let maps = 40;
    for _ in 0..maps {
        let created = server.post("/api/v1/apps/hostile/functions/sleeps_long/maps", "").json();
        let path = format!("/api/v1/maps/{}/inputs", created["id"].as_str().unwrap());
        assert_eq!(server.post(&path, &inputs).json()["accepted"], 64);
    }
    wait_until("slots are taken", || gauge(&server, "slots_used") > gauge(&server, "slots") / 2);
    // All but 256, those of the maps that began before there were as many, and one of each map.
    let waiting = gauge(&server, "calls_waiting");
    assert!((maps..256 + 4 * 64 + maps).contains(&waiting), "{waiting} calls wait of {}", maps * 64);
    other_app_runs(&server);
}

#[test]
fn a_host_starts_with_no_more_memory_than_the_machine_has_and_no_less_than_it_needs() {
    for size in ["1GiB", "100TiB"] {
        let data = fresh_data();
        let refused = Server::try_start(data.path(), &[Guest::Hello], &["--memory-max", size]).err().unwrap();
        let message = refused.json()["error"]["message"].clone();
        let message = message.as_str().unwrap();
        assert!(message.contains("--memory-max") && message.contains("1280 MiB"), "{refused:?}");
    }
}
