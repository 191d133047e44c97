//! Route matching. `docs/metadata.md` fixes the syntax, which the macro has checked and a host implements as well.

use std::cmp::Ordering;

/// A parsed route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub method: &'a str,
    segments: Vec<Segment<'a>>,
}

/// One segment of a pattern, from the most specific kind to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment<'a> {
    Literal(&'a str),
    One(&'a str),
    Rest(&'a str),
}

/// Values of the parameters in a path.
pub(super) type Values = Vec<(String, String)>;

impl<'a> Route<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let (method, path) = text.split_once(' ').unwrap_or((text, "/"));
        let segment = |part: &'a str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            None => Segment::Literal(part),
            Some(name) => name.strip_prefix('*').map_or(Segment::One(name), Segment::Rest),
        };
        Self { method, segments: path.strip_prefix('/').unwrap_or(path).split('/').map(segment).collect() }
    }

    pub(super) fn takes(&self, method: &str) -> bool {
        self.method == "*" || self.method == method || (self.method == "GET" && method == "HEAD")
    }

    /// Returns the parameters in the path, if it matches.
    pub(super) fn fit(&self, path: &[String]) -> Option<Values> {
        let mut values = Values::new();
        for (i, segment) in self.segments.iter().enumerate() {
            match (segment, path.get(i)) {
                (Segment::Rest(name), _) => {
                    values.push(((*name).to_owned(), path.get(i..).unwrap_or_default().join("/")));
                    return Some(values);
                }
                (Segment::Literal(text), Some(part)) if text == part => {}
                (Segment::One(name), Some(part)) if !part.is_empty() => {
                    values.push(((*name).to_owned(), part.clone()));
                }
                _ => return None,
            }
        }
        (path.len() == self.segments.len()).then_some(values)
    }

    /// Orders routes that match one path, by precedence.
    pub(super) fn more_particular(&self, other: &Self, method: &str) -> Ordering {
        let kinds = |route: &Self| route.segments.iter().map(Segment::rank).collect::<Vec<_>>();
        let is_other = |route: &Self| route.method != method;
        kinds(self).cmp(&kinds(other)).then(is_other(self).cmp(&is_other(other)))
    }

    /// Returns true if neither route takes precedence over the other.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let same = |(a, b): (&Segment<'_>, &Segment<'_>)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (a, b) => a.rank() == b.rank(),
        };
        self.method == other.method
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }
}

impl Segment<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) => 0,
            Self::One(_) => 1,
            Self::Rest(_) => 2,
        }
    }
}

/// Splits the path of a request into decoded segments; `None` for a malformed escape, or bytes that are not UTF-8.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
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

    fn answer<'a>(routes: &[&'a str], method: &str, path: &str) -> Option<&'a str> {
        let path = segments(path)?;
        let fitting = routes.iter().map(|text| (Route::read(text), *text));
        let fitting = fitting.filter(|(route, _)| route.takes(method) && route.fit(&path).is_some());
        fitting.min_by(|(a, _), (b, _)| a.more_particular(b, method)).map(|(_, text)| text)
    }

    // The host has the same table (`app/route.rs`), so that both find the same route.
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
    fn a_path_gives_its_parameters_decoded() {
        let path = segments("/a%20b/x/y%2Fz").expect("it decodes");
        let values = Route::read("GET /{one}/{*rest}").fit(&path).expect("it fits");
        assert_eq!(values, [("one".to_owned(), "a b".to_owned()), ("rest".to_owned(), "x/y/z".to_owned())]);
    }
}
