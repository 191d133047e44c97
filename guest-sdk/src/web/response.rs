//! Builder of responses.

use std::fmt;

use super::Stream;
use crate::http::Headers;

/// A response: status, headers, body.
///
/// ```
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::web::Response;
///
/// #[web(route = "GET /robots.txt")]
/// fn robots() -> Response {
///     Response::new(200)
///         .header("content-type", "text/plain")
///         .header("cache-control", "max-age=3600")
///         .body("User-agent: *\n")
/// }
///
/// fn main() {
///     let robots = bireme_sdk::testing::web("GET", "/robots.txt").send();
///     assert_eq!(robots.headers.get("cache-control"), Some("max-age=3600"));
/// }
/// ```
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Whole(Vec<u8>),
    Stream(Stream),
}

impl Response {
    /// Makes a response without headers and body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), content: Content::Whole(Vec::new()) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.content = Content::Whole(body.into());
        self
    }

    /// Sets a streamed body.
    #[must_use]
    pub fn stream(mut self, stream: Stream) -> Self {
        self.content = Content::Stream(stream);
        self
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Sets a header unless there is one.
    pub(super) fn default_header(self, name: &str, value: &str) -> Self {
        if self.has_header(name) { self } else { self.header(name, value) }
    }

    /// Prefixes a `location` within the app with the app's path on its host.
    pub(super) fn below(mut self, prefix: &str) -> Self {
        for (name, value) in &mut self.headers {
            if name.eq_ignore_ascii_case("location") && value.starts_with(b"/") && !value.starts_with(b"//") {
                value.splice(..0, prefix.bytes());
            }
        }
        self
    }

    /// Reads the response to its end, as a client does.
    #[cfg_attr(all(target_arch = "wasm32", not(feature = "testing")), expect(dead_code, reason = "for tests"))]
    pub(crate) fn collect(self, is_head: bool) -> crate::Result<crate::http::Response> {
        let mut body = match self.content {
            Content::Whole(bytes) => bytes,
            Content::Stream(stream) => {
                let mut bytes = Vec::new();
                stream.write_to(&mut bytes)?;
                bytes
            }
        };
        if is_head {
            body.clear();
        }
        let mut response = crate::http::Response::new(self.status, body);
        response.headers = Headers::from(self.headers);
        Ok(response)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}
