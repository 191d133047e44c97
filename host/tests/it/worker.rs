//! The worker process: its death costs a retry, and it does not outlive its host.

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{self, Guest, MODEL, Server, children_as, data_without_models, signal_process, stat, wait_until};
use crate::tiny::{HIDDEN, Tiny};

/// Text enough for a batch that runs for a while.
fn long_texts(count: usize) -> String {
    let text = |index: usize| format!("passage {index}: ") + &"the galley has two decks of oars ".repeat(80);
    json!({ "texts": (0..count).map(text).collect::<Vec<_>>() }).to_string()
}

/// Starts a server whose worker runs and has the model.
fn start() -> (TempDir, Server, u32) {
    let data = data_without_models();
    Tiny::slow().install(&data.path().join("models").join(MODEL));
    let server = Server::start_over(data.path(), &[Guest::DocsSearch]);
    let reply = server.post("/docs-search/embed", r#"{"texts":["warm"]}"#);
    assert_eq!(reply.status, 200, "{reply:#?}");
    let worker = worker(&server);
    (data, server, worker)
}

#[track_caller]
fn worker(server: &Server) -> u32 {
    match children_as("worker", server.process.pid())[..] {
        [worker] => worker,
        ref others => panic!("one worker expected, not {others:?}"),
    }
}

/// Waits until a worker has computed for a while since it had `before` ticks.
fn wait_until_busy(worker: u32, before: u64) {
    wait_until("the worker runs the batch", || stat(worker).is_some_and(|stat| stat.cpu_ticks >= before + 10));
}

#[test]
fn a_worker_that_is_killed_in_a_batch_costs_no_call() {
    let (_data, server, first) = start();
    let before = stat(first).unwrap().cpu_ticks;
    let texts = long_texts(60);
    let (address, body) = (server.address, texts.clone());
    let call = std::thread::spawn(move || support::post(address, "/docs-search/embed", &body));
    wait_until_busy(first, before);
    signal_process(first, Signal::KILL);

    let reply = call.join().unwrap();
    assert_eq!(reply.status, 200, "{reply:#?}");
    let vectors: Vec<Vec<f32>> = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(vectors.len(), 60);
    assert!(vectors.iter().all(|vector| vector.len() == HIDDEN));
    // The batch ran again by itself: the function was not.
    let receipt: Value = serde_json::from_str(reply.header("bireme-receipt").unwrap()).unwrap();
    assert_eq!(receipt["attempts"], 1);

    wait_until("the first worker is gone", || stat(first).is_none());
    let reply = server.post("/docs-search/embed", r#"{"texts":["again"]}"#);
    assert_eq!(reply.status, 200, "{reply:#?}");
    assert_ne!(worker(&server), first);
}

#[test]
fn a_worker_that_is_killed_at_rest_is_started_again_by_the_next_call() {
    let (_data, server, first) = start();
    signal_process(first, Signal::KILL);
    wait_until("the worker is gone", || stat(first).is_none());
    let reply = server.post("/docs-search/embed", r#"{"texts":["again"]}"#);
    assert_eq!(reply.status, 200, "{reply:#?}");
    assert_ne!(worker(&server), first);
}

#[test]
fn a_worker_ends_with_a_host_that_is_killed() {
    let (_data, server, worker) = start();
    server.process.signal(Signal::KILL);
    wait_until("the worker is gone", || stat(worker).is_none());
}

#[test]
fn a_worker_ends_with_a_host_that_is_killed_during_a_batch() {
    let (_data, server, worker) = start();
    let before = stat(worker).unwrap().cpu_ticks;
    let address = server.address;
    let call = std::thread::spawn(move || {
        let mut connection = support::Connection::open(address);
        let body = long_texts(60);
        let head =
            format!("POST /docs-search/embed HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.send((head + &body).as_bytes());
        connection.is_at_end()
    });
    wait_until_busy(worker, before);
    server.process.signal(Signal::KILL);
    wait_until("the worker is gone", || stat(worker).is_none());
    call.join().unwrap();
}

#[test]
fn a_worker_ends_with_a_host_that_stops() {
    let (_data, mut server, worker) = start();
    assert_eq!(server.stop(), 0);
    assert!(stat(worker).is_none());
}
