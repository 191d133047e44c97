//! A kept log line, as it is on disk and in the control API.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::line::{Level, Source};
use crate::ids::{AppName, CallId, FunctionName, Version};

/// Memory that a line takes besides its text.
pub(super) const LINE_OVERHEAD_BYTES: usize = 128;

/// One kept line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogRecord {
    /// Increases with every line of the host.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub app: AppName,
    pub function: FunctionName,
    pub version: Version,
    pub call: CallId,
    pub source: Source,
    pub level: Level,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "as_map", deserialize_with = "from_map")]
    pub fields: Vec<(String, String)>,
}

fn as_map<S: Serializer>(fields: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(key, value)| (key, value)))
}

fn from_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    BTreeMap::deserialize(deserializer).map(|fields| fields.into_iter().collect())
}

impl LogRecord {
    /// Returns the bytes of memory that the line takes.
    pub(super) fn bytes(&self) -> usize {
        line_bytes(&self.message, &self.fields)
    }
}

/// Returns the bytes of memory that a line takes once it is kept.
pub(super) fn line_bytes(message: &str, fields: &[(String, String)]) -> usize {
    let of_field = |(key, value): &(String, String)| size_of::<(String, String)>() + key.len() + value.len();
    LINE_OVERHEAD_BYTES + message.len() + fields.iter().map(of_field).sum::<usize>()
}
