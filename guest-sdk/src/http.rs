//! HTTP requests through the host.
//!
//! Every request, each redirect included, passes the host's check: only what the function declares in `outbound` and
//! the operator grants is reached. Without a [`timeout`](Request::timeout) the call's own deadline is the only one.
//!
//! ```
//! use bireme_sdk::prelude::*;
//!
//! #[function(outbound = ["https://example.com"])]
//! fn title(url: String) -> Result<String> {
//!     let page = http::get(url).header("accept", "text/html").send()?.error_for_status()?.text()?;
//!     Ok(page.lines().next().unwrap_or_default().to_owned())
//! }
//!
//! fn main() -> Result<()> {
//!     let _http = bireme_sdk::testing::with_http(|request| {
//!         Ok(http::Response::new(200, format!("you asked for {}", request.url())))
//!     });
//!     assert_eq!(title("https://example.com/".to_owned())?, "you asked for https://example.com/");
//!     Ok(())
//! }
//! ```

mod charset;
mod encoding;
mod error;
mod request;
mod response;
mod retry;
mod url;

pub use self::error::Error;
pub use self::request::{Request, delete, get, head, patch, post, put, request};
pub use self::response::{Headers, Response};
pub use self::url::Url;

/// Bytes of the largest response body, unless the request sets another limit.
///
/// ```
/// use bireme_sdk::http;
///
/// let small = http::get("https://example.com/feed.xml").body_bytes_max(http::BODY_BYTES_MAX / 8);
/// assert_eq!(small.method(), "GET");
/// ```
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Redirects that a `GET` or `HEAD` follows, unless the request sets another limit.
///
/// ```
/// use bireme_sdk::http;
///
/// let patient = http::get("https://example.com/").redirects(2 * http::REDIRECTS_MAX);
/// assert_eq!(patient.url(), "https://example.com/");
/// ```
pub const REDIRECTS_MAX: u32 = 5;
