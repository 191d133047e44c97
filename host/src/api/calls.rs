//! Durable calls, and the list of calls and maps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::maps::Map;
use crate::call::{Failure, Principal, Priority, Receipt};
use crate::ids::{AppName, CallId, Version};

/// A durable call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Call {
    pub id: CallId,
    pub kind: CallKind,
    pub app: AppName,
    /// As `APP::FUNCTION`.
    pub function: String,
    pub state: CallState,
    pub principal: Principal,
    pub priority: Priority,
    #[serde(default)]
    pub created_ms: u64,
    /// Deprecated: `created_ms`.
    #[serde(default)]
    #[schemars(extend("deprecated" = true))]
    pub accepted_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Attempts begun.
    #[serde(default)]
    pub attempts: u32,
    /// Of those, the ones that ended with their host.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u32,
    /// Time of the next attempt, of a call that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// Version of the app that made the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The latest attempts that failed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_attempts: Vec<FailedAttempt>,
    /// The call that spawned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CallId>,
    /// 0 from outside; a spawned call is one deeper than its parent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
    /// Number of the scheduled run that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Sums over the attempts that ended.
    #[serde(default)]
    pub receipt: Receipt,
    /// Output of a call that is done: JSON, or an object with `content_type` and `base64`. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// Kind of an entry that is a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CallKind {
    #[default]
    Call,
}

/// State of a durable call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CallState {
    /// On disk, and not begun.
    Accepted,
    /// An attempt is under way.
    Leased,
    /// An attempt failed; another follows.
    Waiting,
    /// It has an output.
    Done,
    /// It failed in a way that no attempt could mend.
    Failed,
    /// Its last attempt failed, and no retry is left.
    Dead,
    Cancelled,
}

impl CallState {
    /// Returns true if the call has ended.
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Dead | Self::Cancelled)
    }
}

/// A failed attempt at a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FailedAttempt {
    /// From 1.
    pub attempt: u32,
    /// Time of its end.
    #[serde(default)]
    pub ended_ms: u64,
    /// Deprecated: `ended_ms`.
    #[serde(default)]
    #[schemars(extend("deprecated" = true))]
    pub at_ms: u64,
    pub failure: Failure,
}

/// A call under way on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LiveCall {
    pub id: CallId,
    /// As `APP::FUNCTION`.
    pub function: String,
    pub principal: Principal,
    pub depth: u32,
    /// Milliseconds since it began.
    pub since_ms: u64,
}

/// A durable call or a durable map, by its `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CallOrMap {
    Call(Box<Call>),
    Map(Box<Map>),
}

/// A page of durable calls and maps, newest first, and the calls under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CallList {
    pub calls: Vec<CallOrMap>,
    /// Cursor of the next page (`?before=`); null on the last.
    pub next: Option<CallId>,
    pub live: Vec<LiveCall>,
    /// Durable calls that wait to begin or to be tried again.
    pub waiting: usize,
    /// Durable maps that have not ended.
    pub maps: usize,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
