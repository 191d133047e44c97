//! Raw bytes in and out of a function, with their media type.

use std::ops::Deref;

/// Media type of bytes of unknown kind.
const OCTET_STREAM: &str = "application/octet-stream";

/// Bytes and their media type: a function's only parameter, or its result, that is not JSON.
///
/// Such a function takes a request's body as it is, of any content type but JSON; `bireme run app::function @photo.png`
/// gives it a file. What it returns is the response's body, or goes to standard output as it is.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// /// Reverses a text, whatever it is written in.
/// #[function]
/// fn reverse(text: Bytes) -> Result<Bytes> {
///     let reversed: String = text.text()?.chars().rev().collect();
///     Ok(Bytes::new(text.content_type(), reversed))
/// }
///
/// fn main() -> Result<()> {
///     let reversed = reverse::call(Bytes::new("text/plain", "abc"))?;
///     assert_eq!((reversed.content_type(), &reversed[..]), ("text/plain", b"cba".as_slice()));
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    content_type: String,
    data: Vec<u8>,
}

impl Bytes {
    /// Bytes of a media type.
    ///
    /// ```
    /// let page = bireme_sdk::Bytes::new("text/html; charset=utf-8", "<h1>hello</h1>");
    /// assert_eq!(page.len(), 14);
    /// ```
    pub fn new(content_type: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self { content_type: content_type.into(), data: data.into() }
    }

    /// Media type as the caller gave it; `application/octet-stream` if it gave none.
    ///
    /// ```
    /// assert_eq!(bireme_sdk::Bytes::from(vec![1, 2]).content_type(), "application/octet-stream");
    /// ```
    pub fn content_type(&self) -> &str {
        if self.content_type.is_empty() { OCTET_STREAM } else { &self.content_type }
    }

    /// Returns the bytes.
    ///
    /// ```
    /// assert_eq!(bireme_sdk::Bytes::from("a").into_vec(), [b'a']);
    /// ```
    pub fn into_vec(self) -> Vec<u8> {
        self.data
    }

    /// The bytes as text.
    ///
    /// ```
    /// assert_eq!(bireme_sdk::Bytes::from("a").text(), Ok("a"));
    /// ```
    ///
    /// # Errors
    /// The bytes are not UTF-8.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.data)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(data: Vec<u8>) -> Self {
        Self::new(OCTET_STREAM, data)
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self::new("text/plain; charset=utf-8", text)
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}
