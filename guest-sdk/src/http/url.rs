//! URLs: absolute `http` and `https` ones, and resolution of references.
//!
//! Implements of RFC 3986: the parts, resolution of references, removal of dot segments. Does not decode or encode
//! anything; non-ASCII host names must come as punycode.

use std::fmt;
use std::str::FromStr;

/// An absolute `http` or `https` URL.
///
/// ```
/// use bireme_sdk::http::Url;
///
/// let page: Url = "https://example.com/book/ch01.html?v=2#start".parse()?;
/// assert_eq!(page.origin(), "https://example.com");
/// assert_eq!(page.join("../std/index.html#vec")?.to_string(), "https://example.com/std/index.html#vec");
/// assert_eq!(page.without_fragment().to_string(), "https://example.com/book/ch01.html?v=2");
/// # Ok::<(), bireme_sdk::http::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    is_https: bool,
    /// Host with optional port, in lower case; no user information.
    authority: String,
    /// Begins with `/`.
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

impl Url {
    /// Returns `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Returns host and optional port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the path; at least `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the part after `#`.
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.as_deref()
    }

    /// Returns path and query, as in a request.
    pub fn path_with_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Returns scheme and authority.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }

    /// Removes the part after `#`.
    #[must_use]
    pub fn without_fragment(mut self) -> Self {
        self.fragment = None;
        self
    }

    /// Resolves a reference from a page or a `location` header.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`](super::Error::InvalidRequest): the result is no `http` or `https` URL.
    pub fn join(&self, reference: &str) -> Result<Self, super::Error> {
        let reference = reference.trim_ascii();
        if scheme_of(reference).is_some() {
            return reference.parse();
        }
        if reference.starts_with("//") {
            return format!("{}:{reference}", self.scheme()).parse();
        }
        check_characters(reference)?;
        let (rest, fragment) = split(reference, '#');
        let (path, query) = split(rest, '?');
        let (path, query) = match path {
            "" => (self.path.clone(), query.or(self.query.as_deref())),
            absolute if absolute.starts_with('/') => (without_dots(absolute), query),
            relative => {
                let folder = self.path.rfind('/').map_or("", |end| &self.path[..=end]);
                (without_dots(&format!("{folder}{relative}")), query)
            }
        };
        Ok(Self {
            is_https: self.is_https,
            authority: self.authority.clone(),
            path,
            query: query.map(str::to_owned),
            fragment: fragment.map(str::to_owned),
        })
    }
}

impl FromStr for Url {
    type Err = super::Error;

    fn from_str(text: &str) -> Result<Self, super::Error> {
        let invalid = |reason: &str| super::Error::InvalidRequest { url: text.to_owned(), reason: reason.to_owned() };
        check_characters(text)?;
        let (is_https, rest) = match scheme_of(text) {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => (true, &text[6..]),
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => (false, &text[5..]),
            Some(scheme) => return Err(invalid(&format!("`{scheme}` is not `http` or `https`"))),
            None => return Err(invalid("it has no scheme; begin it with `https://`")),
        };
        let rest = rest.strip_prefix("//").ok_or_else(|| invalid("`//` and a host must follow the scheme"))?;
        let (rest, fragment) = split(rest, '#');
        let (rest, query) = split(rest, '?');
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || authority.starts_with(':') {
            return Err(invalid("it has no host"));
        }
        if authority.contains('@') {
            return Err(invalid("a user name or password in a URL is not sent; use an `authorization` header"));
        }
        if !authority.is_ascii() {
            return Err(invalid("its host is not ASCII; write it in punycode"));
        }
        Ok(Self {
            is_https,
            authority: authority.to_ascii_lowercase(),
            path: if path.is_empty() { "/".to_owned() } else { without_dots(path) },
            query: query.map(str::to_owned),
            fragment: fragment.map(str::to_owned),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)?;
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        if let Some(fragment) = &self.fragment {
            write!(f, "#{fragment}")?;
        }
        Ok(())
    }
}

fn check_characters(text: &str) -> Result<(), super::Error> {
    match text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '\\') {
        Some(c) => {
            Err(super::Error::InvalidRequest { url: text.to_owned(), reason: format!("{c:?} must be percent-encoded") })
        }
        None => Ok(()),
    }
}

/// The scheme of an absolute reference: letters, digits, `+`, `-`, `.` before the first `:`.
fn scheme_of(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some(scheme)
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// RFC 3986, 5.2.4, for a path that begins with `/`.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {
                if is_last {
                    kept.push("");
                }
            }
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_resolve_as_in_rfc_3986() {
        let base: Url = "http://a/b/c/d;p?q".parse().expect("the base is a URL");
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../../../g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("https://h/x", "https://h/x"),
        ] {
            assert_eq!(base.join(reference).expect("it resolves").to_string(), expected, "{reference:?}");
        }
    }

    #[test]
    fn what_is_no_url_says_why() {
        for (text, reason) in [
            ("example.com", "it has no scheme"),
            ("ftp://example.com", "`ftp` is not `http` or `https`"),
            ("http:example.com", "must follow the scheme"),
            ("http:///x", "it has no host"),
            ("http://user:pw@example.com/", "authorization"),
            ("http://example.com/a b", "must be percent-encoded"),
            ("http://bücher.example/", "punycode"),
        ] {
            let error = text.parse::<Url>().expect_err("it is no URL").to_string();
            assert!(error.contains(reason) && error.contains(text), "{error}");
        }
        assert!("http://example.com/".parse::<Url>().expect("a URL").join("mailto:x@example.com").is_err());
    }

    #[test]
    fn host_and_empty_path_are_normal() {
        let url: Url = "HTTPS://Example.COM?x".parse().expect("a URL");
        assert_eq!(url.to_string(), "https://example.com/?x");
        assert_eq!(url.path_with_query(), "/?x");
    }
}
