//! Origins: scheme, host and port of a URL.
//!
//! The parser is the WHATWG one of crate `url`, so every spelling of an address (`2130706433`, `0x7f.1`, full-width
//! digits) is the same address here, and the compared address is the one connected to.
//!
//! Not here: permissions (`policy`), addresses of a name (`connector`).
//!
//! Invariants: host names are lower-case ASCII without a trailing dot; an IPv4-mapped IPv6 address is held as IPv4;
//! two origins are equal exactly when scheme, host and port are.
//!
//! Limit: a host name has at most 253 bytes, as in DNS.

use std::fmt;
use std::net::IpAddr;

use url::Url;

/// The longest host name that DNS can carry.
const HOST_BYTES_MAX: usize = 253;

/// The protocols that a function can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// Returns the scheme as a URL spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// Returns the port that a URL of this scheme need not name.
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// The machine part of an origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Host {
    /// A name to resolve.
    Name(Box<str>),
    /// A literal address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A scheme, a host and a port, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

/// Reason why a text is not an origin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// There is no scheme, so nothing says which protocol to speak.
    #[error("`{text}` has no scheme; write `https://{text}` or `http://{text}`")]
    NoScheme {
        /// The parsed text.
        text: String,
    },
    /// The URL parser refused the text.
    #[error("`{text}` is not a URL")]
    Syntax {
        /// The parsed text.
        text: String,
        /// The parser's reason.
        source: url::ParseError,
    },
    /// The scheme is none that a function can speak.
    #[error("`{text}` has the scheme `{scheme}`; only http and https are possible")]
    Scheme {
        /// The parsed text.
        text: String,
        /// The scheme found.
        scheme: String,
    },
    /// The text holds a user name or a password.
    #[error("the URL of `{host}` holds a user name or password; send an `authorization` header instead")]
    Userinfo {
        /// The host, without the secret part.
        host: String,
    },
    /// The text goes on after the port.
    #[error("`{text}` holds more than an origin; leave it at `{origin}`")]
    Trailing {
        /// The parsed text.
        text: String,
        /// The part that counts.
        origin: String,
    },
    /// The host name is empty, too long or ends in several dots.
    #[error("`{host}` is not a host name: 1 to {HOST_BYTES_MAX} bytes, labels separated by single dots")]
    HostName {
        /// The name found.
        host: String,
    },
}

impl Origin {
    /// Parses an origin and nothing more: no path, query, fragment or user.
    pub(crate) fn parse(text: &str) -> Result<Self, OriginError> {
        let url = parse_url(text)?;
        let origin = Self::of(&url, text)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(OriginError::Trailing { text: text.into(), origin: origin.to_string() });
        }
        Ok(origin)
    }

    /// Returns the origin that a request for `uri` goes to.
    ///
    /// Scheme and authority go through the WHATWG parser once more, and its answer is the one that is connected to, so
    /// the two parsers cannot be played against each other.
    pub(crate) fn of_uri(uri: &http::Uri) -> Result<Self, OriginError> {
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(OriginError::NoScheme { text: uri.authority().map_or("", |a| a.as_str()).into() });
        };
        if authority.as_str().contains('@') {
            return Err(OriginError::Userinfo { host: authority.host().into() });
        }
        Self::parse(&format!("{scheme}://{authority}"))
    }

    fn of(url: &Url, text: &str) -> Result<Self, OriginError> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => {
                return Err(OriginError::Scheme { text: text.into(), scheme: other.into() });
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OriginError::Userinfo { host: url.host_str().unwrap_or_default().into() });
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => Host::Name(host_name(name)?),
            Some(url::Host::Ipv4(address)) => Host::Address(address.into()),
            Some(url::Host::Ipv6(address)) => Host::Address(IpAddr::V6(address).to_canonical()),
            None => {
                return Err(OriginError::HostName { host: String::new() });
            }
        };
        let port = url.port().unwrap_or(scheme.default_port());
        Ok(Self { scheme, host, port })
    }

    /// Returns the scheme.
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the host.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the port, whether the URL named it or not.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns what a `Host` header says: the host, and the port unless it is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

fn parse_url(text: &str) -> Result<Url, OriginError> {
    if !text.contains("://") {
        return Err(OriginError::NoScheme { text: text.into() });
    }
    Url::parse(text).map_err(|source| OriginError::Syntax { text: text.into(), source })
}

