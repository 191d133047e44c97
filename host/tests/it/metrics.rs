//! `/metrics`: what an operator's Prometheus reads after calls of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::{Guest, Server, crate_dir, fresh_data, wait_until};

/// Samples of the host, by name and labels.
fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let reply = server.get("/metrics");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = reply.body.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}")));
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[track_caller]
fn check(server: &Server, expected: &[(&str, f64)]) {
    let samples = scrape(server);
    for (name, value) in expected {
        assert_eq!(samples.get(*name), Some(value), "{name} in {samples:#?}");
    }
}

#[test]
fn calls_of_every_kind_are_counted() {
    let data = fresh_data();
    let (apps, secrets) = ([Guest::Hello, Guest::Authored], ["--secret", "API_KEY=k"]);
    let server = Server::try_start(data.path(), &apps, &secrets).unwrap_or_else(|output| panic!("{output:#?}"));
    assert_eq!(server.post("/hello/add", r#"{"a":1,"b":2}"#).status, 200);
    assert_eq!(server.post("/hello/add", r#"{"a":9223372036854775807,"b":1}"#).status, 500);
    assert_eq!(server.post("/hello/add", r#"{"a":1}"#).status, 400);
    assert_eq!(server.post("/hello/fan_out", r#"{"n":3}"#).body, "5");
    assert_eq!(server.post("/authored/flaky", "1").status, 200);
    let spawned = server.post("/api/v1/apps/hello/functions/square/calls", "4");
    assert_eq!(spawned.status, 202, "{spawned:#?}");
    let id = spawned.json()["id"].as_str().unwrap().to_owned();
    wait_until("the durable call is counted", || {
        scrape(&server)["bireme_calls_total{app=\"hello\",function=\"square\",outcome=\"done\"}"] == 4.0
    });
    assert_eq!(server.get(&format!("/api/v1/calls/{id}")).json()["state"], "done");
    assert_eq!(server.post("/no-such-app/f", "1").status, 404);
    check(
        &server,
        &[
            ("bireme_calls_total{app=\"hello\",function=\"add\",outcome=\"done\"}", 1.0),
            ("bireme_calls_total{app=\"hello\",function=\"add\",outcome=\"failed\"}", 1.0),
            ("bireme_calls_total{app=\"hello\",function=\"add\",outcome=\"invalid-input\"}", 1.0),
            ("bireme_calls_total{app=\"hello\",function=\"fan_out\",outcome=\"done\"}", 1.0),
            ("bireme_calls_total{app=\"hello\",function=\"whoami\",outcome=\"done\"}", 0.0),
            ("bireme_call_attempts_total{app=\"hello\",function=\"square\"}", 4.0),
            ("bireme_call_attempts_total{app=\"authored\",function=\"flaky\"}", 2.0),
            ("bireme_call_retries_total{app=\"authored\",function=\"flaky\"}", 1.0),
            ("bireme_calls_total{app=\"authored\",function=\"flaky\",outcome=\"done\"}", 1.0),
            ("bireme_map_inputs_total{app=\"hello\",outcome=\"done\"}", 3.0),
            ("bireme_call_duration_seconds_count{app=\"hello\"}", 8.0),
            ("bireme_call_queue_seconds_bucket{app=\"authored\",le=\"+Inf\"}", 1.0),
            ("bireme_calls_refused_total{app=\"hello\"}", 0.0),
            ("bireme_slots_used", 0.0),
            ("bireme_calls_waiting", 0.0),
            ("bireme_durable_calls_waiting", 0.0),
            ("bireme_durable_maps_open", 0.0),
            ("bireme_quarantined_rows", 0.0),
            ("bireme_request_body_bytes", 0.0),
            ("bireme_worker_restarts_total", 0.0),
            ("bireme_store_commits_failed_total", 0.0),
            ("bireme_http_requests_total{route=\"app\",status=\"2xx\"}", 3.0),
            ("bireme_http_requests_total{route=\"app\",status=\"4xx\"}", 2.0),
            ("bireme_http_requests_total{route=\"app\",status=\"5xx\"}", 1.0),
            ("bireme_http_requests_total{route=\"/api/v1/calls/{id}\",status=\"2xx\"}", 1.0),
        ],
    );
    let samples = scrape(&server);
    for name in [
        "bireme_slots",
        "bireme_http_connections",
        "bireme_log_bytes",
        "bireme_store_size_bytes",
        "bireme_disk_size_bytes",
        "bireme_disk_free_bytes",
        "bireme_store_commits_total",
        "bireme_store_commit_duration_seconds_sum",
    ] {
        assert!(samples[name] > 0.0, "{name} in {samples:#?}");
    }
    assert!(!samples.keys().any(|name| name.contains("no-such-app") || name.contains(&id)), "{samples:#?}");
}

#[test]
fn series_of_an_app_end_with_it() {
    let server = Server::start(&[Guest::Hello]);
    server.post("/hello/add", r#"{"a":1,"b":2}"#);
    check(&server, &[("bireme_calls_total{app=\"hello\",function=\"add\",outcome=\"done\"}", 1.0)]);
    let stop = "DELETE /api/v1/apps/hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(server.exchange(stop).status, 200);
    assert!(!scrape(&server).keys().any(|name| name.contains("\"hello\"")));
}

#[test]
fn the_documentation_has_every_name_with_its_type() {
    let server = Server::start(&[Guest::Hello]);
    // The first request is not counted before its response has begun.
    server.get("/healthz");
    // An app that keeps something; the space within its database is measured at the first look, beside the answer.
    assert_eq!(server.post("/hello/count", r#"{"key":"k"}"#).status, 200);
    wait_until("the space is measured", || scrape(&server).contains_key("bireme_store_free_bytes"));
    let text = server.get("/metrics").body;
    let typed = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    let exposed: BTreeSet<_> = text.lines().filter_map(typed).collect();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `bireme_")?.split(" | ");
        Some((format!("bireme_{}", cells.next()?.trim_end_matches('`')), cells.next()?.to_owned()))
    };
    let page = fs::read_to_string(crate_dir("../docs/metrics.md")).unwrap();
    let documented: BTreeSet<_> = page.lines().filter_map(row).collect();
    let of_models = ["bireme_model_waiting_rows", "bireme_model_workers", "bireme_model_memory_bytes"];
    let without_models = documented.into_iter().filter(|(name, _)| !of_models.contains(&name.as_str())).collect();
    assert_eq!(exposed, without_models);
}

#[test]
fn openmetrics_is_for_clients_that_ask_for_it() {
    let server = Server::start(&[]);
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let reply = server.exchange(&format!(
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: {accept}\r\n\r\n"
    ));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(reply.header("content-type"), Some(content_type));
    assert!(reply.body.ends_with("\n# EOF\n"), "{}", reply.body);
}
