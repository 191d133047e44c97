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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batched: Option<Batched>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    pub outbound: &'static [&'static str],
    pub models: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub secrets: &'static [&'static str],
}

/// Retries of a failed call.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Retries {
    Count(u32),
    Spaced {
        max: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        backoff: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        initial_ms: Option<u64>,
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
    Cron {
        cron: &'static str,
        tz: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        overlap: Option<&'static str>,
    },
    Period {
        period_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        overlap: Option<&'static str>,
    },
}

/// One function.
#[derive(Debug)]
pub struct Entry {
    pub app: App,
    pub name: &'static str,
    /// File and line, for an error about a repeated name.
    pub source: &'static str,
    pub doc: &'static str,
    pub parameters: &'static [&'static str],
    pub attributes: Attributes,
    /// Decodes the input, calls the function, encodes its result.
    pub run: fn(Payload) -> Result<Payload>,
    pub schemas: fn() -> Schemas,
}

inventory::collect!(Entry);

/// Returns every function of the app, by name and then by source.
pub fn all() -> Vec<&'static Entry> {
    let mut entries: Vec<&Entry> = inventory::iter::<Entry>.into_iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.name, entry.source));
    entries
}

/// Finds one function.
///
/// # Errors
/// [`Code::UnknownFunction`]: no function has that name, or several have.
pub fn find(name: &str) -> Result<&'static Entry> {
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
pub fn duplicate(name: &str, one: &str, other: &str) -> String {
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
