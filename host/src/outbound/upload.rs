//! Request body on its way from a function to the connection.
//!
//! Invariants: the body is as long as its `content-length` says, or the exchange fails; empty pieces are dropped, since
//! each would be a chunk on the wire or a turn of the loop for nothing; trailers are dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;

use super::error::{BoxError, OutboundError};

/// Body of an outgoing request.
pub(super) struct Upload {
    /// `None` once everything is sent.
    body: Option<UnsyncBoxBody<Bytes, BoxError>>,
    declared: Option<u64>,
    sent: u64,
    state: Arc<UploadState>,
}

/// State of an upload, shared by both ends of the exchange.
#[derive(Debug, Default)]
pub(super) struct UploadState {
    is_complete: AtomicBool,
    failure: Mutex<Option<OutboundError>>,
}

impl UploadState {
    /// Whether the whole body went to the connection, so that another request can follow on it.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Takes the failure of the upload, if it failed. It explains later errors of the connection.
    pub(super) fn take_failure(&self) -> Option<OutboundError> {
        self.failure.lock().take()
    }
}

/// Stands in for an error that waits in the [`UploadState`].
#[derive(Debug, thiserror::Error)]
#[error("the request's body failed")]
struct UploadError;

impl Upload {
    /// Returns an empty upload.
    pub(super) fn empty() -> Self {
        let state = Arc::new(UploadState::default());
        state.is_complete.store(true, Ordering::Release);
        Self { body: None, declared: None, sent: 0, state }
    }

    /// Returns an upload of `body`, of exactly `declared` bytes if given.
    pub(super) fn new<B>(body: B, declared: Option<u64>) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self { body: Some(body.map_err(Into::into).boxed_unsync()), declared, sent: 0, state: Arc::default() }
    }

    /// Returns the shared state.
    pub(super) fn state(&self) -> Arc<UploadState> {
        Arc::clone(&self.state)
    }

    fn fail(&mut self, error: OutboundError) -> BoxError {
        self.body = None;
        *self.state.failure.lock() = Some(error);
        UploadError.into()
    }

    fn wrong_length(&mut self) -> BoxError {
        let error =
            OutboundError::RequestLength { declared: self.declared.unwrap_or_default().to_string(), actual: self.sent };
        self.fail(error)
    }

    fn complete(&self) {
        self.state.is_complete.store(true, Ordering::Release);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            let Some(body) = &mut this.body else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if data.is_empty() {
                        continue;
                    }
                    this.sent += data.len() as u64;
                    match this.declared {
                        Some(declared) if this.sent > declared => {
                            return Poll::Ready(Some(Err(this.wrong_length())));
                        }
                        // The connection counts as well, and stops polling here.
                        Some(declared) if this.sent == declared => this.complete(),
                        _ => {}
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(source)) => {
                    let failed = this.fail(OutboundError::RequestBody { source });
                    return Poll::Ready(Some(Err(failed)));
                }
                None if this.declared.is_some_and(|declared| declared != this.sent) => {
                    return Poll::Ready(Some(Err(this.wrong_length())));
                }
                None => {
                    this.body = None;
                    this.complete();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, self.declared) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(declared)) => SizeHint::with_exact(declared.saturating_sub(self.sent)),
            (Some(body), None) => body.size_hint(),
        }
    }
}
