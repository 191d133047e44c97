//! Requests, as handlers see them.

use super::{Body, form};
use crate::http::Headers;

/// The whole request, for a handler that needs more than typed parameters: the method, any header, a body that it reads
/// itself.
///
/// ```
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::web::Request;
///
/// #[web(route = "* /mirror/{*path}")]
/// fn mirror(request: Request) -> String {
///     let agent = request.header("user-agent").unwrap_or("nobody");
///     format!("{} {} by {agent}", request.method(), request.path())
/// }
///
/// fn main() {
///     let seen = bireme_sdk::testing::web("DELETE", "/mirror/a").header("user-agent", "me").send();
///     assert_eq!(seen.text().unwrap(), "DELETE /mirror/a by me");
/// }
/// ```
#[derive(Debug)]
pub struct Request {
    pub(super) head: Head,
    pub(super) body: Option<Body>,
}

/// A request without its body.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Headers,
    /// Parameters of the path, decoded.
    pub parameters: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn new(method: String, path_with_query: &str, headers: Headers, body: Body) -> Self {
        let (path, query) = path_with_query.split_once('?').unwrap_or((path_with_query, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        Self { head: Head { method, path, query, headers, parameters: Vec::new() }, body: Some(body) }
    }

    /// Returns the method, in capitals.
    pub fn method(&self) -> &str {
        &self.head.method
    }

    /// Returns the path below the app, as it was sent: escapes are not decoded.
    pub fn path(&self) -> &str {
        &self.head.path
    }

    /// Returns the query without its question mark, as it was sent; empty without one.
    pub fn query(&self) -> &str {
        &self.head.query
    }

    /// Returns the first value of a name in the query, decoded.
    pub fn query_value(&self, name: &str) -> Option<String> {
        form::values_of(&self.head.query, name).into_iter().next()
    }

    /// Returns the value of the route's `{name}`, decoded.
    pub fn path_value(&self, name: &str) -> Option<&str> {
        self.head.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the first value of a header; `None` if it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)
    }

    /// Returns every header.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// Returns the URL path of a route of this app, as a browser requests it: on a host, apps lie below `/{app}`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", prefix(&self.head.headers))
    }

    /// Returns the body, to be streamed.
    pub fn into_body(self) -> Body {
        self.body.unwrap_or_else(|| Body::of(Vec::new()))
    }
}

/// Returns the app's path prefix on its host.
pub(super) fn prefix(headers: &Headers) -> &str {
    headers.get("x-forwarded-prefix").unwrap_or_default().trim_end_matches('/')
}
