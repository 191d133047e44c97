//! Bodies: those of responses, whole or a stream; those of requests, read whole within bounds.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::codes::Code;
use crate::limits;

/// Why a body ends before its end; the connection is closed for it.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// What a response carries.
pub type ResponseBody = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The request bodies that the host holds, all connections together.
pub struct RequestBodies {
    /// Bytes that they may still take.
    room: Arc<Semaphore>,
}

/// A body that was read, and its room for as long as it is held.
pub struct Held {
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl RequestBodies {
    pub fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(limits::HTTP_BODIES_BYTES_MAX)) }
    }

    /// Reads a body of at most `bytes_max`, which is `whose` limit, within the host's patience.
    pub async fn read(&self, request: Request<Incoming>, bytes_max: u64, whose: &str) -> Result<Held, Problem> {
        let too_large = || {
            let detail = format!("the body is over {whose} of {bytes_max} bytes");
            Problem::new(Code::InputTooLarge, detail)
        };
        let (head, body) = request.into_parts();
        let length = content_length(&head.headers);
        // Refused by its length before a byte is read.
        if length.is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let room = self.take(length.unwrap_or(bytes_max))?;
        let limited = Limited::new(body, usize::try_from(bytes_max).unwrap_or(usize::MAX));
        match tokio::time::timeout(limits::HTTP_BODY_TIMEOUT, limited.collect()).await {
            Ok(Ok(collected)) => Ok(Held { bytes: collected.to_bytes(), _room: room }),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
            Ok(Err(error)) => {
                let detail = format!("the body could not be read: {error}");
                Err(Problem::new(Code::BodyUnreadable, detail))
            }
            Err(_) => {
                let detail = format!("the body did not arrive within {:?}", limits::HTTP_BODY_TIMEOUT);
                Err(Problem::new(Code::BodyTimeout, detail))
            }
        }
    }

    /// Takes room for a body, by its length or, without one, by the most that it may have.
    fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.room.clone().try_acquire_many_owned(bytes).map_err(|_| {
            let detail = "the host holds as many request bodies as it may; try again later";
            Problem::new(Code::Overloaded, detail)
        })
    }
}

/// The length that a request's head gives its body.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
