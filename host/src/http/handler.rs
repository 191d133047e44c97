//! Handlers of requests: their result, and the methods that only read.

use http::{Method, Response};

use super::problem::Problem;
use super::respond::ResponseBody;

/// Result of a handler. A problem becomes a response at the top, in `routes`.
pub(crate) type HandlerResult = Result<Response<ResponseBody>, Problem>;

/// Whether a method only reads.
pub(crate) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
