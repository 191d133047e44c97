//! The manifest's text: keys and values, each checked as it is read, so that an error has its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::error::ManifestError;
use super::units;
use crate::app::metadata::Attributes;
use crate::ids::AppName;
use crate::settings::is_secret_name;
use crate::suggest::did_you_mean;

/// Keys of the document.
pub(super) const KEYS: [&str; 13] = [
    "component",
    "name",
    "timeout",
    "memory",
    "output",
    "concurrency",
    "outbound",
    "models",
    "tokens",
    "tokens_per_day",
    "secrets",
    "config",
    "grants",
];

/// Contents of a manifest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    pub component: Option<PathBuf>,
    pub name: Option<AppName>,
    #[serde(deserialize_with = "timeout")]
    timeout: Option<u64>,
    #[serde(deserialize_with = "size")]
    memory: Option<u64>,
    #[serde(deserialize_with = "size")]
    output: Option<u64>,
    concurrency: Option<u32>,
    #[serde(deserialize_with = "origins")]
    outbound: Vec<String>,
    models: Vec<String>,
    tokens: Option<u64>,
    tokens_per_day: Option<u64>,
    #[serde(deserialize_with = "secrets")]
    secrets: Vec<String>,
    config: Vec<String>,
    pub grants: BTreeMap<String, GrantedOrigins>,
}

/// Origins that one `$name` stands for.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected an origin, or a list of origins")]
pub(super) enum GrantedOrigins {
    One(String),
    Several(Vec<String>),
}

impl GrantedOrigins {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let origins = match self {
            Self::One(origin) => std::slice::from_ref(origin),
            Self::Several(origins) => origins.as_slice(),
        };
        origins.iter().map(String::as_str)
    }
}

impl Document {
    /// Parses the text of the file at `path`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let deserializer = toml::Deserializer::parse(text).map_err(|error| syntax(text, path, &error))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let key = error.path().to_string();
            let error = error.into_inner();
            let line = line_of(text, &error);
            let path = path.to_owned();
            if error.message().starts_with("unknown field") {
                let found = error.span().and_then(|span| text.get(span)).unwrap_or(&key).trim().to_owned();
                let step = did_you_mean(&found, KEYS).unwrap_or_else(|| format!("there are `{}`", KEYS.join("`, `")));
                return ManifestError::UnknownKey { path, line, key: found, step };
            }
            let key = key.split('[').next().unwrap_or_default().to_owned();
            ManifestError::Value { path, line, key, reason: error.message().to_owned() }
        })
    }

    /// Returns the attributes of the component's function.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes {
            timeout_ms: self.timeout,
            memory_bytes: self.memory,
            output_bytes: self.output,
            concurrency: self.concurrency,
            outbound: self.outbound.clone(),
            models: self.models.clone(),
            tokens: self.tokens,
            tokens_per_day: self.tokens_per_day,
            secrets: self.secrets.clone(),
            config: self.config.clone(),
            ..Attributes::default()
        }
    }

    /// Returns the first key that a component with metadata has in its code.
    pub(super) fn declared(&self) -> Option<&'static str> {
        let given = [
            ("name", self.name.is_some()),
            ("timeout", self.timeout.is_some()),
            ("memory", self.memory.is_some()),
            ("output", self.output.is_some()),
            ("concurrency", self.concurrency.is_some()),
            ("outbound", !self.outbound.is_empty()),
            ("models", !self.models.is_empty()),
            ("tokens", self.tokens.is_some()),
            ("tokens_per_day", self.tokens_per_day.is_some()),
            ("secrets", !self.secrets.is_empty()),
            ("config", !self.config.is_empty()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(key, _)| key)
    }
}

fn syntax(text: &str, path: &Path, error: &toml::de::Error) -> ManifestError {
    let reason = error.message().lines().next().unwrap_or_default().to_owned();
    ManifestError::Syntax { path: path.to_owned(), line: line_of(text, error), reason }
}

/// Returns the line of an error, from 1.
fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    text.get(..start).unwrap_or(text).matches('\n').count() + 1
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    units::milliseconds(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    units::bytes(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(deserializer, |origin| {
        let is_origin = origin == "*" || ["$", "https://", "http://"].iter().any(|start| origin.starts_with(start));
        (!is_origin).then(|| {
            format!("`{origin}` is no origin; write `https://{origin}`, or `$name` for one that the operator grants")
        })
    })
}

fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(deserializer, |name| (!is_secret_name(name)).then(|| format!("`{name}` cannot be a secret's name")))
}

/// Reads a list whose texts pass `refuse`.
fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    refuse: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    match texts.iter().find_map(|text| refuse(text)) {
        Some(reason) => Err(D::Error::custom(reason)),
        None => Ok(texts),
    }
}
