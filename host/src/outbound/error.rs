//! Errors of outbound requests.
//!
//! Messages are for the function's author and for the operator. They name origins, which the function knows already,
//! and never the private address behind a name; the variants hold it for the log.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::origin::{Origin, OriginError};

/// A boxed cause from another layer.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The part of an exchange that a timeout covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Phase {
    /// Name resolution, TCP and TLS together.
    Connect,
    /// From the start of the request until the response's head.
    FirstByte,
    /// Between two pieces of the response's body.
    BetweenBytes,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connect => "did not connect",
            Phase::FirstByte => "sent no response",
            Phase::BetweenBytes => "sent nothing more",
        })
    }
}

/// Formats the declared origins for the end of a message.
struct DeclaredOrigins<'a>(&'a [String]);

impl fmt::Display for DeclaredOrigins<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the function declares no outbound origin");
        }
        f.write_str("the function declares ")?;
        for (index, entry) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}`{entry}`")?;
        }
        Ok(())
    }
}

/// Error of an outbound request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OutboundError {
    /// The request's URL names no origin. The author corrects the URL.
    #[error("the request's URL is refused: {source}")]
    Url {
        /// The reason.
        source: OriginError,
    },
    /// The function does not declare this origin. The author adds it to `outbound`.
    #[error(
        "`{origin}` is not declared: {}; add it to `outbound` in {place}",
        DeclaredOrigins(.declared)
    )]
    NotDeclared {
        /// Target of the request.
        origin: Origin,
        /// The function's own list.
        declared: Vec<String>,
        /// Place of the list.
        place: &'static str,
    },
    /// The function declares this origin, the operator has not granted it. The operator adds the grant.
    #[error(
        "`{origin}` is declared but not granted; grant it with `--grant {grant}` on `bireme deploy`, `serve` or `run`"
    )]
    NotGranted {
        /// Target of the request.
        origin: Origin,
        /// The value of the `--grant` flag that permits it.
        grant: String,
    },
    /// The origin is not on the public internet. The operator adds the grant, where one can help.
    #[error("`{origin}` leads to a {network} address, which is not public; {}", advice(.grant))]
    NotPublic {
        /// Target of the request.
        origin: Origin,
        /// One address that it has. Not part of the message.
        address: IpAddr,
        /// The registry's word for the address's block.
        network: &'static str,
        /// The value of the `--grant` flag that permits it, if the function names the origin at all.
        grant: Option<String>,
    },
    /// The origin is a listener of this host; no grant helps.
    #[error(
        "`{origin}` is a listener of this host, which no function can reach; call functions through the sdk instead"
    )]
    OwnListener {
        /// Target of the request.
        origin: Origin,
    },
    /// The method would turn the connection into a tunnel.
    #[error("the method `{method}` is not possible for a function; use an ordinary request")]
    Method {
        /// The method asked for.
        method: http::Method,
    },
    /// The request's `content-length` is not the length of its body.
    #[error("the request's content-length says {declared} bytes, its body has {actual}; leave the header out")]
    RequestLength {
        /// The header's value, as text because it need not be a number.
        declared: String,
        /// The length of the body, as far as it was read.
        actual: u64,
    },
    /// The name has no address, or the resolver failed. Worth a retry.
    #[error("the host name of `{origin}` does not resolve: {source}")]
    Resolve {
        /// Target of the request.
        origin: Origin,
        /// The resolver's reason.
        source: std::io::Error,
    },
    /// No address accepted the connection. Worth a retry.
    #[error("`{origin}` cannot be connected to: {source}")]
    Connect {
        /// Target of the request.
        origin: Origin,
        /// The reason of the last address tried.
        source: std::io::Error,
    },
    /// The server's certificate or protocol was refused.
    #[error("`{origin}` failed the TLS handshake: {source}")]
    Tls {
        /// Target of the request.
        origin: Origin,
        /// rustls's reason.
        source: std::io::Error,
    },
    /// This machine has no trusted root certificates. The operator installs them.
    #[error(
        "no trusted certificates were found on this machine, so `{origin}` cannot be verified; install the package \
         `ca-certificates`, or set SSL_CERT_FILE to a bundle"
    )]
    NoRoots {
        /// Target of the request.
        origin: Origin,
    },
    /// The server exceeded a timeout.
    #[error("`{origin}` {phase} within {}", millis(.limit))]
    Timeout {
        /// Target of the request.
        origin: Origin,
        /// The wait that timed out.
        phase: Phase,
        /// The timeout.
        limit: Duration,
    },
    /// Every connection of the host is in use. Worth a retry after a pause.
    #[error("all {limit} outbound connections of the host are in use; retry later")]
    HostConnections {
        /// The host's limit.
        limit: usize,
    },
    /// The response's head is over the limits.
    #[error("`{origin}` sent a response head over {headers_max} headers or {bytes_max} bytes")]
    HeadTooLarge {
        /// Target of the request.
        origin: Origin,
        /// The most headers accepted.
        headers_max: usize,
        /// The most bytes accepted.
        bytes_max: usize,
    },
    /// The response's body is over the limit. The operator raises it, or the author asks for less.
    #[error("`{origin}` sent a body over the limit of {limit_bytes} bytes; ask for a part of it with a `range` header")]
    BodyTooLarge {
        /// Target of the request.
        origin: Origin,
        /// The limit.
        limit_bytes: u64,
    },
    /// The server closed the connection early or spoke no HTTP/1.1.
    #[error("the exchange with `{origin}` broke: {source}")]
    Protocol {
        /// Target of the request.
        origin: Origin,
        /// The protocol layer's reason.
        source: BoxError,
    },
    /// The function's own request body failed.
    #[error("the request's body failed: {source}")]
    RequestBody {
        /// The body's error.
        source: BoxError,
    },
}

fn advice(grant: &Option<String>) -> String {
    match grant {
        Some(grant) => format!("grant it with `--grant {grant}` on `bireme deploy`, `serve` or `run`"),
        None => "declare the origin by name in `outbound`, then grant it".into(),
    }
}

fn millis(limit: &Duration) -> String {
    format!("{} ms", limit.as_millis())
}
