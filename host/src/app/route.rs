//! Routes of web functions: `GET /pages/{id}`. `docs/metadata.md` fixes the syntax, which the SDK implements as well.
//!
//! Invariant: among the routes that match a path, one is the most specific, so the result does not depend on their
//! order.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::AppName;

/// Methods of a route; `*` stands for all.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "*"];
/// Segments of one route.
const SEGMENTS_MAX: usize = 32;
/// Bytes of one route.
const BYTES_MAX: usize = 1_024;

/// A method and a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Route {
    text: String,
    /// Index into `METHODS`.
    method: usize,
    segments: Vec<Segment>,
}

/// One segment of a pattern, from the most specific kind to the least.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `{name}`: one non-empty segment.
    One(String),
    /// `{*name}`, at the end: the rest of the path, possibly empty.
    Rest(String),
}

/// Text that is not a route.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{route}` is no route: {reason}")]
pub struct RouteError {
    pub route: String,
    pub reason: String,
}

impl Route {
    /// Returns the route of every request.
    pub fn everything() -> Self {
        Self {
            text: "* /{*path}".to_owned(),
            method: METHODS.len() - 1,
            segments: vec![Segment::Rest("path".to_owned())],
        }
    }

    /// Returns the method; `*` for all.
    pub fn method(&self) -> &'static str {
        METHODS[self.method]
    }

    /// Returns the path pattern, with its leading slash.
    pub fn path(&self) -> &str {
        self.text.split_once(' ').map_or("/", |(_, path)| path)
    }

    /// Returns method and URL on a host, as `GET http://localhost:8080/app/search`.
    pub fn endpoint(&self, base: &str, app: &AppName) -> String {
        let method = if self.method() == "*" { "ANY" } else { self.method() };
        format!("{method} {base}/{app}{}", self.path())
    }

    /// Returns a curl command that requests the route on a host.
    pub fn curl(&self, base: &str, app: &AppName) -> String {
        let method = match self.method() {
            "GET" | "*" => String::new(),
            "HEAD" => "-I ".to_owned(),
            method => format!("-X {method} "),
        };
        format!("curl {method}'{base}/{app}{}'", self.path())
    }

    /// Whether the pattern matches more than one path.
    pub(crate) fn has_parameters(&self) -> bool {
        self.segments.iter().any(|segment| !matches!(segment, Segment::Literal(_)))
    }

    /// Whether the route accepts `method`. `GET` routes accept `HEAD`.
    pub fn takes(&self, method: &str) -> bool {
        matches!((self.method(), method), ("*", _) | ("GET", "HEAD")) || self.method() == method
    }

    /// Whether the pattern matches a path, given as decoded segments.
    pub fn fits(&self, path: &[String]) -> bool {
        for (i, segment) in self.segments.iter().enumerate() {
            match (segment, path.get(i)) {
                (Segment::Rest(_), _) => return true,
                (Segment::Literal(text), Some(part)) if text == part => {}
                (Segment::One(_), Some(part)) if !part.is_empty() => {}
                _ => return false,
            }
        }
        path.len() == self.segments.len()
    }

    /// Orders routes that match one path: more specific pattern first, then explicit method before `HEAD` from `GET`
    /// and `*`.
    pub fn more_particular(&self, other: &Self, method: &str) -> Ordering {
        let kinds = |route: &Self| route.segments.iter().map(Segment::rank).collect::<Vec<_>>();
        let exact = |route: &Self| route.method() != method;
        kinds(self).cmp(&kinds(other)).then(exact(self).cmp(&exact(other))).then(self.method.cmp(&other.method))
    }

    /// Whether both routes match the same paths and methods, so that neither could take precedence.
    pub fn conflicts(&self, other: &Self) -> bool {
        let same = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (a, b) => a.rank() == b.rank(),
        };
        self.method == other.method
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }
}

impl Segment {
    fn rank(&self) -> u8 {
        match self {
            Segment::Literal(_) => 0,
            Segment::One(_) => 1,
            Segment::Rest(_) => 2,
        }
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let shown: String = text.chars().take(80).collect();
        let wrong = |reason: &str| RouteError { route: shown.clone(), reason: reason.to_owned() };
        if text.len() > BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let (method, path) =
            text.split_once(' ').ok_or_else(|| wrong("write a method and a path, as `GET /search`"))?;
        let method = METHODS.iter().position(|known| *known == method).ok_or_else(|| wrong("no such method"))?;
        let path = path.strip_prefix('/').ok_or_else(|| wrong("the path begins with `/`"))?;
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() > SEGMENTS_MAX {
            return Err(wrong("it has too many segments"));
        }
        let mut segments: Vec<Segment> = Vec::with_capacity(parts.len());
        for (i, part) in parts.iter().enumerate() {
            let segment = segment(part).map_err(wrong)?;
            if matches!(segment, Segment::Rest(_)) && i + 1 < parts.len() {
                return Err(wrong("`{*…}` stands at the end"));
            }
            segments.push(segment);
        }
        Ok(Self { text: text.to_owned(), method, segments })
    }
}

fn segment(part: &str) -> Result<Segment, &'static str> {
    let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"{}?#%\\".contains(c);
        return if part.chars().all(is_plain) {
            Ok(Segment::Literal(part.to_owned()))
        } else {
            Err("a segment is plain text, not encoded, or one `{name}`")
        };
    };
    let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    match (is_name, is_rest) {
        (false, _) => Err("between braces stands the name of a parameter"),
        (true, true) => Ok(Segment::Rest(name.to_owned())),
        (true, false) => Ok(Segment::One(name.to_owned())),
    }
}

