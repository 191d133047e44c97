//! Response of a web function, on its way from the guest to the client. Polling it runs the guest: back-pressure of the
//! client makes the guest wait, and a disconnect ends it.
//!
//! Invariant: the response ends when the call does. A guest that fails before anything was sent gives a problem
//! document, one that fails later cuts the connection, and neither looks like a complete response.
//!
//! Limits: `WEB_HEAD_BYTES_MAX` of the body are buffered while the guest goes on without waiting, so that a small
//! response leaves as a whole, with its receipt; after that, the bytes that `sandbox` lets a guest write ahead.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use http::response::Parts;
use http::{StatusCode, header};
use http_body::{Body, Frame};

use super::headers::content_length;
use super::respond::BodyError;
use crate::call::{Failure, FailureCode, Receipt};
use crate::dispatch::{Finished, Serving};
use crate::ids::CallId;
use crate::limits::WEB_HEAD_BYTES_MAX;
use crate::sandbox::{GuestBody, ResponseReceiver};

/// Yields of a guest, at ticks of `limits::TICK`, before the head is sent without the rest.
const YIELDS_MAX: u32 = 8;

/// Start of a response, before anything was sent.
pub(crate) enum ResponseStart {
    /// The call has ended, and its response is complete.
    Complete { head: Parts, body: VecDeque<Bytes>, receipt: Receipt },
    /// The guest goes on.
    Streaming { head: Parts, body: GuestResponse },
    /// The call failed without a response.
    Failed { failure: Failure, receipt: Option<Receipt> },
}

impl ResponseStart {
    /// Whether the app failed: it gave no response, or a 5xx.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            ResponseStart::Failed { .. } => true,
            ResponseStart::Streaming { head, .. } | ResponseStart::Complete { head, .. } => {
                head.status.is_server_error()
            }
        }
    }

    /// Returns the receipt, if the call has ended.
    pub(crate) fn receipt(self) -> Option<Receipt> {
        match self {
            ResponseStart::Complete { receipt, .. } => Some(receipt),
            ResponseStart::Streaming { .. } => None,
            ResponseStart::Failed { receipt, .. } => receipt,
        }
    }
}

/// A web call under way, and the part of its response that was read.
pub(crate) struct GuestResponse {
    call: CallId,
    serving: Option<Serving>,
    finished: Option<Finished<()>>,
    answer: ResponseReceiver,
    body: Option<GuestBody>,
    /// Parts of the body that were read and not sent.
    buffered: VecDeque<Bytes>,
    buffered_bytes: usize,
    /// Content length of the head.
    declared: Option<u64>,
    /// Bytes read of the body.
    bytes_read: u64,
    is_body_over: bool,
    has_body: bool,
}

impl GuestResponse {
    /// `has_body` is false for `HEAD`, whose response has none.
    pub(crate) fn new((call, serving): (CallId, Serving), answer: ResponseReceiver, has_body: bool) -> Self {
        Self {
            call,
            serving: Some(serving),
            finished: None,
            answer,
            body: None,
            buffered: VecDeque::new(),
            buffered_bytes: 0,
            declared: None,
            bytes_read: 0,
            is_body_over: false,
            has_body,
        }
    }

