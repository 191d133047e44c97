//! One HTTP exchange with a guest: the request in, the response out, both streamed.
//!
//! Not here: which requests reach a guest, and the client's answer when a guest gives none (`http`).
//!
//! Limits: one frame of a request's body is in memory at a time; of a response's body, the bytes that the hooks in
//! `outgoing_http` let a guest write ahead.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{Error, WasiBody};

/// Error of a body that broke off.
type BodyError = Box<dyn StdError + Send + Sync>;
pub(super) type ResponseHead = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// The guest's side: the request, and a sender for the response.
pub(crate) struct Exchange {
    pub(super) request: http::Request<WasiBody>,
    pub(super) head: oneshot::Sender<ResponseHead>,
}

/// The client's side: the response to come.
pub(crate) struct ResponseReceiver(oneshot::Receiver<ResponseHead>);

/// Body of a guest's response. Ends early, without an error, if the guest does; the call's result tells the two apart.
pub(crate) struct GuestBody(HyperOutgoingBody);

impl Exchange {
    /// Makes both sides of one exchange. The request has a `host`, a path as the guest sees it, and a body without
    /// empty parts, on which wasmtime's adapter would spin.
    pub(crate) fn new<B>(request: http::Request<B>) -> (Self, ResponseReceiver)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: StdError,
    {
        let (head, answer) = oneshot::channel();
        let cut_off = |error: B::Error| {
            tracing::debug!(%error, "a request's body broke off");
            Error::HttpRequestBodySize(None)
        };
        let request = request.map(|body| body.map_err(cut_off).boxed_unsync());
        (Self { request, head }, ResponseReceiver(answer))
    }
}

impl ResponseReceiver {
    /// Waits for the response's head. `None` if the guest ended without one; the error is the guest's own, as text.
    pub(crate) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http::Response<GuestBody>, String>>> {
        // A guest that drops its `response-outparam` may go on running, and this is polled again.
        if self.0.is_terminated() {
            return Poll::Ready(None);
        }
        let head = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(head.ok().map(|head| match head {
            Ok(response) => Ok(response.map(GuestBody)),
            Err(code) => Err(format!("{code:?}")),
        }))
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    /// Yields non-empty frames, and trailers.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(context)) {
                Some(Ok(frame)) if is_empty(&frame) => continue,
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(_)) => Some(Err("the app gave its answer up before its end".into())),
                None => None,
            });
        }
    }
}

fn is_empty(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(Bytes::is_empty)
}
