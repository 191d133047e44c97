//! The body of every response: whole, or a stream.

use std::error::Error;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// Why a body ends before its end; the connection is closed for it.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// What a response carries.
pub type ResponseBody = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
