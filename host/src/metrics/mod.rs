//! Metrics of a host: counters that its parts add to, and their exposition in the two text formats of Prometheus.
//!
//! The counters are plain numbers behind typed handles, which the start-up code hands to each part; there is no global
//! registry. Values that a part knows anyway (queue lengths, free disk) are read at each scrape: its [`Source`].
//!
//! Not here: the path `/metrics` (`http`). The only module that knows `prometheus_client`.
//!
//! Invariants: every name begins with `bireme_` and is in `docs/metrics.md`; no label value is a client's choice; at
//! most `METRICS_APPS_MAX` apps and `METRICS_FUNCTIONS_MAX` functions have series of their own, the rest share those of
//! `other`; counting a call takes no lock and no allocation.

mod calls;
mod families;
mod format;
mod histogram;
mod http;
mod shards;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

pub(crate) use self::calls::{CallCounters, FunctionCounters};
pub(crate) use self::families::{Families, Gauge, Source};
pub(crate) use self::format::Format;
pub(crate) use self::http::{HttpCounters, RouteLabel};
pub(crate) use self::store::StoreCounters;

/// Counters of one host.
#[derive(Debug)]
pub struct Metrics {
    pub calls: Arc<CallCounters>,
    pub http: Arc<HttpCounters>,
    pub store: Arc<StoreCounters>,
}

impl Metrics {
    /// Counters at zero; `routes` are the path patterns that requests are counted by.
    pub(crate) fn new(routes: impl IntoIterator<Item = &'static str>) -> Arc<Self> {
        let (calls, store) = Default::default();
        Arc::new(Self { calls, store, http: Arc::new(HttpCounters::new(routes)) })
    }

    /// Returns the exposition of all counters and of `sources`.
    pub(crate) fn exposition(&self, format: Format, sources: Vec<Box<dyn Source>>) -> String {
        let mut registry = Registry::with_prefix("bireme");
        registry.register_collector(Box::new(BuildInfo));
        registry.register_collector(Box::new(Collected(self.calls.clone())));
        registry.register_collector(Box::new(Collected(self.http.clone())));
        registry.register_collector(Box::new(Collected(self.store.clone())));
        for source in sources {
            registry.register_collector(Box::new(Collected(source)));
        }
        let mut exposition = String::new();
        let written = match format {
            Format::OpenMetrics => text::encode(&mut exposition, &registry),
            Format::Text => prometheus_text::encode(&mut exposition, &registry),
        };
        written.expect("a string takes everything");
        exposition
    }
}

/// Source as `prometheus_client` asks for it.
#[derive(Debug)]
struct Collected<S>(S);

impl<S: Source> Collector for Collected<S> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut Families::new(encoder))
    }
}

/// Version of this host.
#[derive(Debug)]
struct BuildInfo;

impl Collector for BuildInfo {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Families::new(encoder).info("build", "Version of this host", &[("version", env!("CARGO_PKG_VERSION"))])
    }
}
