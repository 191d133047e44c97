//! Requests made fit to send, and responses made fit to read.
//!
//! Invariants: `Host` comes from the permitted origin alone; the framing headers come from the connection alone;
//! hop-by-hop headers (RFC 9110, 7.6.1) pass in neither direction.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};
use http_body::Body;

use super::error::{BoxError, OutboundError};
use super::policy::Permit;
use super::upload::Upload;

/// Headers that describe a connection rather than a message.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// A request ready for a connection, with a copy if it is safe to send twice.
pub(super) struct PreparedRequest {
    pub(super) request: Request<Upload>,
    /// A copy for a retry; only of a request without a body and with an idempotent method (RFC 9110, 9.2.2).
    pub(super) retry_copy: Option<Request<Upload>>,
}

/// Prepares a function's request: checks its length, and replaces the headers of the connection.
pub(super) fn prepare_request<B>(request: Request<B>, permit: &Permit) -> Result<PreparedRequest, OutboundError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err(OutboundError::Method { method: parts.method });
    }
    let upload = upload(&parts.method, &parts.headers, body)?;
    strip_hop_by_hop(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    let host = HeaderValue::try_from(permit.origin().authority()).expect("a host is visible ASCII");
    parts.headers.insert(header::HOST, host);
    parts.uri = path_of(&parts.uri);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let is_harmless = upload.is_end_stream() && parts.method.is_idempotent();
    let retry_copy = is_harmless.then(|| Request::from_parts(parts.clone(), Upload::empty()));
    Ok(PreparedRequest { request: Request::from_parts(parts, upload), retry_copy })
}

/// Removes the connection's headers from a response, and returns whether the server keeps the connection open.
pub(super) fn strip_response(response: &mut http::response::Parts) -> bool {
    let is_close = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("close"));
    strip_hop_by_hop(&mut response.headers);
    response.extensions.clear();
    !is_close && response.version == Version::HTTP_11
}

fn upload<B>(method: &Method, headers: &HeaderMap, body: B) -> Result<Upload, OutboundError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let exact = body.size_hint().exact();
    let declared = declared_length(headers, exact.unwrap_or(0))?;
    match (declared, exact) {
        (Some(declared), Some(actual)) if declared != actual => {
            Err(OutboundError::RequestLength { declared: declared.to_string(), actual })
        }
        (_, Some(0)) => Ok(Upload::empty()),
        // Most servers reject a body of unknown length here, and the connection would leave it out.
        (None, None) if *method == Method::GET || *method == Method::HEAD => Ok(Upload::empty()),
        (declared, exact) => Ok(Upload::new(body, declared.or(exact))),
    }
}

/// Returns `content-length`: `None` if absent, the number if all its values agree.
fn declared_length(headers: &HeaderMap, actual: u64) -> Result<Option<u64>, OutboundError> {
    let mut declared = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(length) if is_number && declared.is_none_or(|earlier| earlier == length) => {
                declared = Some(length);
            }
            _ => {
                return Err(OutboundError::RequestLength { declared: text.into_owned(), actual });
            }
        }
    }
    Ok(declared)
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Returns the origin-form of `uri`, for the request line of HTTP/1.1.
fn path_of(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full, StreamBody};

    use super::*;
    use crate::outbound::{Grants, Policy};

    fn permit(uri: &Uri) -> Permit {
        let policy = Policy::new(&["*".to_owned()], &Grants::default(), "").expect("valid");
        policy.check(uri).expect("public")
    }

    fn check<B>(request: http::request::Builder, body: B) -> Result<PreparedRequest, OutboundError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let request = request.body(body).expect("a request");
        let permit = permit(request.uri());
        prepare_request(request, &permit)
    }

    /// A body of unknown length.
    fn unknown() -> impl Body<Data = Bytes, Error = BoxError> + Send + 'static {
        StreamBody::new(futures_util::stream::empty())
    }

    #[test]
    fn host_comes_from_the_url_and_hop_by_hop_headers_stay_here() {
        let request = Request::get("https://api.example.com:8443/a/b?c=d")
            .header("host", "internal.evil")
            .header("connection", "keep-alive, x-secret")
            .header("x-secret", "1")
            .header("te", "trailers")
            .header("upgrade", "h2c")
            .header("http2-settings", "AAMAAABkAAQAAP__")
            .header("proxy-authorization", "Basic eDp5")
            .header("transfer-encoding", "chunked")
            .header("accept", "text/html");
        let out = check(request, Empty::<Bytes>::new()).expect("possible");
        assert_eq!(out.request.uri(), "/a/b?c=d");
        let mut headers: Vec<_> = out
            .request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        headers.sort_unstable();
        assert_eq!(headers, ["accept: text/html", "host: api.example.com:8443"]);
    }

    #[test]
    fn only_a_request_that_changes_nothing_twice_is_kept_for_a_retry() {
        let kept = |method: &str, body: &'static str| {
            let request = Request::builder().method(method).uri("http://a.example");
            let out = check(request, Full::new(Bytes::from_static(body.as_bytes())));
            out.expect("possible").retry_copy.is_some()
        };
        assert!(kept("GET", "") && kept("DELETE", "") && kept("OPTIONS", ""));
        assert!(!kept("POST", "") && !kept("PUT", "x"));
    }

    #[test]
    fn a_wrong_content_length_is_refused_before_it_leaves() {
        let refused = |length: &[&str], body: &'static str| {
            let mut request = Request::post("http://a.example");
            for length in length {
                request = request.header("content-length", *length);
            }
            check(request, Full::new(Bytes::from_static(body.as_bytes()))).is_err()
        };
        assert!(!refused(&["4"], "body"));
        assert!(!refused(&["4", "4"], "body"));
        assert!(!refused(&["0"], ""));
        assert!(refused(&["5"], ""));
        assert!(refused(&["3"], "body"));
        assert!(refused(&["4", "5"], "body"));
        assert!(refused(&["+4"], "body"));
        assert!(refused(&["4,4"], "body"));
        assert!(refused(&[""], ""));
    }

    #[test]
    fn tunnels_are_refused() {
        let request = Request::builder().method("CONNECT").uri("http://a.example");
        let refused = check(request, Empty::<Bytes>::new());
        assert!(matches!(refused, Err(OutboundError::Method { .. })));
    }

    #[test]
    fn a_get_of_unknown_length_has_no_body() {
        let out = check(Request::get("http://a.example"), unknown()).expect("possible");
        assert!(out.request.body().is_end_stream());
        let out = check(Request::post("http://a.example"), unknown()).expect("possible");
        assert!(!out.request.body().is_end_stream());
    }
}