    /// Runs the guest until the response can start.
    pub(crate) async fn begin(self) -> ResponseStart {
        let (mut response, mut head, mut yields) = (Some(self), None, 0);
        std::future::poll_fn(|context| {
            let this = response.as_mut().expect("polled until it is ready, once");
            let tracker = YieldTracker::new(context);
            let waker = tracker.clone().into();
            let context = &mut Context::from_waker(&waker);
            this.drive(context);
            if head.is_none() {
                head = match this.poll_head(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(parts)) => Some(parts),
                    Poll::Ready(Err(failure)) => return Poll::Ready(this.fail(failure)),
                };
            }
            if let Err(failure) = this.buffer(context) {
                return Poll::Ready(this.fail(failure));
            }
            // A guest that only yielded may be computing the rest of a small response.
            if this.finished.is_none()
                && tracker.has_yielded()
                && this.buffered_bytes <= WEB_HEAD_BYTES_MAX
                && yields < YIELDS_MAX
            {
                yields += 1;
                return Poll::Pending;
            }
            let (this, head) = (response.take().expect("it was there"), head.take().expect("it was there"));
            Poll::Ready(this.start(head))
        })
        .await
    }

    fn start(mut self, head: Parts) -> ResponseStart {
        match self.finished.take() {
            None => ResponseStart::Streaming { head, body: self },
            Some(Finished { result: Err(failure), receipt, .. }) => {
                ResponseStart::Failed { failure, receipt: Some(receipt) }
            }
            Some(Finished { receipt, .. }) => match self.check_complete() {
                Err(failure) => ResponseStart::Failed { failure, receipt: Some(receipt) },
                Ok(()) => ResponseStart::Complete { head, body: self.buffered, receipt },
            },
        }
    }

    fn fail(&mut self, failure: Failure) -> ResponseStart {
        ResponseStart::Failed { failure, receipt: self.finished.take().map(|finished| finished.receipt) }
    }

    /// Polls the guest.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(serving) = &mut self.serving
            && let Poll::Ready(finished) = serving.as_mut().poll(context)
        {
            self.finished = Some(finished);
            self.serving = None;
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Parts, Failure>> {
        let Some(head) = ready!(self.answer.poll_head(context)) else {
            // The guest has ended or is about to; its failure is the response.
            let Some(finished) = &self.finished else { return Poll::Pending };
            let unanswered = || Failure::new(FailureCode::Crashed, "the app ended without an answer");
            return Poll::Ready(Err(finished.result.clone().err().unwrap_or_else(unanswered)));
        };
        let response = match head {
            Ok(response) => response,
            Err(word) => {
                let message = format!("the app answered with the error {word}");
                return Poll::Ready(Err(Failure::new(FailureCode::Failed, message)));
            }
        };
        let (mut head, body) = response.into_parts();
        if head.status.is_informational() {
            let message = format!("the app answered with the status {}, which is none of an answer", head.status);
            return Poll::Ready(Err(Failure::new(FailureCode::Crashed, message)));
        }
        head.headers.remove(header::TE);
        head.headers.remove(header::TRAILER);
        self.has_body &= !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if self.has_body {
            self.declared = content_length(&head.headers);
        }
        self.body = Some(body);
        Poll::Ready(Ok(head))
    }

    /// Buffers what the guest writes without waiting, up to `WEB_HEAD_BYTES_MAX`.
    fn buffer(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        while self.buffered_bytes <= WEB_HEAD_BYTES_MAX {
            match self.poll_part(context) {
                Poll::Ready(Some(part)) => {
                    let part = part?;
                    self.buffered_bytes += part.len();
                    self.buffered.push_back(part);
                    self.drive(context);
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Polls the guest's body for its next part.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let Some(body) = self.body.as_mut().filter(|_| !self.is_body_over) else { return Poll::Ready(None) };
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                // Trailers are dropped: few clients ask for them.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => {
                    let part = frame.into_data().unwrap_or_default();
                    self.bytes_read += part.len() as u64;
                    if let Some(declared) = self.declared.filter(|declared| self.bytes_read > *declared) {
                        let message = format!("the app sent more than the {declared} bytes of its `content-length`");
                        return Poll::Ready(Some(Err(Failure::new(FailureCode::Crashed, message))));
                    }
                    return Poll::Ready(Some(Ok(part)));
                }
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(Failure::new(FailureCode::Crashed, error.to_string()))));
                }
                None => {
                    self.is_body_over = true;
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn check_complete(&self) -> Result<(), Failure> {
        match self.declared {
            Some(declared) if self.bytes_read < declared => {
                let message =
                    format!("the app sent {} of the {declared} bytes of its `content-length`", self.bytes_read);
                Err(Failure::new(FailureCode::Crashed, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the buffered part is the last by the declared length.
    fn is_last(&self) -> bool {
        self.buffered.len() == 1 && self.declared == Some(self.bytes_read)
    }

    fn abort(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        tracing::warn!(call = %self.call, %failure, "an answer was cut off");
        // Nothing follows an error; dropping the call ends a guest that still runs.
        self.serving = None;
        self.body = None;
        self.buffered.clear();
        Poll::Ready(Some(Err(failure.into())))
    }
}

/// Waker that tells a guest that yields from one that waits: only the first wakes itself while it is polled.
struct YieldTracker {
    waker: Waker,
    is_woken: AtomicBool,
}

impl YieldTracker {
    fn new(context: &Context<'_>) -> Arc<Self> {
        Arc::new(Self { waker: context.waker().clone(), is_woken: AtomicBool::new(false) })
    }

    fn has_yielded(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed)
    }
}

impl Wake for YieldTracker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

/// Rest of the response after `begin`.
impl Body for GuestResponse {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            self.drive(context);
            if self.buffered.is_empty() {
                match self.poll_part(context) {
                    Poll::Ready(Some(Ok(part))) => self.buffered.push_back(part),
                    Poll::Ready(Some(Err(failure))) => return self.abort(failure),
                    Poll::Ready(None) => match self.finished.take() {
                        None if self.serving.is_some() => return Poll::Pending,
                        Some(Finished { result: Err(failure), .. }) => return self.abort(failure),
                        _ => {
                            let Err(failure) = self.check_complete() else { return Poll::Ready(None) };
                            return self.abort(failure);
                        }
                    },
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            // A connection ends with the last declared byte and would drop a guest that is about to end.
            if self.is_last() && self.serving.is_some() {
                match self.poll_part(context) {
                    Poll::Ready(Some(Err(failure))) => return self.abort(failure),
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(None) | Poll::Pending if self.serving.is_some() => return Poll::Pending,
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            return Poll::Ready(self.buffered.pop_front().map(|part| Ok(Frame::data(part))));
        }
    }
}
