//! Defences against web pages: DNS rebinding (the `Host` header) and cross-site request forgery (CSRF).
//!
//! A loopback listener needs both: the user's browser reaches it, and so does each page that the browser shows.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderValue, Request, header};

use super::problem::Problem;
use super::router;
use crate::codes::Code;

/// Rejects requests whose `Host` is missing, repeated or not loopback (DNS rebinding).
pub(crate) fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let bad = |detail: &str| Err(Problem::new(Code::BadHost, detail));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return bad("a request has exactly one `host` header");
    };
    let Ok(authority) = host.to_str().unwrap_or_default().parse::<http::uri::Authority>() else {
        return bad("the `host` header is no host");
    };
    // The parser takes any text behind a colon, and a user that no client sends.
    let rest = authority.as_str().strip_prefix(authority.host());
    if !rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)) {
        return bad("the `host` header is a host, and a port of 0 to 65535 if there is one");
    }
    let host = authority.host();
    let is_loopback = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    };
    if is_loopback {
        Ok(())
    } else {
        Err(Problem::new(Code::ForeignHost, "this host answers to `localhost` and loopback addresses only"))
    }
}

/// Whether a text is the number of a port. The URI's grammar allows none behind the colon.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Rejects cross-site browser requests (CSRF); CORS does not stop simple requests, and they carry a loopback `Host`. A
/// page of another port of this machine is `same-site`, and as foreign. Pages of this host may not use the operator's
/// paths either: each is some app's, and an app has only what it declares. Programs send none of these headers.
pub(crate) fn check_csrf<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &HeaderValue| {
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(|origin| origin == host)
    };
    let is_foreign_origin = headers.get(header::ORIGIN).is_some_and(|origin| !is_own(origin));
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if is_foreign_origin || site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        let detail = "pages of other origins cannot call this host";
        return Err(Problem::new(Code::ForeignOrigin, detail));
    }
    let is_page = headers.contains_key(header::ORIGIN) || site.is_some_and(|site| site != b"none");
    if is_page && router::is_operators(request.uri().path()) {
        let detail = "pages cannot use the list of apps, the control API, the models or the metrics";
        return Err(Problem::new(Code::ForeignOrigin, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &[&str]) -> Option<u16> {
        let mut request = Request::new(());
        for host in hosts {
            request.headers_mut().append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        check_host(&request).err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn only_our_own_pages_are_answered() {
        let check = |origin: &str, site: Option<&str>| {
            let mut request = Request::builder().uri("/app/page").body(()).unwrap();
            let headers = request.headers_mut();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_str(site).unwrap());
            }
            check_csrf(&request).is_ok()
        };
        assert!(check("http://127.0.0.1:8080", Some("same-origin")));
        for foreign in ["cross-site", "same-site", "Cross-Site", "else"] {
            assert!(!check("http://127.0.0.1:8080", Some(foreign)), "{foreign}");
        }
        for foreign in ["null", "http://127.0.0.1:9090", "https://127.0.0.1:8080", "http://evil.example"] {
            assert!(!check(foreign, None), "{foreign}");
        }
    }

    #[test]
    fn the_control_api_is_for_programs_and_for_whoever_types_its_address() {
        let check = |path: &str, name: &'static str, value: &str| {
            let mut request = Request::builder().uri(path).body(()).unwrap();
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
            check_csrf(&request).is_ok()
        };
        assert!(!check("/api/v1/apps", "sec-fetch-site", "same-origin"));
        assert!(!check("/api/v1/apps", "origin", "http://127.0.0.1:8080"));
        for path in ["/v1/embeddings", "/v2/models", "//v1/models", "/v2", "/", "/?x", "/metrics", "/metrics/"] {
            assert!(!check(path, "sec-fetch-site", "same-origin"), "{path}");
            assert!(!check(path, "origin", "http://127.0.0.1:8080"), "{path}");
            assert!(check(path, "user-agent", "curl"), "{path}");
        }
        assert!(check("/api/v1/apps", "sec-fetch-site", "none"));
        assert!(check("/api/v1/apps", "user-agent", "curl"));
        assert!(check("/docs-search/search", "sec-fetch-site", "same-origin"));
    }

    #[test]
    fn only_one_loopback_host_is_answered() {
        for good in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"] {
            assert_eq!(check(&[good]), None, "{good}");
        }
        assert_eq!(check(&[]), Some(400));
        assert_eq!(check(&["localhost", "localhost"]), Some(400));
        for malformed in ["a b", "localhost:port", "localhost:65536", "localhost:8080x", "user@localhost"] {
            assert_eq!(check(&[malformed]), Some(400), "{malformed}");
        }
        for foreign in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
            assert_eq!(check(&[foreign]), Some(421), "{foreign}");
        }
    }
}
