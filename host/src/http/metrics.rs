//! Metrics for Prometheus, `/metrics`, in the format that `accept` asks for.
//!
//! Not here: the counting (`metrics` and its users). Reads what is not counted at each scrape: queues, bytes, the disk.

use http::{HeaderMap, HeaderValue, Response, header};

use super::backend::Backend;
use super::request_body::RequestBodies;
use super::respond::{ResponseBody, full_body};
use crate::metrics::{Format, Gauge, Source};
use crate::tasks;

/// Returns the metrics.
pub(crate) async fn response(backend: &Backend, bodies: &RequestBodies, headers: &HeaderMap) -> Response<ResponseBody> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::of_accept(&accept.collect::<Vec<_>>().join(","));
    let (metrics, store) = (backend.metrics.clone(), backend.store.clone());
    let mut sources: Vec<Box<dyn Source>> =
        vec![Box::new(backend.inference.stats()), Box::new(gauges(backend, bodies))];
    // A slow disk must not hold a thread of the calls, nor must a long text.
    let exposition = tasks::blocking(move || {
        match store.disk_usage() {
            Ok(usage) => sources.push(Box::new(vec![
                gauge("store_size_bytes", "Size of the database file", usage.database_bytes),
                gauge("disk_size_bytes", "Size of the disk of the data directory", usage.disk_bytes),
                gauge("disk_free_bytes", "Bytes that may still be written to that disk", usage.free_bytes),
            ])),
            Err(error) => tracing::debug!(%error, "the disk of the data directory cannot be read"),
        }
        metrics.exposition(format, sources)
    });
    let mut response = Response::new(full_body(exposition.await));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

fn gauges(backend: &Backend, bodies: &RequestBodies) -> Vec<Gauge> {
    let Backend { dispatcher, durable, logs, budgets, .. } = backend;
    let (slots_used, calls_waiting) = dispatcher.load();
    let (durable_calls, durable_maps) = durable.load();
    let quarantined = "Rows that cannot be read; their calls and maps are neither run nor shown";
    [
        ("slots", "Slots: calls that can run at a time", dispatcher.slots()),
        ("slots_used", "Slots that a call holds", slots_used),
        ("calls_waiting", "Calls that wait for a slot, or for others of their batch", calls_waiting),
        ("durable_calls_waiting", "Durable calls that have not begun, or wait for another attempt", durable_calls),
        ("durable_maps_open", "Durable maps that have not ended", durable_maps),
        ("quarantined_rows", quarantined, durable.quarantined()),
        ("request_body_bytes", "Bytes held of request bodies", bodies.held_bytes() as usize),
        (
            "sandbox_bytes",
            "Bytes held of memory for running calls and unread answers",
            budgets.sandboxes.used() as usize,
        ),
        ("sandbox_bytes_max", "Bytes that running calls and unread answers may hold", budgets.plan.sandboxes as usize),
        ("map_bytes", "Bytes held of inputs and outcomes of maps", budgets.maps.used() as usize),
        ("log_bytes", "Bytes held of log lines", logs.bytes()),
    ]
    .map(|(name, help, value)| gauge(name, help, value as u64))
    .into()
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Gauge {
    Gauge { name, help, value }
}
