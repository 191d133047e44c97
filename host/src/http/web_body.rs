//! Request body on its way to a web function: a stall timeout, no empty parts, and a record of the client's fault.
//!
//! The fault is what the client is told, rather than the guest's failure over it.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};

use super::problem::Problem;
use super::request_body::{stalled, unreadable};
use crate::limits::HTTP_BODY_STALL_TIMEOUT;

/// Body as a guest reads it. wasmtime's adapter would spin on empty parts, so there are none.
pub(crate) struct WebBody<B> {
    body: B,
    /// Timer while the guest waits for the next part.
    stall: Option<Pin<Box<Sleep>>>,
    fault: Fault,
}

/// Problem of a body that ended by the client's fault.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<Problem>>>);

impl Fault {
    /// Takes the problem, if there is one.
    pub(crate) fn take(&self) -> Option<Problem> {
        self.0.lock().take()
    }

    fn set(&self, problem: Problem) -> ClientFault {
        let fault = ClientFault(problem.detail.clone());
        *self.0.lock() = Some(problem);
        fault
    }
}

/// Error of a body that the client cut off or stalled.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ClientFault(String);

impl<B> WebBody<B> {
    pub(crate) fn new(body: B) -> (Self, Fault) {
        let fault = Fault::default();
        (Self { body, stall: None, fault: fault.clone() }, fault)
    }
}

impl<B> Body for WebBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error,
{
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let this = &mut *self;
        while let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            // An empty part is no progress.
            if matches!(&frame, Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty)) {
                continue;
            }
            this.stall = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| this.fault.set(unreadable(&error)))));
        }
        let stall = this.stall.get_or_insert_with(|| Box::pin(sleep(HTTP_BODY_STALL_TIMEOUT)));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Some(Err(this.fault.set(stalled()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::codes::Code;

    #[tokio::test]
    async fn the_fault_of_a_body_that_breaks_off_is_kept() {
        let parts = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(std::io::Error::other("cut"))];
        let (mut body, fault) = WebBody::new(StreamBody::new(stream::iter(parts)));
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        assert!(fault.take().is_none());
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        assert_eq!(fault.take().map(|problem| problem.code), Some(Code::BodyUnreadable));
    }

    #[tokio::test]
    async fn empty_parts_of_a_request_never_reach_a_guest() {
        let parts = ["", "a", "", "", "b", ""].map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
        let (mut body, _fault) = WebBody::new(StreamBody::new(stream::iter(parts)));
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            read.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(read, ["a", "b"]);
    }
}
