//! Expositions, parsed strictly.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::call::{FailureCode, Receipt};
use crate::ids::{AppName, FunctionName};

/// Parses an exposition of the text format by its grammar: samples by name and labels.
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut families) = (BTreeMap::new(), Vec::new());
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
            && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let mut kind = "";
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && !families.contains(&name), "{line}");
            assert!(name.starts_with("bireme_"), "{line}");
            families.push(name);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, of_type) = typed.split_once(' ').unwrap();
            assert_eq!(families.last(), Some(&name));
            assert_eq!(of_type == "counter", name.ends_with("_total"), "{line}");
            assert_eq!(of_type == "histogram", name.ends_with("_duration_seconds") || name.ends_with("queue_seconds"));
            assert!(matches!(of_type, "counter" | "gauge" | "histogram"), "{line}");
            kind = of_type;
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| family.strip_suffix(suffix));
            let owner = if kind == "histogram" { of_histogram.unwrap() } else { family };
            assert_eq!(families.last(), Some(&owner), "a sample stands in its family: {line}");
            if let Some(labels) = name.strip_prefix(family).filter(|labels| !labels.is_empty()) {
                let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix("\"}")).unwrap();
                for label in labels.split("\",") {
                    let (label, value) = label.split_once("=\"").unwrap();
                    let unescaped = value.replace("\\\\", "").replace("\\\"", "").replace("\\n", "");
                    assert!(is_name(label) && !unescaped.contains(['"', '\\']), "{line}");
                }
            }
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    samples
}

pub(crate) fn metrics() -> Arc<Metrics> {
    Metrics::new(["/metrics", "/api/v1/calls/{id}"])
}

pub(crate) fn samples(metrics: &Metrics, sources: Vec<Box<dyn Source>>) -> BTreeMap<String, f64> {
    parse(&metrics.exposition(Format::Text, sources))
}

#[track_caller]
pub(crate) fn check(samples: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        assert_eq!(samples.get(*name), Some(value), "{name} in {samples:#?}");
    }
}

#[test]
fn a_host_that_did_nothing_says_so() {
    let samples = samples(&metrics(), Vec::new());
    check(&samples, &[("bireme_store_commits_total", 0.0), ("bireme_http_connections", 0.0)]);
    check(&samples, &[(&format!("bireme_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0)]);
    assert!(samples.keys().all(|name| !name.contains("route=")));
}

#[test]
fn calls_count_by_app_function_and_outcome() {
    let metrics = metrics();
    let names = ["f", "g"].map(|name| FunctionName::new(name).unwrap());
    let counters = metrics.calls.deploy(&AppName::new("a").unwrap(), &names);
    let ran = |wall_us| Receipt { attempts: 2, wall_us, queue_us: 10, ..Receipt::default() };
    counters[0].count_attempt(1);
    counters[0].count_attempt(2);
    counters[0].begin().end(None, &ran(2_000));
    counters[1].begin().end(Some(FailureCode::Failed), &ran(7_000));
    counters[1].begin().end(Some(FailureCode::Overloaded), &Receipt::default());
    counters[1].count_map_input(Some(FailureCode::Timeout), &ran(1));
    check(
        &samples(&metrics, Vec::new()),
        &[
            ("bireme_calls_total{app=\"a\",function=\"f\",outcome=\"done\"}", 1.0),
            ("bireme_calls_total{app=\"a\",function=\"g\",outcome=\"done\"}", 0.0),
            ("bireme_calls_total{app=\"a\",function=\"g\",outcome=\"failed\"}", 1.0),
            ("bireme_calls_total{app=\"a\",function=\"g\",outcome=\"overloaded\"}", 1.0),
            ("bireme_calls_total{app=\"a\",function=\"g\",outcome=\"timeout\"}", 1.0),
            ("bireme_call_attempts_total{app=\"a\",function=\"f\"}", 2.0),
            ("bireme_call_retries_total{app=\"a\",function=\"f\"}", 1.0),
            ("bireme_calls_refused_total{app=\"a\"}", 1.0),
            ("bireme_map_inputs_total{app=\"a\",outcome=\"timeout\"}", 1.0),
            ("bireme_call_duration_seconds_bucket{app=\"a\",le=\"0.0025\"}", 2.0),
            ("bireme_call_duration_seconds_bucket{app=\"a\",le=\"+Inf\"}", 3.0),
            ("bireme_call_duration_seconds_sum{app=\"a\"}", 0.009_001),
            ("bireme_call_queue_seconds_count{app=\"a\"}", 3.0),
        ],
    );
}

#[test]
fn requests_connections_and_commits_are_counted() {
    let metrics = metrics();
    metrics.http.count_request(RouteLabel::Host("/metrics"), 200);
    metrics.http.count_request(RouteLabel::App, 503);
    metrics.http.count_request(RouteLabel::App, 599);
    metrics.http.count_request(RouteLabel::Unmatched, 404);
    metrics.http.count_request(RouteLabel::Host("/no/such/route"), 200);
    let (open, closed) = (metrics.http.open_connection(), metrics.http.open_connection());
    drop(closed);
    metrics.store.count_commit(Duration::from_millis(3), true);
    metrics.store.count_commit(Duration::from_secs(9), false);
    let samples = samples(&metrics, Vec::new());
    drop(open);
    check(
        &samples,
        &[
            ("bireme_http_requests_total{route=\"/metrics\",status=\"2xx\"}", 1.0),
            ("bireme_http_requests_total{route=\"app\",status=\"5xx\"}", 2.0),
            ("bireme_http_requests_total{route=\"unmatched\",status=\"4xx\"}", 1.0),
            ("bireme_http_connections", 1.0),
            ("bireme_store_commits_total", 1.0),
            ("bireme_store_commits_failed_total", 1.0),
            ("bireme_store_commit_duration_seconds_sum", 0.003),
        ],
    );
    assert!(!samples.keys().any(|name| name.contains("/no/such/route")));
}

#[test]
fn openmetrics_has_the_same_samples_and_an_end() {
    let metrics = metrics();
    metrics.http.count_request(RouteLabel::App, 200);
    let text = metrics.exposition(Format::OpenMetrics, Vec::new());
    assert!(text.ends_with("\n# EOF\n"));
    let names = |text: &str| {
        // The two write a bucket's labels in another order.
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("le="));
        let mut names: Vec<String> = lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
        names.sort_unstable();
        names
    };
    let plain = metrics.exposition(Format::Text, Vec::new());
    assert_eq!(names(&text), names(&plain));
}
