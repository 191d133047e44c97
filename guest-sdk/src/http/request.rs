//! Builder of requests.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::retry::Retries;
use super::{BODY_BYTES_MAX, Error, REDIRECTS_MAX, Response, Url, encoding};
use crate::host;

/// A request to build; [`send`](Request::send) sends it.
///
/// ```
/// use bireme_sdk::{http, testing};
///
/// let _site = testing::with_http(|request| Ok(http::Response::new(200, request.body_bytes())));
/// let echoed = http::post("https://example.com/").json(&[1, 2]).send()?;
/// assert_eq!(echoed.text()?, "[1,2]");
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a request does nothing before `send`"]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) body_bytes_max: usize,
    redirects: u32,
    retries: Retries,
    /// First error of the builder, reported by `send`.
    error: Option<Error>,
}

/// A `GET` request.
///
/// ```
/// let request = bireme_sdk::http::get("https://example.com/oars/7");
/// assert_eq!((request.method(), request.url()), ("GET", "https://example.com/oars/7"));
/// ```
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A `HEAD` request.
///
/// ```
/// let request = bireme_sdk::http::head("https://example.com/oars/7");
/// assert_eq!((request.method(), request.url()), ("HEAD", "https://example.com/oars/7"));
/// ```
pub fn head(url: impl Into<String>) -> Request {
    request("HEAD", url)
}

/// A `POST` request.
///
/// ```
/// use bireme_sdk::{http, testing};
///
/// let _http = testing::with_http(|request| Ok(http::Response::new(201, request.body_bytes().to_vec())));
/// let echo: Vec<u32> = http::post("https://example.com/numbers").json(&[1, 2]).send()?.json()?;
/// assert_eq!(echo, [1, 2]);
/// # Ok::<(), http::Error>(())
/// ```
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A `PUT` request.
///
/// ```
/// let request = bireme_sdk::http::put("https://example.com/oars/7");
/// assert_eq!((request.method(), request.url()), ("PUT", "https://example.com/oars/7"));
/// ```
pub fn put(url: impl Into<String>) -> Request {
    request("PUT", url)
}

/// A `PATCH` request.
///
/// ```
/// let request = bireme_sdk::http::patch("https://example.com/oars/7");
/// assert_eq!((request.method(), request.url()), ("PATCH", "https://example.com/oars/7"));
/// ```
pub fn patch(url: impl Into<String>) -> Request {
    request("PATCH", url)
}

/// A `DELETE` request.
///
/// ```
/// let request = bireme_sdk::http::delete("https://example.com/oars/7");
/// assert_eq!((request.method(), request.url()), ("DELETE", "https://example.com/oars/7"));
/// ```
pub fn delete(url: impl Into<String>) -> Request {
    request("DELETE", url)
}

/// A request of any method.
///
/// ```
/// let request = bireme_sdk::http::request("PROPFIND", "https://example.com/files/");
/// assert_eq!(request.method(), "PROPFIND");
/// ```
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    let method = method.into();
    let redirects = if matches!(method.as_str(), "GET" | "HEAD") { REDIRECTS_MAX } else { 0 };
    Request {
        method,
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: None,
        body_bytes_max: BODY_BYTES_MAX,
        redirects,
        retries: Retries::default(),
        error: None,
    }
}

impl Request {
    /// Returns the method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the body so far.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Returns the first value of a header so far.
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

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

