//! Errors, as RFC 9457 problem documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Error of a request. Its media type is `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the status.
    pub title: String,
    pub status: u16,
    /// Stable name of the error; `docs/errors.md` has a page for each.
    pub code: String,
    /// Description for people.
    pub detail: String,
    /// Command that explains the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<String>,
    /// Causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Of `not-accepted`: the capabilities that nobody accepted yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Of `input-gap`: the inputs that the map has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u64>,
}
