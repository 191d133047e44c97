//! Body of a response, read by a function in pieces.
//!
//! Invariants: at most `body_bytes_max` bytes are handed out; empty pieces are dropped; the timeout between pieces runs
//! only while a reader waits; the connection returns to the pool once the body was read to the end, and is closed when
//! the body is dropped before that.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::connector::Connection;
use super::error::{OutboundError, Phase};
use super::origin::Origin;
use super::pool::{Pool, PoolKey};
use super::upload::UploadState;

/// One exchange's hold on its connection, the call's budget and the pool.
pub(super) struct Lease {
    pub(super) connection: Connection,
    pub(super) key: PoolKey,
    pub(super) pool: Arc<Pool>,
    pub(super) upload: Arc<UploadState>,
    /// Whether the server keeps the connection open.
    pub(super) is_kept_open: bool,
    pub(super) call_share: OwnedSemaphorePermit,
}

impl Lease {
    /// Ends the exchange after a response that was read to the end.
    fn finish(self) {
        drop(self.call_share);
        if self.is_kept_open && self.upload.is_complete() && !self.connection.sender.is_closed() {
            self.pool.put(self.key, self.connection);
        }
    }
}

/// Body of a response, at most `OutboundLimits::body_bytes_max` bytes long.
pub(crate) struct OutboundBody {
    incoming: Incoming,
    origin: Origin,
    limit_bytes: u64,
    received_bytes: u64,
    between_bytes: Duration,
    /// Runs while `is_waiting`; the first wait makes it.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// `None` once the body has ended, with or without an error.
    lease: Option<Lease>,
}

impl OutboundBody {
    /// Makes a body of at most `limit_bytes`. An error if its declared length is over that.
    pub(super) fn new(
        incoming: Incoming,
        origin: Origin,
        limit_bytes: u64,
        between_bytes: Duration,
        lease: Lease,
    ) -> Result<Self, OutboundError> {
        let mut body = Self {
            incoming,
            origin,
            limit_bytes,
            received_bytes: 0,
            between_bytes,
            timer: None,
            is_waiting: false,
            lease: Some(lease),
        };
        if body.incoming.size_hint().lower() > limit_bytes {
            return Err(body.too_large());
        }
        if body.incoming.is_end_stream() {
            body.finish();
        }
        Ok(body)
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn too_large(&self) -> OutboundError {
        OutboundError::BodyTooLarge { origin: self.origin.clone(), limit_bytes: self.limit_bytes }
    }

    /// Ends the body with an error and closes the connection. A failed upload is the better explanation.
    fn fail(&mut self, error: OutboundError) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        let failure = self.lease.take().and_then(|lease| lease.upload.take_failure());
        Poll::Ready(Some(Err(failure.unwrap_or(error))))
    }

    /// Ready once the wait for the next piece has exceeded its timeout.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.between_bytes)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + self.between_bytes);
        }
        timer.as_mut().poll(cx)
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        let this = self.get_mut();
        while this.lease.is_some() {
            let polled = Pin::new(&mut this.incoming).poll_frame(cx);
            if polled.is_ready() {
                this.is_waiting = false;
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let len = frame.data_ref().map(Bytes::len);
                    if len == Some(0) {
                        continue;
                    }
                    this.received_bytes += len.unwrap_or(0) as u64;
                    if this.received_bytes > this.limit_bytes {
                        let error = this.too_large();
                        return this.fail(error);
                    }
                    if this.incoming.is_end_stream() {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(source))) => {
                    let origin = this.origin.clone();
                    return this.fail(OutboundError::Protocol { origin, source: source.into() });
                }
                Poll::Ready(None) => this.finish(),
                Poll::Pending => {
                    if this.poll_timer(cx).is_pending() {
                        return Poll::Pending;
                    }
                    let error = OutboundError::Timeout {
                        origin: this.origin.clone(),
                        phase: Phase::BetweenBytes,
                        limit: this.between_bytes,
                    };
                    return this.fail(error);
                }
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.lease.is_none() {
            return SizeHint::with_exact(0);
        }
        self.incoming.size_hint()
    }
}
