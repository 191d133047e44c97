//! Requests to the app's own web functions, in process.

use serde::Serialize;

use crate::http::{Headers, Response};
use crate::web::{self, Body, Problem, Request, Respond};

/// A request to the app's own web functions, to build.
///
/// ```
/// // No web function of this test is there.
/// let reply = bireme_sdk::testing::web("POST", "/nothing").header("x-try", "1").body("text").send();
/// assert_eq!(reply.status, 404);
/// ```
#[derive(Debug)]
#[must_use = "a request is answered when it is sent"]
pub struct WebRequest {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Makes a request to one of the app's web functions, as a client does on a host: by method, and by path and query.
///
/// ```
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::testing;
///
/// #[web(route = "GET /double/{number}")]
/// fn double(number: u32) -> String {
///     (number * 2).to_string()
/// }
///
/// fn main() {
///     assert_eq!(testing::web("GET", "/double/21").send().text().unwrap(), "42");
///     let refused = testing::web("GET", "/double/x").send();
///     assert_eq!(refused.status, 400);
///     assert_eq!(testing::web("PUT", "/double/1").send().headers.get("allow"), Some("GET, HEAD"));
/// }
/// ```
pub fn web(method: impl Into<String>, path: impl Into<String>) -> WebRequest {
    WebRequest { method: method.into(), path: path.into(), headers: Vec::new(), body: Vec::new() }
}

impl WebRequest {
    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to JSON.
    ///
    /// # Panics
    /// When the value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("a test's value can be written as JSON");
        self.header("content-type", "application/json").body(body)
    }

    /// Sets the body to the fields of a form: `name=Ada&stars=5`.
    pub fn form(self, fields: impl Into<String>) -> Self {
        self.header("content-type", "application/x-www-form-urlencoded").body(fields.into())
    }

    /// Answers it, and reads a stream to its end. A stream that fails midway becomes a problem document here, where a
    /// host cuts the connection.
    pub fn send(self) -> Response {
        let is_head = self.method == "HEAD";
        let request = Request::new(self.method, &self.path, Headers::from(self.headers), Body::of(self.body));
        match web::answer(request).collect(is_head) {
            Ok(response) => response,
            Err(failure) => Problem::from(failure).respond().collect(is_head).expect("a problem is no stream"),
        }
    }
}