fn host_name(name: &str) -> Result<Box<str>, OriginError> {
    let stripped = name.strip_suffix('.').unwrap_or(name);
    if stripped.len() > HOST_BYTES_MAX || stripped.split('.').any(str::is_empty) {
        return Err(OriginError::HostName { host: name.into() });
    }
    Ok(stripped.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        match Origin::parse(text) {
            Ok(origin) => origin.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn every_spelling_of_loopback_is_loopback() {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.1",
            "127.0.0.1.",
            "127。0。0。1",
            "\u{ff11}\u{ff12}\u{ff17}.\u{ff10}.\u{ff10}.\u{ff11}",
            "%31%32%37.0.0.1",
            "①②⑦.⓪.⓪.①",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
        ] {
            assert_eq!(shown(&format!("http://{host}")), "http://127.0.0.1", "{host}");
        }
    }

    #[test]
    fn names_are_lower_case_without_the_trailing_dot() {
        assert_eq!(shown("https://API.Example.COM."), "https://api.example.com");
        assert_eq!(shown("https://example.com:443/"), "https://example.com");
        assert_eq!(shown("http://example.com:443"), "http://example.com:443");
        assert_eq!(shown("https://bücher.example"), "https://xn--bcher-kva.example");
        assert_eq!(shown("http://[2001:DB8::1]:80"), "http://[2001:db8::1]");
    }

    #[test]
    fn what_is_more_or_less_than_an_origin_is_refused() {
        for text in [
            "example.com",
            "ftp://example.com",
            "https://user@example.com",
            "https://:secret@example.com",
            "https://example.com/path",
            "https://example.com?q",
            "https://example.com#f",
            "https://example.com..",
            "https://a..b",
            "https://",
            "http://[fe80::1%25eth0]",
            "http://256.0.0.1",
            "file:///etc/passwd",
        ] {
            assert!(shown(text).starts_with("error: "), "{text}: {}", shown(text));
        }
        assert!(!shown("https://me:secret@example.com").contains("secret"));
    }

    #[test]
    fn a_uri_and_a_url_agree_on_the_host() {
        for (uri, expected) in [
            ("http://2130706433/", "http://127.0.0.1"),
            ("http://0x7f.1:81/a?b", "http://127.0.0.1:81"),
            ("http://EXAMPLE.com./x", "http://example.com"),
            ("http://[::ffff:10.0.0.1]/", "http://10.0.0.1"),
            ("http://allowed.com#@127.0.0.1", "http://allowed.com"),
        ] {
            let uri: http::Uri = uri.parse().expect("the table holds URIs");
            assert_eq!(Origin::of_uri(&uri).expect("valid").to_string(), expected);
        }
        for uri in ["http://allowed.com@127.0.0.1/", "/path", "example.com:80"] {
            let uri: http::Uri = uri.parse().expect("the table holds URIs");
            assert!(Origin::of_uri(&uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn a_host_header_names_the_port_only_when_it_is_not_the_usual_one() {
        let authority = |text| Origin::parse(text).expect("valid").authority();
        assert_eq!(authority("https://example.com:443"), "example.com");
        assert_eq!(authority("https://example.com:8443"), "example.com:8443");
        assert_eq!(authority("http://[::1]:8000"), "[::1]:8000");
    }

    proptest! {
        #[test]
        fn an_origin_reads_back_as_itself(text in "https?://[ -~\u{ff0e}\u{3002}\u{ff10}-\u{ff19}]{1,24}") {
            if let Ok(origin) = Origin::parse(&text) {
                prop_assert_eq!(Origin::parse(&origin.to_string()).expect("valid"), origin);
            }
        }

        #[test]
        fn both_parsers_find_the_same_host(text in "https?://[0-9a-fx.:@/\\\\?#%\\[\\]]{1,24}") {
            let uri = text.parse::<http::Uri>().ok();
            if let Some(origin) = uri.and_then(|uri| Origin::of_uri(&uri).ok()) {
                let url = Url::parse(&text).expect("the origin came out of it");
                prop_assert_eq!(Origin::of(&url, &text).expect("the same"), origin);
            }
        }
    }
}
