//! Routing: a request's path and method to an operation of the table of routes, or to an app.

use std::sync::LazyLock;

use http::{Method, Uri};

use super::handler::is_read;
use super::problem::Problem;
use super::query;
use crate::api::{Operation, RESERVED_NAMES, ROUTES, Route, first_segment};
use crate::call::Priority;
use crate::metrics::RouteLabel;

/// Routes by their paths; those of one path differ in their methods.
static PATHS: LazyLock<matchit::Router<Vec<&'static Route>>> = LazyLock::new(|| {
    let mut by_path: Vec<(&str, Vec<&'static Route>)> = Vec::new();
    // Apps are not in the table: each deployment changes theirs.
    for route in ROUTES.iter().filter(|route| route.operation != Operation::CallFunction) {
        match by_path.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, routes)) => routes.push(route),
            None => by_path.push((route.path, vec![route])),
        }
    }
    let mut router = matchit::Router::new();
    for (path, routes) in by_path {
        router.insert(path, routes).expect("paths of the table differ");
    }
    router
});

/// Target of a request.
pub(crate) enum Target {
    Operation(Matched),
    /// A path of the host that leads nowhere; `first` is its first segment.
    Nothing,
    /// A method that the path does not take.
    Method {
        allow: String,
    },
    /// A path below an app's name.
    App,
}

impl Target {
    /// Returns the label that a request is counted by.
    pub(crate) fn label(&self) -> RouteLabel {
        match self {
            Self::Operation(matched) => RouteLabel::Host(matched.route.path),
            Self::App => RouteLabel::App,
            Self::Nothing | Self::Method { .. } => RouteLabel::Unmatched,
        }
    }
}

/// An operation with the parameters of its request.
pub(crate) struct Matched {
    pub route: &'static Route,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

/// Finds the target of a request. The query is checked where the host's own API is asked.
pub(crate) fn find(method: &Method, uri: &Uri) -> Result<Target, Problem> {
    let path = format!("/{}", uri.path().trim_matches('/'));
    let Ok(found) = PATHS.at(&path) else {
        return Ok(if is_own(&path) { Target::Nothing } else { Target::App });
    };
    let method = if is_read(method) { &Method::GET } else { method };
    let Some(route) = found.value.iter().find(|route| route.method == *method) else {
        let methods = found.value.iter().map(|route| match route.method {
            Method::GET => "GET, HEAD".to_owned(),
            ref other => other.to_string(),
        });
        return Ok(Target::Method { allow: methods.collect::<Vec<_>>().join(", ") });
    };
    let parameters = found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let query = match path.starts_with("/api/") {
        true => query::parse(uri, &route.query().collect::<Vec<_>>())?,
        false => Vec::new(),
    };
    Ok(Target::Operation(Matched { route, path: parameters, query }))
}

/// Whether a path is the host's: no app has the name of its first segment.
fn is_own(path: &str) -> bool {
    let first = first_segment(path);
    first.is_empty() || RESERVED_NAMES.contains(&first)
}

/// Whether a path is the operator's: one of the host's, other than its health.
pub(crate) fn is_operators(path: &str) -> bool {
    is_own(path) && !matches!(first_segment(path), "healthz" | "readyz")
}

impl Matched {
    /// Returns a parameter of the path.
    pub(crate) fn path(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Returns the parameters of the query, in order.
    pub(crate) fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns a parameter of the query; the last of several.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query().filter(|(known, _)| *known == name).last().map(|(_, value)| value)
    }

    /// Whether a flag of the query is set: there, unless its value is `false`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(query::flag)
    }

    /// Returns the priority that the query asks for.
    pub(crate) fn priority(&self) -> Result<Priority, Problem> {
        self.parameter("priority").map_or(Ok(Priority::default()), query::priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, path: &str) -> Result<Target, Problem> {
        find(&method.parse().unwrap(), &path.parse().unwrap())
    }

    fn operation(method: &str, path: &str) -> Option<(Operation, String)> {
        match target(method, path) {
            Ok(Target::Operation(matched)) => Some((matched.route.operation, matched.path("id").to_owned())),
            _ => None,
        }
    }

    #[test]
    fn each_route_of_the_table_is_found_by_its_own_path() {
        for route in ROUTES.iter().filter(|route| route.operation != Operation::CallFunction) {
            let path = route.path.replace(['{', '}'], "");
            assert_eq!(operation(route.method.as_str(), &path).map(|found| found.0), Some(route.operation), "{path}");
        }
        assert_eq!(operation("HEAD", "/api/v1/calls/7/"), Some((Operation::GetCall, "7".to_owned())));
    }

    #[test]
    fn other_methods_and_other_paths_of_the_host_are_told_apart_from_apps() {
        let Ok(Target::Method { allow }) = target("PUT", "/api/v1/apps/hello") else { panic!("it is found") };
        assert_eq!(allow, "GET, HEAD, DELETE");
        for path in ["/api", "/api/v2/apps", "/v1/nothing", "/metrics/more", "/ui/page", "/mcp"] {
            assert!(matches!(target("GET", path), Ok(Target::Nothing)), "{path}");
        }
        assert!(matches!(target("POST", "/hello/greet"), Ok(Target::App)));
        assert!(target("GET", "/api/v1/calls?stat=done").is_err_and(|error| error.detail.contains("`state`")));
        assert!(is_operators("/metrics") && is_operators("/") && !is_operators("/healthz") && !is_operators("/hello"));
    }
}
