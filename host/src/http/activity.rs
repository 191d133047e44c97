//! Activity of a connection: whether a request is under way, and since when none is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::respond::ResponseBody;

/// States beside the time since which a connection is idle.
const BUSY: u64 = u64::MAX;
/// The response has ended and may still lie in a buffer.
const ANSWERED: u64 = u64::MAX - 1;
const EVICTED: u64 = u64::MAX - 2;

/// State of one connection, which the connection itself keeps: idle, busy, answered or evicted.
pub(crate) struct Activity {
    /// One of the states, or the microseconds from `began` to the begin of idleness.
    state: AtomicU64,
    began: Instant,
}

impl Activity {
    pub(crate) fn new(began: Instant) -> Arc<Self> {
        let activity = Self { state: AtomicU64::new(0), began };
        activity.state.store(activity.now(), Ordering::Relaxed);
        Arc::new(activity)
    }

    pub(crate) fn now(&self) -> u64 {
        // It reaches the states after half a million years.
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(0)
    }

    /// Marks the begin of a request. `None` if the connection was evicted: the request must not run.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<ActiveRequest> {
        let begin = |state| (state != EVICTED).then_some(BUSY);
        let begun = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin);
        begun.is_ok().then(|| ActiveRequest(self.clone()))
    }

    /// Marks that all written bytes were sent; an answered connection is idle from now on.
    pub(crate) fn mark_flushed(&self) {
        if self.state.load(Ordering::Acquire) == ANSWERED {
            let _ = self.state.compare_exchange(ANSWERED, self.now(), Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Returns the begin of idleness; `None` while a request is under way.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        Some(self.state.load(Ordering::Acquire)).filter(|state| *state < EVICTED)
    }

    /// Evicts an idle connection; false if a request has begun meanwhile.
    pub(crate) fn evict(&self, idle_since: u64) -> bool {
        self.state.compare_exchange(idle_since, EVICTED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Guard of a request under way; dropped with the body of its response.
pub(crate) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.state.store(ANSWERED, Ordering::Release);
    }
}

/// Body of a response, which keeps its connection busy until it is dropped.
pub(crate) struct TrackedBody {
    body: ResponseBody,
    _request: Option<ActiveRequest>,
}

impl TrackedBody {
    /// Ties a response to its request; `None` for a request that did not run.
    pub(crate) fn new(response: Response<ResponseBody>, request: Option<ActiveRequest>) -> Response<Self> {
        response.map(|body| Self { body, _request: request })
    }
}

impl Body for TrackedBody {
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

#[cfg(test)]
impl Activity {
    pub(crate) fn is_evicted(&self) -> bool {
        self.state.load(Ordering::Relaxed) == EVICTED
    }
}
