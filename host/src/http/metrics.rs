//! Metrics for Prometheus, `/metrics`, in the format that `accept` asks for.
//!
//! Not here: the counting (`metrics` and its users). Reads what is not counted at each scrape: queues, bytes, the disk.

use std::fmt;

use http::{HeaderMap, HeaderValue, Response, header};

use super::backend::Backend;
use super::request_body::RequestBodies;
use super::respond::{ResponseBody, full_body};
use crate::limits::METRICS_APPS_MAX;
use crate::metrics::{Families, Format, Gauge, Source};
use crate::store::StoreDir;
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
        sources.push(Box::new(AppsDisk::read(&store)));
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
    let clock_ahead = "Seconds that the clock has jumped ahead of the time that retention goes by";
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
        ("retention_clock_ahead_seconds", clock_ahead, durable.clock_ahead().as_secs() as usize),
        ("log_bytes", "Bytes held of log lines", logs.bytes()),
    ]
    .map(|(name, help, value)| gauge(name, help, value as u64))
    .into()
}

/// What each app keeps on disk, and its quota.
#[derive(Debug)]
struct AppsDisk {
    used_bytes: Vec<(Box<str>, u64)>,
    quota_bytes: Option<u64>,
    /// Free within the database's file.
    free_bytes: Option<u64>,
}

impl AppsDisk {
    fn read(store: &StoreDir) -> Self {
        let mut used_bytes: Vec<_> = store.usage().into_iter().map(|(app, usage)| (app, usage.bytes)).collect();
        used_bytes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        // The largest have series of their own.
        if let Some(others) = used_bytes.get(METRICS_APPS_MAX..).filter(|others| !others.is_empty()) {
            let others = others.iter().map(|(_, bytes)| bytes).sum();
            used_bytes.truncate(METRICS_APPS_MAX);
            used_bytes.push(("other".into(), others));
        }
        Self { used_bytes, quota_bytes: store.app_disk_max(), free_bytes: store.space_bytes() }
    }
}

impl Source for AppsDisk {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        let over = self.quota_bytes.map(|quota| self.used_bytes.iter().filter(|(_, bytes)| *bytes > quota).count());
        let used = self.used_bytes.iter().map(|(app, bytes)| ([("app", &**app)], *bytes));
        families.gauges("app_disk_bytes", "Bytes that an app keeps on disk", used)?;
        let quota = self.quota_bytes.map(|bytes| ([], bytes));
        families.gauges("app_disk_quota_bytes", "Bytes that each app may keep on disk", quota)?;
        let over = over.map(|apps| ([], apps as u64));
        families.gauges("apps_over_disk_quota", "Apps that keep more: their writes are refused", over)?;
        let free = self.free_bytes.map(|bytes| ([], bytes));
        families.gauges("store_free_bytes", "Bytes free within the database file, as last measured", free)
    }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Gauge {
    Gauge { name, help, value }
}
