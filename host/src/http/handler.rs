//! Handlers of requests: their result, and the guard of those that only read.

use http::{Method, Request, Response};

use super::problem::Problem;
use super::respond::ResponseBody;

/// Result of a handler. A problem becomes a response at the top, in `routes`.
pub type HandlerResult = Result<Response<ResponseBody>, Problem>;

/// Runs a handler for `GET` and `HEAD`; other methods get 405.
pub fn read_only<B>(request: &Request<B>, handler: impl FnOnce() -> HandlerResult) -> HandlerResult {
    if is_read(request.method()) { handler() } else { Err(Problem::method("GET, HEAD")) }
}

/// Whether a method only reads.
pub fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
