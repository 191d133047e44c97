//! Entries: the functions of an app, with their attributes and the code that runs them.
//!
//! Entries are collected by `inventory` when the app is linked, so nothing has to be listed. An instance runs one call,
//! so a linear search finds a name.

use serde::Serialize;

use crate::failure::{Code, Failure, Result};
use crate::payload::Payload;
use crate::schemas::Schemas;

/// The author's crate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct App {
    /// `CARGO_PKG_NAME` of the author's crate.
    pub name: &'static str,
    /// `CARGO_PKG_VERSION` of the author's crate.
    pub version: &'static str,
    /// `CARGO_PKG_DESCRIPTION` of the author's crate; may be empty.
    pub description: &'static str,
}

/// Attributes that the author declared; `None` means the host's default.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Attributes {
    /// Route of a web function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'static str>,
    /// Wall-clock time of one attempt, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Linear memory of one attempt, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Further attempts after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Concurrent calls of the function on one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Groups of inputs that share one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batched: Option<Batched>,
    /// Times of runs without a caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Origins that the function may reach over HTTP.
    pub outbound: &'static [&'static str],
    /// Models that the function may use.
    pub models: &'static [&'static str],
    /// Tokens of one attempt, over all models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Tokens of all calls of the function on one host in one day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Secrets that the function may read.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub secrets: &'static [&'static str],
}

/// Retries of a failed call.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Retries {
    /// Number of retries, with the host's delays.
    Count(u32),
    /// Number of retries, with delays of their own.
    Spaced {
        /// Number of retries.
        max: u32,
        /// Factor from one delay to the next.
        #[serde(skip_serializing_if = "Option::is_none")]
        backoff: Option<f64>,
        /// First delay, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        initial_ms: Option<u64>,
        /// Longest delay, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_delay_ms: Option<u64>,
    },
}

/// Groups of single inputs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Batched {
    /// Inputs of one group.
    pub max_size: u32,
    /// Longest wait of a group's first input for others, in milliseconds.
    pub wait_ms: u64,
}

/// Times at which the host calls the function by itself.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Schedule {
    /// Times of a calendar.
    Cron {
        /// Minute, hour, day of the month, month and day of the week.
        cron: &'static str,
        /// Time zone of the IANA database.
        tz: &'static str,
        /// Policy for runs that were due while the host was down.
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<&'static str>,
        /// Policy for a run that is due while the previous one is still running.
        #[serde(skip_serializing_if = "Option::is_none")]
        overlap: Option<&'static str>,
    },
    /// Times of a fixed distance, counted from the first deployment.
    Period {
        /// Distance between two runs, in milliseconds.
        period_ms: u64,
        /// Policy for runs that were due while the host was down.
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<&'static str>,
        /// Policy for a run that is due while the previous one is still running.
        #[serde(skip_serializing_if = "Option::is_none")]
        overlap: Option<&'static str>,
    },
}

/// One function.
#[derive(Debug)]
pub struct Entry {
    /// Crate of the function.
    pub app: App,
    /// Name of the function.
    pub name: &'static str,
    /// File and line, for an error about a repeated name.
    pub source: &'static str,
    /// Doc comment of the function; may be empty.
    pub doc: &'static str,
    /// Names of the parameters, in order.
    pub parameters: &'static [&'static str],
    /// Attributes of the function.
    pub attributes: Attributes,
    /// Decodes the input, calls the function, encodes its result.
    pub run: fn(Payload) -> Result<Payload>,
    /// JSON Schemas of the parameters and of the result.
    pub schemas: fn() -> Schemas,
}

inventory::collect!(Entry);

/// Returns every function of the app, by name and then by source.
pub(crate) fn all() -> Vec<&'static Entry> {
    let mut entries: Vec<&Entry> = inventory::iter::<Entry>.into_iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.name, entry.source));
    entries
}

/// Finds one function.
///
/// # Errors
/// [`Code::UnknownFunction`]: no function has that name, or several have.
pub(crate) fn find(name: &str) -> Result<&'static Entry> {
    let mut named = inventory::iter::<Entry>.into_iter().filter(|entry| entry.name == name);
    match (named.next(), named.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(one), Some(other)) => Err(Failure::new(Code::UnknownFunction, duplicate(name, one.source, other.source))),
        (None, _) => {
            let known: Vec<String> = all().iter().map(|entry| format!("`{}`", entry.name)).collect();
            Err(Failure::new(
                Code::UnknownFunction,
                format!("no function `{name}` in this app; it has {}", known.join(", ")),
            ))
        }
    }
}

/// Formats the error about two functions of one name.
pub(crate) fn duplicate(name: &str, one: &str, other: &str) -> String {
    format!("two functions are named `{name}`: at {one} and at {other}; rename one")
}

/// A `Result` whose type arguments the macro cannot see.
pub trait Fallible {
    /// The type of its value.
    type Value;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
}
