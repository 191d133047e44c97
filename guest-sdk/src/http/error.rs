//! Errors of HTTP requests.

/// Reason why a request has no usable response. Every message names the URL.
///
/// ```
/// use bireme_sdk::{http, testing};
///
/// let _site = testing::with_http(|request| Err(http::Error::Denied { url: request.url().to_owned() }));
/// let denied = http::get("https://example.com/").send().unwrap_err();
/// assert!(denied.is_terminal());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL, the method or a header is malformed.
    #[error("cannot ask for `{url}`: {reason}")]
    InvalidRequest {
        /// URL of the request.
        url: String,
        /// Reason in one clause.
        reason: String,
    },
    /// The request's body or query cannot be encoded.
    #[error("the {part} for `{url}` cannot be written: {reason}")]
    Encode {
        /// URL of the request.
        url: String,
        /// Part of the request: `JSON`, `form` or `query`.
        part: &'static str,
        /// Reason in one clause.
        reason: String,
    },
    /// The host does not permit the URL.
    #[error(
        "this function may not reach `{url}`: add its origin to the function's `outbound`; \
        the operator grants private addresses and `$names` with `--grant`"
    )]
    Denied {
        /// URL of the request.
        url: String,
    },
    /// The host name does not resolve.
    #[error("no address found for the host of `{url}`: {reason}")]
    Dns {
        /// URL of the request.
        url: String,
        /// Reason in one clause.
        reason: String,
    },
    /// The connection failed.
    #[error("cannot connect to `{url}`: {reason}")]
    Connect {
        /// URL of the request.
        url: String,
        /// Reason in one clause.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("no TLS session with `{url}`: {reason}")]
    Tls {
        /// URL of the request.
        url: String,
        /// Reason in one clause.
        reason: String,
    },
    /// The request, or the host, timed out.
    #[error("`{url}` took too long: {reason}")]
    Timeout {
        /// URL of the request.
        url: String,
        /// Reason in one clause.
        reason: String,
    },
    /// The body is larger than the request allows.
    #[error("the body of `{url}` is larger than {limit_bytes} bytes; `body_bytes_max` raises that")]
    BodyTooLarge {
        /// URL of the request.
        url: String,
        /// Limit on the body, in bytes.
        limit_bytes: u64,
    },
    /// Too many redirects.
    #[error("`{url}` redirects again after {limit} redirects; `redirects` raises that")]
    TooManyRedirects {
        /// URL of the request.
        url: String,
        /// Limit on redirects.
        limit: u32,
    },
    /// The call's connections are all in use.
    #[error("no connection left for `{url}`: this call has as many as the host allows")]
    ConnectionLimit {
        /// URL of the request.
        url: String,
    },
    /// The exchange broke off or is not HTTP.
    #[error("the exchange with `{url}` failed: {reason}")]
    Protocol {
        /// URL of the request.
        url: String,
        /// Reason in one clause.
        reason: String,
    },
    /// The status is not a success; see [`Response::error_for_status`](super::Response::error_for_status).
    #[error("`{url}` answered with status {status}")]
    Status {
        /// URL of the request.
        url: String,
        /// HTTP status of the response.
        status: u16,
    },
    /// The body is not text in its encoding.
    #[error(
        "the body of `{url}` is not {charset}; `.bytes()` returns it as it is, `.text_lossy()` with U+FFFD for what \
         cannot be read"
    )]
    Text {
        /// URL of the request.
        url: String,
        /// Encoding that the response names, or `UTF-8`.
        charset: &'static str,
    },
    /// The body is not the requested JSON.
    #[error("the body of `{url}` is not the expected JSON: {reason}")]
    Json {
        /// URL of the request.
        url: String,
        /// Reason in one clause.
        reason: String,
        /// True for JSON of another shape, false for a body that is no JSON or was cut off.
        is_misfit: bool,
    },
    /// The body cannot be decompressed.
    #[error("the body of `{url}` cannot be read as `{encoding}`: {reason}")]
    Encoding {
        /// URL of the request.
        url: String,
        /// Content encoding of the body: `gzip`, `br`, …
        encoding: &'static str,
        /// Reason in one clause.
        reason: String,
    },
    /// A native test sent a request without a fake.
    #[error("there is no host in a native test, so no `{url}`; answer it with `bireme_sdk::testing::with_http`")]
    NoFake {
        /// URL of the request.
        url: String,
    },
}

impl Error {
    /// Returns true if a retry cannot help: the request itself or the host's rules forbid it, the body is not text
    /// or JSON of another shape, or the status is 4xx other than 408, 425 and 429.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::InvalidRequest { .. }
            | Self::Encode { .. }
            | Self::Denied { .. }
            | Self::BodyTooLarge { .. }
            | Self::Text { .. }
            | Self::Json { is_misfit: true, .. }
            | Self::NoFake { .. } => true,
            Self::Status { status, .. } => (400..500).contains(status) && ![408, 425, 429].contains(status),
            _ => false,
        }
    }
}
