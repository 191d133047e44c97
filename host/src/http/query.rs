//! Query strings: known parameters only, and values of the types that several paths take.

use std::str::FromStr;

use super::problem::Problem;
use crate::call::Priority;
use crate::codes::Code;
use crate::suggest::did_you_mean;

/// Parses the query of an URI, whose parameters are among `known`.
pub(crate) fn parse(uri: &http::Uri, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let query = uri.query().unwrap_or_default();
    let parameters: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    match parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(parameters),
        Some((name, _)) => {
            let hint = match did_you_mean(name, known.iter().copied()) {
                Some(near) => near,
                None if known.is_empty() => "there is none".to_owned(),
                None => format!("there are {}", known.join(", ")),
            };
            Err(bad_query(format!("no query parameter `{name}` here; {hint}")))
        }
    }
}

/// Parses a flag: set unless its value is `false`.
pub(crate) fn flag(value: &str) -> bool {
    value != "false"
}

/// Parses a whole number.
pub(crate) fn number<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| bad_query(format!("`{name}` is a whole number, not `{value}`")))
}

/// Parses an id out of a path or a query.
pub(crate) fn id<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| bad_query(format!("{error}")))
}

pub(crate) fn priority(text: &str) -> Result<Priority, Problem> {
    text.parse().map_err(|_| bad_query(format!("`priority` is high, normal or low, not `{text}`")))
}

/// A query that cannot be parsed.
pub(crate) fn bad_query(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadQuery, detail)
}
