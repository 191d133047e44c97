//! A bounded number of open connections: a new one takes the place of the one that has been idle for longest.
//!
//! Idle is a connection on which no request is under way: nothing or half a head came, or everything was answered and
//! has left. Such a connection may end at any moment, as after `HTTP_HEADER_TIMEOUT`, so its end takes nothing away.
//! Where all are busy a new one is answered 503 at once.
//!
//! Invariants: no more connections are open than permitted, those included that are about to be closed; a request that
//! has begun is never cut off for another connection.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::{Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{self, AbortHandle, JoinSet};

use super::body::ResponseBody;
use super::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::codes::Code;

/// States that are no time since when a connection is idle.
const BUSY: u64 = u64::MAX;
/// The answer is made, and perhaps not sent.
const ANSWERED: u64 = u64::MAX - 1;
const EVICTED: u64 = u64::MAX - 2;

/// What one connection is doing, as the connection itself notes it.
pub struct Activity {
    /// One of the states, or the microseconds since `began` after which nothing was under way.
    state: AtomicU64,
    began: Instant,
}

impl Activity {
    fn new(began: Instant) -> Arc<Self> {
        let activity = Self { state: AtomicU64::new(0), began };
        activity.state.store(activity.now(), Ordering::Relaxed);
        Arc::new(activity)
    }

    fn now(&self) -> u64 {
        // Half a million years before it would be a state.
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(0)
    }

    /// Notes that a request begins; none where the connection was given up, and the request must not be run.
    pub fn begin(self: &Arc<Self>) -> Option<Request> {
        let begin = |state| (state != EVICTED).then_some(BUSY);
        let begun = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin);
        begun.is_ok().then(|| Request(self.clone()))
    }

    /// Notes that all that was written has left.
    fn flushed(&self) {
        if self.state.load(Ordering::Acquire) == ANSWERED {
            let _ = self.state.compare_exchange(ANSWERED, self.now(), Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Returns since when the connection is idle, if it is.
    fn idle_since(&self) -> Option<u64> {
        Some(self.state.load(Ordering::Acquire)).filter(|state| *state < EVICTED)
    }

    /// Gives an idle connection up, unless something has begun meanwhile.
    fn evict(&self, idle_since: u64) -> bool {
        self.state.compare_exchange(idle_since, EVICTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A request under way, until its answer's body has ended.
pub struct Request(Arc<Activity>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.state.store(ANSWERED, Ordering::Release);
    }
}

/// The body of an answer, and its request.
pub struct Answering {
    body: ResponseBody,
    _request: Option<Request>,
}

impl Answering {
    /// Ties an answer to its request.
    pub fn new(response: Response<ResponseBody>, request: Request) -> Response<Self> {
        response.map(|body| Self { body, _request: Some(request) })
    }

    /// The answer to a request that came as its connection was given up: it was not run, and may be sent again.
    pub fn given_up() -> Response<Self> {
        let mut response = full().into_response();
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        response.map(|body| Self { body, _request: None })
    }
}

impl Body for Answering {
    type Data = <ResponseBody as Body>::Data;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when everything was sent. A flush of the stream comes after all that was to be written to it.
pub struct Flushed<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Flushed<S> {
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The open connections of one server. Dropping it cuts them off.
pub struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<task::Id, (Arc<Activity>, AbortHandle)>,
    /// Connections that were answered 503, oldest first.
    refused: VecDeque<TcpStream>,
    connections_max: usize,
    began: Instant,
    /// When it was last logged that all places are taken.
    told: Option<Instant>,
}

/// Refused connections that are still open. Their descriptors are of those that are kept back for the rest of the host.
const REFUSED_KEPT: usize = 8;
/// Between two lines in the log that say that all places are taken.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl Connections {
    pub fn new(connections_max: usize) -> Self {
        Self {
            tasks: JoinSet::new(),
            open: HashMap::new(),
            refused: VecDeque::new(),
            connections_max,
            began: Instant::now(),
            told: None,
        }
    }

    /// Makes room for one connection more, at the cost of the longest idle one where all places are taken; false if
    /// none is idle.
    pub async fn make_room(&mut self) -> bool {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        if self.open.len() < self.connections_max {
            return true;
        }
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(
                open = self.open.len(),
                "all connections are taken; the longest idle one ends for each new one"
            );
        }
        if !self.evict_idlest() {
            return false;
        }
        // Its descriptor is free only once its task has ended, or another has.
        if let Some(ended) = self.tasks.join_next_with_id().await {
            self.forget(ended);
        }
        true
    }

    /// Runs a connection in the room that was made for it.
    pub fn spawn(&mut self, activity: Arc<Activity>, connection: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(connection);
        self.open.insert(task.id(), (activity, task));
    }

    /// The activity of a connection that was accepted just now.
    pub fn activity(&self) -> Arc<Activity> {
        Activity::new(self.began)
    }

    fn forget(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.open.remove(&id);
    }

    /// Answers a connection for which there is no room, as far as that takes no waiting. It is closed only a few refusals
    /// later: a request that comes after the close would be met by a reset, which may overtake the answer.
    pub fn refuse(&mut self, stream: TcpStream) {
        let _ = stream.try_write(refusal().as_bytes());
        let _ = rustix::net::shutdown(&stream, rustix::net::Shutdown::Write);
        if self.refused.len() == REFUSED_KEPT
            && let Some(oldest) = self.refused.pop_front()
        {
            let _ = oldest.try_read(&mut [0; 4_096]);
        }
        self.refused.push_back(stream);
    }

    fn evict_idlest(&self) -> bool {
        let idle = || self.open.values().filter_map(|(activity, task)| Some((activity.idle_since()?, activity, task)));
        // Again where a request has begun on it meanwhile: others have been idle for less long.
        while let Some((since, activity, task)) = idle().min_by_key(|(since, ..)| *since) {
            if activity.evict(since) {
                task.abort();
                return true;
            }
        }
        false
    }
}

fn full() -> Problem {
    Problem::new(Code::Overloaded, "the host has as many connections as it takes, all of them busy; try again")
}

/// The 503 of a connection for which there is no room.
fn refusal() -> String {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": StatusCode::SERVICE_UNAVAILABLE.canonical_reason(),
        "status": StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        "code": Code::Overloaded,
        "detail": full().detail,
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
    use super::super::body::whole;
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

    fn is_given_up(activity: &Activity) -> bool {
        activity.state.load(Ordering::Relaxed) == EVICTED
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_longest_idle_one() {
        let mut connections = Connections::new(2);
        let first = open(&mut connections).await.unwrap();
        let second = open(&mut connections).await.unwrap();
        let _third = open(&mut connections).await.unwrap();
        assert!(is_given_up(&first) && !is_given_up(&second));
        assert_eq!(connections.open.len(), 2);
        assert!(first.begin().is_none(), "a request that comes now is not run");
    }

    #[tokio::test]
    async fn a_connection_with_a_request_under_way_keeps_its_place_until_its_answer_has_left() {
        let mut connections = Connections::new(1);
        let busy = open(&mut connections).await.unwrap();
        let request = busy.begin().unwrap();
        busy.flushed();
        assert!(open(&mut connections).await.is_none());
        drop(Answering::new(Response::new(whole("x")), request));
        assert!(open(&mut connections).await.is_none(), "the answer may lie in a buffer");
        busy.flushed();
        assert!(open(&mut connections).await.is_some());
        assert!(is_given_up(&busy));
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
