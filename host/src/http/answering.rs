//! A web call's answer on its way to the client. Polling it is what runs the guest: a client that does not read makes the
//! guest wait, and one that leaves ends it.
//!
//! The answer ends when the call does. So a guest that fails before anything was sent is told as a problem, one that fails
//! later cuts the connection, and neither looks like an answer that is complete.
//!
//! Limits: `WEB_HEAD_BYTES_MAX` of the body are kept while the guest goes on without waiting, so that a small answer leaves
//! as a whole, with its receipt; after that, what `sandbox` lets a guest write ahead.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use http::response::Parts;
use http::{StatusCode, header};
use http_body::{Body, Frame};

use super::body::{BodyError, content_length};
use crate::call::{Failure, FailureCode, Receipt};
use crate::dispatch::{Finished, Serving};
use crate::ids::CallId;
use crate::limits::WEB_HEAD_BYTES_MAX;
use crate::sandbox::{Answer, AnswerBody};

/// How often a guest may let others run, at ticks of `limits::TICK`, before the head leaves without the rest.
const TURNS_MAX: u32 = 8;

/// What there is to tell the client first.
pub enum Begun {
    /// The call has ended, and this is all of it.
    Whole { head: Parts, body: VecDeque<Bytes>, receipt: Receipt },
    /// The guest goes on.
    Streaming { head: Parts, body: Answering },
    /// There is no answer, and nothing was sent.
    Failed { failure: Failure, receipt: Option<Receipt> },
}

impl Begun {
    /// Whether the app failed: it gave no answer, or one that says so.
    pub fn is_failure(&self) -> bool {
        match self {
            Begun::Failed { .. } => true,
            Begun::Streaming { head, .. } | Begun::Whole { head, .. } => head.status.is_server_error(),
        }
    }

    /// Returns the receipt, if the call has ended.
    pub fn receipt(self) -> Option<Receipt> {
        match self {
            Begun::Whole { receipt, .. } => Some(receipt),
            Begun::Streaming { .. } => None,
            Begun::Failed { receipt, .. } => receipt,
        }
    }
}

/// A web call and what of its answer is known.
pub struct Answering {
    call: CallId,
    serving: Option<Serving>,
    ended: Option<Finished<()>>,
    answer: Answer,
    body: Option<AnswerBody>,
    /// Taken from the body and not sent yet.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// The length that the head gives the body, where it has one.
    declared: Option<u64>,
    /// What was taken from the body.
    taken: u64,
    is_body_over: bool,
    has_body: bool,
}

impl Answering {
    /// `has_body`: whether the method's answer has one, which that of `HEAD` has not.
    pub fn new((call, serving): (CallId, Serving), answer: Answer, has_body: bool) -> Self {
        Self {
            call,
            serving: Some(serving),
            ended: None,
            answer,
            body: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            declared: None,
            taken: 0,
            is_body_over: false,
            has_body,
        }
    }

