//! One function of an app: what the macro knows of it, and the way to run it.
//!
//! Entries are collected by `inventory` when the app is linked, so that nothing has to be listed. An instance runs one
//! call, so a name is found by walking them.

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

/// What the author declared; `None` leaves it to the host.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Attributes {
    /// Only of a web function: what it answers.
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

/// How a failed call is tried again.
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

/// How single inputs meet in groups.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Batched {
    /// Inputs of one group.
    pub max_size: u32,
    /// How long the first input of a group waits for others.
    pub wait_ms: u64,
}

/// When the host calls the function by itself.
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
    /// File and line, for a message about two functions of one name.
    pub source: &'static str,
    pub doc: &'static str,
    pub parameters: &'static [&'static str],
    pub attributes: Attributes,
    /// Decodes the input, calls the function, encodes its result.
    pub run: fn(Payload) -> Result<Payload>,
    pub schemas: fn() -> Schemas,
}

inventory::collect!(Entry);

/// Every function of the app, by name and then by place.
pub fn all() -> Vec<&'static Entry> {
    let mut entries: Vec<&Entry> = inventory::iter::<Entry>.into_iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.name, entry.source));
    entries
}

/// Finds one function.
///
/// # Errors
/// [`Code::UnknownFunction`]: none or more than one has that name.
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

/// Says that two functions have one name.
pub fn duplicate(name: &str, one: &str, other: &str) -> String {
    format!("two functions are named `{name}`: at {one} and at {other}; rename one")
}

/// A `Result` whose type arguments the macro cannot read off.
pub trait Fallible {
    /// What it holds.
    type Value;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
}