    /// Sets the body to JSON, and a missing `content-type`.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body = body,
            Err(error) => self.unwritable("JSON", &error),
        }
        self.content_type("application/json")
    }

    /// Sets the body to form fields, and a missing `content-type`.
    ///
    /// ```
    /// use bireme_sdk::{http, testing};
    ///
    /// let _http = testing::with_http(|request| Ok(http::Response::new(200, request.body_bytes().to_vec())));
    /// let form = http::post("https://example.com/login").form(&[("user", "ada"), ("note", "a b&c")]);
    /// assert_eq!(form.send()?.text()?, "user=ada&note=a+b%26c");
    /// # Ok::<(), http::Error>(())
    /// ```
    pub fn form<T: Serialize + ?Sized>(mut self, fields: &T) -> Self {
        match serde_urlencoded::to_string(fields) {
            Ok(body) => self.body = body.into_bytes(),
            Err(error) => self.unwritable("form", &error),
        }
        self.content_type("application/x-www-form-urlencoded")
    }

    /// Adds to the URL's query: pairs, or a struct of plain fields.
    ///
    /// ```
    /// let request = bireme_sdk::http::get("https://example.com/?a=1#top").query(&[("q", "two words"), ("page", "2")]);
    /// assert_eq!(request.url(), "https://example.com/?a=1&q=two+words&page=2#top");
    /// ```
    pub fn query<T: Serialize + ?Sized>(mut self, fields: &T) -> Self {
        match serde_urlencoded::to_string(fields) {
            Ok(query) if query.is_empty() => {}
            Ok(query) => {
                let end = self.url.find('#').unwrap_or(self.url.len());
                let joint = match self.url[..end].split_once('?') {
                    None => "?",
                    Some((_, before)) if before.is_empty() || before.ends_with('&') => "",
                    Some(_) => "&",
                };
                self.url.insert_str(end, &format!("{joint}{query}"));
            }
            Err(error) => self.unwritable("query", &error),
        }
        self
    }

    /// Adds an `authorization` header with a token.
    ///
    /// ```
    /// let request = bireme_sdk::http::get("https://example.com/").bearer("abc");
    /// assert_eq!(request.header_value("authorization"), Some(b"Bearer abc".as_slice()));
    /// ```
    pub fn bearer(self, token: impl std::fmt::Display) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Retries the request up to `retries` times after a status of 408, 425, 429, 500, 502, 503 or 504, and after a
    /// failed or broken connection. Only idempotent methods are retried (`GET`, `HEAD`, `PUT`, `DELETE`, `OPTIONS`);
    /// see [`retry_any_method`](Self::retry_any_method). The delay follows `retry-after`, or else is 250 ms, doubled
    /// each time, up to 10 s, less up to half as jitter; it never exceeds the call's own time.
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// use bireme_sdk::{http, testing};
    ///
    /// let asked = Cell::new(0);
    /// let _http = testing::with_http(move |_| {
    ///     asked.set(asked.get() + 1);
    ///     Ok(http::Response::new(if asked.get() < 3 { 503 } else { 200 }, ""))
    /// });
    /// assert_eq!(http::get("https://example.com/").retries(2).send()?.status, 200);
    /// # Ok::<(), http::Error>(())
    /// ```
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries.max = retries;
        self
    }

    /// Retries the request whatever its method: for a `POST` that is safe to repeat.
    ///
    /// ```
    /// use bireme_sdk::http;
    ///
    /// let request = http::post("https://example.com/search").json("ships").retries(2).retry_any_method();
    /// assert_eq!(request.method(), "POST");
    /// ```
    pub fn retry_any_method(mut self) -> Self {
        self.retries.any_method = true;
        self
    }

    fn content_type(self, value: &str) -> Self {
        if self.header_value("content-type").is_none() { self.header("content-type", value) } else { self }
    }

    fn unwritable(&mut self, part: &'static str, error: &dyn std::fmt::Display) {
        self.error = Some(Error::Encode { url: self.url.clone(), part, reason: error.to_string() });
    }

    /// Limits the time from sending to the last byte of the body; restarts at each redirect.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Limits the body of the response, compressed and not; 8 MiB by default. A larger body is an error, not cut off.
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Limits the redirects: 5 by default for `GET` and `HEAD`, 0 for others. With 0 the redirect itself is the
    /// response. A 303 becomes a `GET`; so does a 301 or 302 of a `POST`. `authorization` and `cookie` are not sent to
    /// another origin.
    pub fn redirects(mut self, redirects: u32) -> Self {
        self.redirects = redirects;
        self
    }

    /// Sends the request and reads the response to its end. Any status is a response. Compressed bodies are requested
    /// and decoded (gzip; Brotli with the SDK's feature `brotli`), unless the author set `accept-encoding`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn send(mut self) -> Result<Response, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if let Some(encodings) = encoding::ACCEPT
            && self.header_value("accept-encoding").is_none()
        {
            self = self.header("accept-encoding", encodings);
        }
        for attempt in 1.. {
            if attempt > self.retries.max {
                break;
            }
            let outcome = self.copy().send_once();
            let (now, remaining) = (SystemTime::now(), host::remaining());
            match self.retries.delay(&self.method, attempt, &outcome, now, remaining, jitter()) {
                Some(delay) => host::sleep(delay),
                None => return outcome,
            }
        }
        self.send_once()
    }

    /// Copies the request for one attempt.
    fn copy(&self) -> Self {
        Self {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            error: None,
            ..*self
        }
    }

    /// Sends the request and follows redirects.
    fn send_once(mut self) -> Result<Response, Error> {
        let mut url: Url = self.url.parse()?;
        let limit = self.redirects;
        loop {
            let mut response = host::send(&self, &url)?;
            response.url.clone_from(&self.url);
            let response = encoding::decode(response, self.body_bytes_max)?;
            let location = match response.status {
                301 | 302 | 303 | 307 | 308 if limit > 0 => response.headers.get("location"),
                _ => None,
            };
            let Some(location) = location else {
                return Ok(response);
            };
            if self.redirects == 0 {
                return Err(Error::TooManyRedirects { url: self.url, limit });
            }
            self.redirects -= 1;
            let next = url.join(location)?;
            self.follow(response.status, &url, &next);
            url = next;
        }
    }

    fn follow(&mut self, status: u16, from: &Url, to: &Url) {
        if (status == 303 && self.method != "HEAD") || (matches!(status, 301 | 302) && self.method == "POST") {
            "GET".clone_into(&mut self.method);
            self.body = Vec::new();
            self.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("content-"));
        }
        if from.origin() != to.origin() {
            let is_secret = |name: &str| {
                ["authorization", "cookie", "proxy-authorization"]
                    .iter()
                    .any(|secret| name.eq_ignore_ascii_case(secret))
            };
            self.headers.retain(|(name, _)| !is_secret(name));
        }
        self.url = to.to_string();
    }
}

