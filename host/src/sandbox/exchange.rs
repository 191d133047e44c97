//! One HTTP exchange on its way through a guest: the request in, the answer out, both as streams.
//!
//! Not here: which requests reach a guest and what a client is told when there is no answer (`http`).
//!
//! Limits: of a request's body one part is in memory at a time; of an answer's body, what the hooks in `imports::http` let a
//! guest write ahead.

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

/// Why a body ended before its end.
type BodyError = Box<dyn StdError + Send + Sync>;
pub(super) type Head = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// The guest's side: a request, and where the answer goes.
pub struct Exchange {
    pub(super) request: http::Request<WasiBody>,
    pub(super) head: oneshot::Sender<Head>,
}

/// The client's side.
pub struct Answer(oneshot::Receiver<Head>);

/// The body of an answer. Ends early, without an error, if the guest does; whoever reads it asks how the call ended.
pub struct AnswerBody(HyperOutgoingBody);

impl Exchange {
    /// Makes both sides of one exchange. The request has a `host`, a path as the guest sees it, and a body without empty
    /// parts, on which wasmtime's adapter would spin.
    pub fn new<B>(request: http::Request<B>) -> (Self, Answer)
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
        (Self { request, head }, Answer(answer))
    }
}

impl Answer {
    /// Waits for the head. None once the guest has ended without one; an error is the guest's own word for it.
    pub fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<http::Response<AnswerBody>, String>>> {
        // A guest that drops its `response-outparam` goes on, and this is polled again.
        if self.0.is_terminated() {
            return Poll::Ready(None);
        }
        let head = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(head.ok().map(|head| match head {
            Ok(response) => Ok(response.map(AnswerBody)),
            Err(code) => Err(format!("{code:?}")),
        }))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    /// Yields parts that are not empty, and trailers.
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
