//! Counters of HTTP requests, by route and status class, and of open connections.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::families::{Families, Source};
use super::shards::{Count, Shard, Sharded};

/// Labels of status classes, from 1xx on.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See the module.
#[derive(Debug)]
pub struct HttpCounters {
    routes: BTreeMap<&'static str, RouteCounters>,
    connections: AtomicU64,
}

type RouteCounters = Sharded<[Count; CLASSES.len()]>;

/// Route of a request, as a label. No path that a client chose is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteLabel {
    /// Path pattern of one of the host's own routes.
    Host(&'static str),
    /// Path below an app's name.
    App,
    /// Neither, or refused before it was routed.
    Unmatched,
}

impl RouteLabel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Host(path) => path,
            Self::App => "app",
            Self::Unmatched => "unmatched",
        }
    }
}

impl HttpCounters {
    pub(super) fn new(routes: impl IntoIterator<Item = &'static str>) -> Self {
        let labels = [RouteLabel::App, RouteLabel::Unmatched].map(RouteLabel::as_str);
        let routes = routes.into_iter().chain(labels).map(|route| (route, RouteCounters::default())).collect();
        Self { routes, connections: AtomicU64::new(0) }
    }

    /// Counts a request whose response begins.
    pub(crate) fn count_request(&self, route: RouteLabel, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        // The table never changes, so this takes no lock.
        if let Some(counters) = self.routes.get(route.as_str()) {
            let shard = Shard::here();
            counters.at(shard)[class].add(shard, 1);
        }
    }

    /// Counts a connection as open until the result is dropped.
    pub(crate) fn open_connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }
}

/// Open connection.
#[must_use = "it counts until it is dropped"]
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<HttpCounters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Source for HttpCounters {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        let samples = self.routes.iter().flat_map(|(route, counters)| {
            let count = |class: usize| counters.sum(|counts| &counts[class]);
            let counts = (0..CLASSES.len()).map(move |class| (class, count(class))).filter(|(_, count)| *count > 0);
            counts.map(|(class, count)| ([("route", *route), ("status", CLASSES[class])], count))
        });
        families.counters("http_requests", "HTTP requests, by route and class of the response's status", samples)?;
        let connections = self.connections.load(Ordering::Relaxed);
        families.gauges("http_connections", "Open HTTP connections", [([], connections)])
    }
}
