//! Bounded set of open connections: a new one replaces the longest idle one.
//!
//! Idle means that no request is under way: nothing or half a head came, or every response was sent. Such a connection
//! may end at any moment anyway, as after `HTTP_HEADER_TIMEOUT`. Where all are busy, a new connection gets 503 at once.
//!
//! Invariants: no more connections are open than permitted, those included that are about to be closed; all but the
//! operator's leave a share of them to the operator; a request that has begun is never cut off for another connection.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Response, StatusCode, header};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::task::{self, AbortHandle, JoinSet};

use super::activity::{Activity, TrackedBody};
use super::peer::Peer;
use super::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::codes::Code;
use crate::throttle::Throttle;

/// Refused connections that stay open for a while. Their descriptors are of those reserved for the rest of the host.
const REFUSED_OPEN_MAX: usize = 8;
/// Interval between two warnings that all connections are taken.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Open connections of one server. Dropping it cuts them off.
pub(crate) struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<task::Id, Connection>,
    /// Connections that got 503, oldest first.
    refused: VecDeque<OwnedFd>,
    connections_max: usize,
    /// Connections that are left to the operator.
    operators_share: usize,
    /// Open ones that are not the operator's.
    others: usize,
    began: Instant,
    warnings: Throttle,
}

struct Connection {
    activity: Arc<Activity>,
    task: AbortHandle,
    is_operators: bool,
}

impl Connections {
    /// Takes `connections_max`, of which `operators_share` are the operator's.
    pub(crate) fn new(connections_max: usize, operators_share: usize) -> Self {
        Self {
            tasks: JoinSet::new(),
            open: HashMap::new(),
            refused: VecDeque::new(),
            connections_max,
            operators_share,
            others: 0,
            began: Instant::now(),
            warnings: Throttle::new(WARNING_INTERVAL),
        }
    }

    /// Makes room for one more connection of this peer, and evicts the longest idle one for it; false if all are busy.
    pub(crate) async fn make_room(&mut self, peer: Peer) -> bool {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.remove(ended);
        }
        let is_operators = peer == Peer::Operator;
        let is_within_part = is_operators || self.others < self.connections_max.saturating_sub(self.operators_share);
        if is_within_part && self.open.len() < self.connections_max {
            return true;
        }
        self.warn_full();
        if !self.evict_idlest(is_operators) {
            return false;
        }
        // The descriptor is free only once the evicted task, or another, has ended.
        if let Some(ended) = self.tasks.join_next_with_id().await {
            self.remove(ended);
        }
        true
    }

    /// Runs a connection in the room that `make_room` made.
    pub(crate) fn spawn(
        &mut self,
        peer: Peer,
        activity: Arc<Activity>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let is_operators = peer == Peer::Operator;
        self.others += usize::from(!is_operators);
        let task = self.tasks.spawn(connection);
        self.open.insert(task.id(), Connection { activity, task, is_operators });
    }

    /// Returns the activity of a connection that was accepted just now.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Activity::new(self.began)
    }

    fn remove(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        let is_others = self.open.remove(&id).is_some_and(|connection| !connection.is_operators);
        self.others -= usize::from(is_others);
    }

    /// Sends 503 to a connection for which there is no room, without waiting. The close comes a few refusals later: a
    /// request after the close would be met by a reset, which may overtake the response.
    pub(crate) fn refuse(&mut self, stream: OwnedFd) {
        let _ = send(&stream, refusal().as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        let _ = shutdown(&stream, Shutdown::Write);
        if self.refused.len() == REFUSED_OPEN_MAX
            && let Some(oldest) = self.refused.pop_front()
        {
            let _ = recv(&oldest, &mut [0; 4_096], RecvFlags::DONTWAIT);
        }
        self.refused.push_back(stream);
    }

    fn warn_full(&mut self) {
        if self.warnings.is_due(Instant::now()) {
            tracing::warn!(
                open = self.open.len(),
                "all connections are taken; the longest idle one ends for each new one"
            );
        }
    }

    /// Evicts the longest idle connection, for the operator any, for others one of theirs.
    fn evict_idlest(&self, for_operator: bool) -> bool {
        let candidates = || self.open.values().filter(|connection| for_operator || !connection.is_operators);
        let idle = || {
            candidates().filter_map(|Connection { activity, task, .. }| Some((activity.idle_since()?, activity, task)))
        };
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
        open_as(connections, Peer::Tcp).await
    }

    async fn open_as(connections: &mut Connections, peer: Peer) -> Option<Arc<Activity>> {
        if !connections.make_room(peer).await {
            return None;
        }
        let activity = connections.activity();
        connections.spawn(peer, activity.clone(), std::future::pending());
        // Their order is by microseconds.
        let opened = activity.now();
        while activity.now() == opened {}
        Some(activity)
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_longest_idle_one() {
        let mut connections = Connections::new(2, 0);
        let first = open(&mut connections).await.unwrap();
        let second = open(&mut connections).await.unwrap();
        let _third = open(&mut connections).await.unwrap();
        assert!(first.is_evicted() && !second.is_evicted());
        assert_eq!(connections.open.len(), 2);
        assert!(first.begin().is_none(), "a request that comes now is not run");
    }

    #[tokio::test]
    async fn a_busy_connection_keeps_its_place_until_its_response_was_sent() {
        let mut connections = Connections::new(1, 0);
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
        let mut connections = Connections::new(1, 0);
        assert!(connections.make_room(Peer::Tcp).await);
        let activity = connections.activity();
        let request = activity.begin().unwrap();
        connections.spawn(Peer::Tcp, activity, async {});
        tokio::task::yield_now().await;
        drop(request);
        assert!(open(&mut connections).await.is_some());
    }

    #[tokio::test]
    async fn a_share_is_left_to_the_operator_who_may_have_more() {
        let mut connections = Connections::new(4, 2);
        let mut busy = Vec::new();
        for peer in [Peer::Tcp, Peer::User(7)] {
            let activity = open_as(&mut connections, peer).await.unwrap();
            busy.push(activity.begin().unwrap());
        }
        assert!(open(&mut connections).await.is_none(), "the other two are the operator's");
        let kept = open_as(&mut connections, Peer::Operator).await.unwrap();
        assert!(open(&mut connections).await.is_none() && !kept.is_evicted(), "nobody else evicts the operator");
        let second = open_as(&mut connections, Peer::Operator).await.unwrap();
        let third = open_as(&mut connections, Peer::Operator).await.unwrap();
        assert!(kept.is_evicted() && !second.is_evicted());
        busy.extend([second, third].map(|activity| activity.begin().unwrap()));
        assert!(open_as(&mut connections, Peer::Operator).await.is_none());
        assert_eq!((connections.open.len(), connections.others), (4, 2));

        let mut connections = Connections::new(2, 1);
        let mine = open_as(&mut connections, Peer::Operator).await.unwrap();
        let more = open_as(&mut connections, Peer::Operator).await.unwrap();
        assert!(open(&mut connections).await.is_none(), "all are the operator's");
        assert!(!mine.is_evicted() && !more.is_evicted());
    }
}