impl TryFrom<String> for Route {
    type Error = RouteError;

    fn try_from(text: String) -> Result<Self, RouteError> {
        text.parse()
    }
}

impl From<Route> for String {
    fn from(route: Route) -> String {
        route.text
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Result of a route lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RouteMatch<T> {
    /// The route of the request.
    To(T),
    /// No route of this method at the path; these methods have one.
    OtherMethods(Vec<&'static str>),
    Nowhere,
}

/// Finds the most specific route for `method` and a path, given as decoded segments.
pub(crate) fn find<'a, T>(
    routes: impl IntoIterator<Item = (T, &'a Route)>,
    method: &str,
    path: &[String],
) -> RouteMatch<T> {
    let mut best: Option<(T, &Route)> = None;
    let mut others = Vec::new();
    for (to, route) in routes.into_iter().filter(|(_, route)| route.fits(path)) {
        if !route.takes(method) {
            others.push(route.method());
            others.extend((route.method() == "GET").then_some("HEAD"));
        } else if best.as_ref().is_none_or(|(_, best)| route.more_particular(best, method).is_lt()) {
            best = Some((to, route));
        }
    }
    others.sort_unstable();
    others.dedup();
    match best {
        Some((to, _)) => RouteMatch::To(to),
        None if others.is_empty() => RouteMatch::Nowhere,
        None => RouteMatch::OtherMethods(others),
    }
}

/// Splits the path of a request, `/a%20b/c`, into decoded segments; `None` for a malformed escape, or bytes that are
/// not UTF-8.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect()
}

fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a route up as the host does.
    fn answer<'a>(routes: &[&'a str], method: &str, path: &str) -> Option<&'a str> {
        let read: Vec<(&str, Route)> = routes.iter().map(|text| (*text, text.parse().unwrap())).collect();
        match find(read.iter().map(|(text, route)| (*text, route)), method, &segments(path)?) {
            RouteMatch::To(text) => Some(text),
            RouteMatch::OtherMethods(_) | RouteMatch::Nowhere => None,
        }
    }

    // The SDK has the same table (`web/route.rs`), so that both find the same route.
    #[test]
    fn the_most_particular_route_answers() {
        let routes = [
            "GET /",
            "GET /pages/{id}",
            "GET /pages/new",
            "POST /pages/{id}",
            "GET /{*rest}",
            "GET /{a}/new/{b}",
            "HEAD /pages/new",
        ];
        for (method, path, expected) in [
            ("GET", "/", Some("GET /")),
            ("GET", "/pages/7", Some("GET /pages/{id}")),
            ("GET", "/pages/new", Some("GET /pages/new")),
            ("HEAD", "/pages/new", Some("HEAD /pages/new")),
            ("HEAD", "/pages/7", Some("GET /pages/{id}")),
            ("POST", "/pages/new", Some("POST /pages/{id}")),
            ("GET", "/pages/", Some("GET /{*rest}")),
            ("GET", "/pages/a%2Fb", Some("GET /pages/{id}")),
            ("GET", "/p%61ges/new", Some("GET /pages/new")),
            ("GET", "/pages/new/7", Some("GET /{a}/new/{b}")),
            ("GET", "/x/y/z", Some("GET /{*rest}")),
            ("POST", "/x/y/z", None),
            ("GET", "/pages/%zz", None),
            ("GET", "/pages/%ff", None),
        ] {
            assert_eq!(answer(&routes, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn other_methods_of_a_path_are_told() {
        let routes: [Route; 3] = ["GET /a", "POST /{x}", "PUT /b"].map(|text| text.parse().unwrap());
        let find =
            |method: &str, path: &str| find(routes.iter().map(|route| ((), route)), method, &segments(path).unwrap());
        assert_eq!(find("DELETE", "/a"), RouteMatch::OtherMethods(vec!["GET", "HEAD", "POST"]));
        assert_eq!(find("DELETE", "/a/"), RouteMatch::Nowhere);
        assert_eq!(find("HEAD", "/a"), RouteMatch::To(()));
    }

    #[test]
    fn what_is_no_route_says_why() {
        for (text, words) in [
            ("/search", "write a method"),
            ("FETCH /", "no such method"),
            ("get /", "no such method"),
            ("GET search", "begins with `/`"),
            ("GET /{*all}/x", "at the end"),
            ("GET /{}", "name of a parameter"),
            ("GET /{a}b", "plain text"),
            ("GET /a?b", "plain text"),
            ("GET /a b", "plain text"),
        ] {
            let error = text.parse::<Route>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn routes_conflict_whatever_their_parameters_are_called() {
        let conflict = |a: &str, b: &str| a.parse::<Route>().unwrap().conflicts(&b.parse().unwrap());
        assert!(conflict("GET /a/{b}", "GET /a/{c}"));
        assert!(conflict("GET /{*b}", "GET /{*c}"));
        assert!(!conflict("GET /a/{b}", "POST /a/{b}"));
        assert!(!conflict("GET /a/{b}", "GET /a/b"));
        assert!(!conflict("GET /a", "GET /a/"));
    }
}
