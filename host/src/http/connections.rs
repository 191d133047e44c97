//! Bounded set of open connections: a new one replaces the longest idle one.
//!
//! Idle means that no request is under way: nothing or half a head came, or every response was sent. Such a connection
//! may end at any moment anyway, as after `HTTP_HEADER_TIMEOUT`. Where all are busy, a new connection gets 503 at once.
//!
//! Invariants: no more connections are open than permitted, those included that are about to be closed; a request that
//! has begun is never cut off for another connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Response, StatusCode, header};
use tokio::net::TcpStream;
use tokio::task::{self, AbortHandle, JoinSet};

use super::activity::{Activity, TrackedBody};
use super::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::codes::Code;

/// Refused connections that stay open for a while. Their descriptors are of those reserved for the rest of the host.
const REFUSED_OPEN_MAX: usize = 8;
/// Interval between two warnings that all connections are taken.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Open connections of one server. Dropping it cuts them off.
pub(crate) struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<task::Id, (Arc<Activity>, AbortHandle)>,
    /// Connections that got 503, oldest first.
    refused: VecDeque<TcpStream>,
    connections_max: usize,
    began: Instant,
    /// Time of the last warning that all connections are taken.
    warned_at: Option<Instant>,
}

impl Connections {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            tasks: JoinSet::new(),
            open: HashMap::new(),
            refused: VecDeque::new(),
            connections_max,
            began: Instant::now(),
            warned_at: None,
        }
    }

    /// Makes room for one more connection, and evicts the longest idle one for it; false if all are busy.
    pub(crate) async fn make_room(&mut self) -> bool {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.remove(ended);
        }
        if self.open.len() < self.connections_max {
            return true;
        }
        self.warn_full();
        if !self.evict_idlest() {
            return false;
        }
        // The descriptor is free only once the evicted task, or another, has ended.
        if let Some(ended) = self.tasks.join_next_with_id().await {
            self.remove(ended);
        }
        true
    }

    /// Runs a connection in the room that `make_room` made.
    pub(crate) fn spawn(&mut self, activity: Arc<Activity>, connection: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(connection);
        self.open.insert(task.id(), (activity, task));
    }

    /// Returns the activity of a connection that was accepted just now.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Activity::new(self.began)
    }

    fn remove(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.open.remove(&id);
    }

    /// Sends 503 to a connection for which there is no room, without waiting. The close comes a few refusals later: a
    /// request after the close would be met by a reset, which may overtake the response.
    pub(crate) fn refuse(&mut self, stream: TcpStream) {
        let _ = stream.try_write(refusal().as_bytes());
        let _ = rustix::net::shutdown(&stream, rustix::net::Shutdown::Write);
        if self.refused.len() == REFUSED_OPEN_MAX
            && let Some(oldest) = self.refused.pop_front()
        {
            let _ = oldest.try_read(&mut [0; 4_096]);
        }
        self.refused.push_back(stream);
    }

    fn warn_full(&mut self) {
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            self.warned_at = Some(Instant::now());
            tracing::warn!(
                open = self.open.len(),
                "all connections are taken; the longest idle one ends for each new one"
            );
        }
    }

    fn evict_idlest(&self) -> bool {
        let idle = || self.open.values().filter_map(|(activity, task)| Some((activity.idle_since()?, activity, task)));
        // A request may have begun meanwhile; then the next in line is evicted.
        while let Some((since, activity, task)) = idle().min_by_key(|(since, ..)| *since) {
            if activity.evict(since) {
                task.abort();
                return true;
            }
        }
        false
    }
}

/// Response to a request that came as its connection was evicted: it did not run, and may be sent again.
pub(crate) fn evicted_response() -> Response<TrackedBody> {
    let mut response = all_busy().into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    TrackedBody::new(response, None)
}

fn all_busy() -> Problem {
    Problem::new(Code::Overloaded, "the host has as many connections as it takes, all of them busy; try again")
}

/// Text of the 503 for a connection without room, which no HTTP server serves.
fn refusal() -> String {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": StatusCode::SERVICE_UNAVAILABLE.canonical_reason(),
        "status": StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        "code": Code::Overloaded,
        "detail": all_busy().detail,
    })
    .to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: {RETRY_AFTER_SECONDS}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::super::respond::full_body;
    use super::*;

    /// Opens a connection, if there is room for it.
    async fn open(connections: &mut Connections) -> Option<Arc<Activity>> {
        if !connections.make_room().await {
            return None;
        }
        let activity = connections.activity();
        connections.spawn(activity.clone(), std::future::pending());
        // Their order is by microseconds.
        let opened = activity.now();
        while activity.now() == opened {}
        Some(activity)
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_longest_idle_one() {
        let mut connections = Connections::new(2);
        let first = open(&mut connections).await.unwrap();
        let second = open(&mut connections).await.unwrap();
        let _third = open(&mut connections).await.unwrap();
        assert!(first.is_evicted() && !second.is_evicted());
        assert_eq!(connections.open.len(), 2);
        assert!(first.begin().is_none(), "a request that comes now is not run");
    }

    #[tokio::test]
    async fn a_busy_connection_keeps_its_place_until_its_response_was_sent() {
        let mut connections = Connections::new(1);
        let busy = open(&mut connections).await.unwrap();
        let request = busy.begin().unwrap();
        busy.mark_flushed();
        assert!(open(&mut connections).await.is_none());
        drop(TrackedBody::new(Response::new(full_body("x")), Some(request)));
        assert!(open(&mut connections).await.is_none(), "the response may lie in a buffer");
        busy.mark_flushed();
        assert!(open(&mut connections).await.is_some());
        assert!(busy.is_evicted());
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_leaves_its_place() {
        let mut connections = Connections::new(1);
        assert!(connections.make_room().await);
        let activity = connections.activity();
        let request = activity.begin().unwrap();
        connections.spawn(activity, async {});
        tokio::task::yield_now().await;
        drop(request);
        assert!(open(&mut connections).await.is_some());
    }
}
