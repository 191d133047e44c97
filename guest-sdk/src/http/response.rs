//! Responses, read to their end.

use serde::de::DeserializeOwned;

use super::{Error, charset};
use crate::arguments::misfit;

/// Headers of a response in the order of their arrival.
///
/// ```
/// use bireme_sdk::http::Response;
///
/// let response = Response::new(200, "{}").with_header("content-type", "application/json");
/// assert_eq!(response.headers.get("Content-Type"), Some("application/json"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// Returns the first value of a header; names are case-insensitive. `None` if it is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Removes every value of a header.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Returns every name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

impl From<Vec<(String, Vec<u8>)>> for Headers {
    fn from(headers: Vec<(String, Vec<u8>)>) -> Self {
        Self(headers)
    }
}

/// A response, read to its end.
///
/// ```
/// use bireme_sdk::http::Response;
///
/// let response = Response::new(404, "no such page");
/// assert!(!response.is_success() && response.error_for_status().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// Final URL, after redirects.
    pub url: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Makes a response, for a fake in a test; [`send`](super::Request::send) fills in the request's URL.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { url: String::new(), status, headers: Headers::default(), body: body.into() }
    }

    /// Adds a header, for a fake.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.0.push((name.into(), value.into()));
        self
    }

    /// Returns true if the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns true if the status is 400 to 499.
    ///
    /// ```
    /// assert!(bireme_sdk::http::Response::new(404, "").is_client_error());
    /// ```
    pub fn is_client_error(&self) -> bool {
        (400..500).contains(&self.status)
    }

    /// Returns true if the status is 500 to 599.
    ///
    /// ```
    /// assert!(bireme_sdk::http::Response::new(503, "").is_server_error());
    /// ```
    pub fn is_server_error(&self) -> bool {
        (500..600).contains(&self.status)
    }

    /// Turns a status outside of 200 to 299 into an error. Most 4xx are terminal, so that they are not retried.
    ///
    /// # Errors
    /// [`Error::Status`].
    ///
    /// ```
    /// use bireme_sdk::http::Response;
    ///
    /// assert!(Response::new(204, "").error_for_status().is_ok());
    /// assert!(Response::new(404, "").error_for_status().unwrap_err().is_terminal());
    /// assert!(!Response::new(503, "").error_for_status().unwrap_err().is_terminal());
    /// ```
    pub fn error_for_status(self) -> Result<Self, Error> {
        if self.is_success() { Ok(self) } else { Err(Error::Status { url: self.url, status: self.status }) }
    }

    /// Returns the body.
    ///
    /// ```
    /// assert_eq!(bireme_sdk::http::Response::new(200, [0xff, 0xd8]).bytes(), [0xff, 0xd8]);
    /// ```
    pub fn bytes(self) -> Vec<u8> {
        self.body
    }

    /// Returns the body as text, without its byte order mark.
    ///
    /// The encoding is the first that is known of these: the `charset` of the `content-type` header; a byte order mark;
    /// for HTML, the `<meta charset>` or `<meta http-equiv>` in the first 1,024 bytes; UTF-8. Names of encodings are
    /// those of browsers (`iso-8859-1` means Windows-1252). An XML declaration is not read: give
    /// [`bytes`](Self::bytes) to an XML parser. Without the feature `charsets`, UTF-8 is the only encoding.
    ///
    /// ```
    /// use bireme_sdk::http::Response;
    ///
    /// let page = Response::new(200, *b"caf\xe9").with_header("content-type", "text/html; charset=iso-8859-1");
    /// assert_eq!(page.text()?, "caf\u{e9}");
    /// # Ok::<(), bireme_sdk::http::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Text`]: a byte does not belong to the encoding. It is terminal: another attempt would read the same.
    pub fn text(self) -> Result<String, Error> {
        charset::decode(self)
    }

    /// Returns the body as text as [`text`](Self::text) does, with U+FFFD for what does not belong to the encoding.
    ///
    /// ```
    /// assert_eq!(bireme_sdk::http::Response::new(200, *b"caf\xe9").text_lossy(), "caf\u{fffd}");
    /// ```
    pub fn text_lossy(self) -> String {
        charset::decode_lossy(&self)
    }

    /// Decodes the body as JSON.
    ///
    /// # Errors
    /// [`Error::Json`], with the path of the misfit.
    ///
    /// ```
    /// use bireme_sdk::http::Response;
    ///
    /// assert_eq!(Response::new(200, "[1, 2]").json::<Vec<u8>>()?, [1, 2]);
    /// let error = Response::new(200, r#"{"id": [1, "2"]}"#)
    ///     .json::<std::collections::BTreeMap<String, Vec<u8>>>()
    ///     .unwrap_err();
    /// assert!(error.to_string().ends_with("expected JSON: $.id[1]: expected an integer (`u8`), found \"2\""));
    /// assert!(error.is_terminal());
    /// # Ok::<(), bireme_sdk::http::Error>(())
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.body);
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let (url, is_misfit) = (self.url.clone(), error.inner().is_data());
            Error::Json { url, reason: misfit::message("$", &error), is_misfit }
        })
    }
}