/// Returns a number from 0 to 1, so that calls refused together do not retry together.
fn jitter() -> f64 {
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn redirects_are_followed_and_each_hop_is_a_request_of_its_own() {
        let _http = testing::with_http(|request| {
            Ok(match request.url() {
                "http://a/1" => Response::new(302, "").with_header("Location", "/2"),
                "http://a/2" => Response::new(307, "").with_header("location", "http://b/3"),
                "http://b/3" => {
                    Response::new(200, request.header_value("authorization").unwrap_or(b"no secret").to_vec())
                }
                other => {
                    return Err(Error::Denied { url: other.to_owned() });
                }
            })
        });
        let response = get("http://a/1").header("Authorization", "secret").send().expect("it ends at /3");
        assert_eq!((response.url.as_str(), response.body.as_slice()), ("http://b/3", b"no secret".as_slice()));
        assert_eq!(get("http://a/1").redirects(0).send().expect("the redirect itself").status, 302);
        assert!(matches!(get("http://a/1").redirects(1).send(), Err(Error::TooManyRedirects { limit: 1, .. })));
        assert_eq!(post("http://a/1").send().expect("a `POST` stays where it is").status, 302);
    }

    #[test]
    fn a_post_that_is_redirected_goes_on_as_get_without_its_body() {
        let _http = testing::with_http(|request| {
            Ok(match request.url() {
                "http://a/form" => Response::new(303, "").with_header("location", "/done"),
                _ => Response::new(
                    200,
                    format!(
                        "{} {} {:?}",
                        request.method(),
                        request.body_bytes().len(),
                        request.header_value("content-type")
                    ),
                ),
            })
        });
        let response = post("http://a/form").json(&1).redirects(1).send().expect("it is followed");
        assert_eq!(response.text().expect("text"), "GET 0 None");
    }

    #[test]
    fn without_a_fake_a_native_request_fails_by_name() {
        let error = get("http://a/").send().expect_err("there is no host");
        assert_eq!(
            error.to_string(),
            "there is no host in a native test, so no `http://a/`; answer it with `bireme_sdk::testing::with_http`"
        );
    }

    #[test]
    fn a_fake_is_held_to_the_body_limit_too() {
        let _http = testing::with_http(|_| Ok(Response::new(200, "123456789")));
        assert!(matches!(get("http://a/").body_bytes_max(8).send(), Err(Error::BodyTooLarge { limit_bytes: 8, .. })));
    }
}