    /// Runs the guest until there is something to tell.
    pub async fn begin(self) -> Begun {
        let (mut answering, mut head, mut turns) = (Some(self), None, 0);
        std::future::poll_fn(|context| {
            let this = answering.as_mut().expect("polled until it is ready, once");
            let turn = Turn::new(context);
            let waker = turn.clone().into();
            let context = &mut Context::from_waker(&waker);
            this.drive(context);
            if head.is_none() {
                head = match this.poll_head(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(parts)) => Some(parts),
                    Poll::Ready(Err(failure)) => return Poll::Ready(this.failed(failure)),
                };
            }
            if let Err(failure) = this.keep(context) {
                return Poll::Ready(this.failed(failure));
            }
            // It only let others run; what it computes may be the rest of a small answer.
            if this.ended.is_none() && turn.is_over() && this.kept_bytes <= WEB_HEAD_BYTES_MAX && turns < TURNS_MAX {
                turns += 1;
                return Poll::Pending;
            }
            let (this, head) = (answering.take().expect("it was there"), head.take().expect("it was there"));
            Poll::Ready(this.begun(head))
        })
        .await
    }

    fn begun(mut self, head: Parts) -> Begun {
        match self.ended.take() {
            None => Begun::Streaming { head, body: self },
            Some(Finished { result: Err(failure), receipt, .. }) => Begun::Failed { failure, receipt: Some(receipt) },
            Some(Finished { receipt, .. }) => match self.check_complete() {
                Err(failure) => Begun::Failed { failure, receipt: Some(receipt) },
                Ok(()) => Begun::Whole { head, body: self.kept, receipt },
            },
        }
    }

    fn failed(&mut self, failure: Failure) -> Begun {
        Begun::Failed { failure, receipt: self.ended.take().map(|ended| ended.receipt) }
    }

    /// Lets the guest go on as far as it can.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(serving) = &mut self.serving
            && let Poll::Ready(ended) = serving.as_mut().poll(context)
        {
            self.ended = Some(ended);
            self.serving = None;
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Parts, Failure>> {
        let Some(answered) = ready!(self.answer.poll_head(context)) else {
            // The guest is gone or about to be; how it ended is the answer.
            let Some(ended) = &self.ended else { return Poll::Pending };
            let unanswered = || Failure::new(FailureCode::Crashed, "the app ended without an answer");
            return Poll::Ready(Err(ended.result.clone().err().unwrap_or_else(unanswered)));
        };
        let response = match answered {
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

    /// Takes in what the guest writes without waiting, until that is much.
    fn keep(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        while self.kept_bytes <= WEB_HEAD_BYTES_MAX {
            match self.poll_part(context) {
                Poll::Ready(Some(part)) => {
                    let part = part?;
                    self.kept_bytes += part.len();
                    self.kept.push_back(part);
                    self.drive(context);
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Takes the next part from the guest.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let Some(body) = self.body.as_mut().filter(|_| !self.is_body_over) else { return Poll::Ready(None) };
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                // Trailers go no further: few clients ask for them.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => {
                    let part = frame.into_data().unwrap_or_default();
                    self.taken += part.len() as u64;
                    if let Some(declared) = self.declared.filter(|declared| self.taken > *declared) {
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
            Some(declared) if self.taken < declared => {
                let message = format!("the app sent {} of the {declared} bytes of its `content-length`", self.taken);
                Err(Failure::new(FailureCode::Crashed, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the part in hand is the last that the head announced.
    fn is_last(&self) -> bool {
        self.kept.len() == 1 && self.declared == Some(self.taken)
    }

    fn cut(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        tracing::warn!(call = %self.call, %failure, "an answer was cut off");
        // Nothing follows an error, and the guest, if it still runs, ends here.
        self.serving = None;
        self.body = None;
        self.kept.clear();
        Poll::Ready(Some(Err(failure.into())))
    }
}

/// Tells a guest that lets others run from one that waits: only the first is woken by itself.
struct Turn {
    waker: Waker,
    is_woken: AtomicBool,
}

impl Turn {
    fn new(context: &Context<'_>) -> Arc<Self> {
        Arc::new(Self { waker: context.waker().clone(), is_woken: AtomicBool::new(false) })
    }

    fn is_over(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed)
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

/// What is left of the answer after `begin`.
impl Body for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            self.drive(context);
            if self.kept.is_empty() {
                match self.poll_part(context) {
                    Poll::Ready(Some(Ok(part))) => self.kept.push_back(part),
                    Poll::Ready(Some(Err(failure))) => return self.cut(failure),
                    Poll::Ready(None) => match self.ended.take() {
                        None if self.serving.is_some() => return Poll::Pending,
                        Some(Finished { result: Err(failure), .. }) => return self.cut(failure),
                        _ => {
                            let Err(failure) = self.check_complete() else { return Poll::Ready(None) };
                            return self.cut(failure);
                        }
                    },
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            // A connection is done with the last announced byte and would drop a guest that is about to end.
            if self.is_last() && self.serving.is_some() {
                match self.poll_part(context) {
                    Poll::Ready(Some(Err(failure))) => return self.cut(failure),
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(None) | Poll::Pending if self.serving.is_some() => return Poll::Pending,
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            return Poll::Ready(self.kept.pop_front().map(|part| Ok(Frame::data(part))));
        }
    }
}
