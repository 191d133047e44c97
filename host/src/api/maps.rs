//! Durable maps: their state, inputs and outcomes, and the lines of their streams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::{Failure, Principal, Priority, Receipt};
use crate::ids::{AppName, CallId, MapId};

/// A durable map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Map {
    pub id: MapId,
    pub kind: MapKind,
    pub app: AppName,
    /// As `APP::FUNCTION`.
    pub function: String,
    pub state: MapState,
    pub principal: Principal,
    pub priority: Priority,
    pub created_ms: u64,
    pub ended_ms: Option<u64>,
    /// True once no more inputs are taken.
    pub closed: bool,
    pub counts: MapCounts,
    /// The call that spawned it.
    pub parent: Option<CallId>,
    pub idempotency_key: Option<String>,
    /// Sums over all attempts of all inputs.
    pub receipt: Receipt,
}

/// Kind of an entry that is a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MapKind {
    #[default]
    Map,
}

/// State of a durable map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MapState {
    /// It takes inputs.
    Open,
    /// All inputs are on disk, and some have no outcome.
    Running,
    /// Each input has its outcome.
    Done,
    Cancelled,
}

impl MapState {
    /// Returns true if the map has ended.
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

/// Inputs of a map, by their state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MapCounts {
    /// Inputs on disk.
    pub accepted: u64,
    pub done: u64,
    /// Inputs that failed in a way that no attempt could mend.
    pub failed: u64,
    /// Inputs whose last attempt failed, with no retry left.
    pub dead: u64,
    pub cancelled: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
}

/// Answer to an append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct InputsAccepted {
    /// Inputs that the map has.
    pub accepted: u64,
}

/// Answer to a retry of the inputs without an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MapRetried {
    /// Inputs that run again.
    pub retried: u64,
    pub map: Map,
}

/// One input of a map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MapInput {
    pub index: u64,
    /// Id of its call.
    pub call: CallId,
    /// JSON, or an object with `content_type` and `base64`.
    pub input: Value,
}

/// Outcome of one input. `O` is the type that its output is read into or written from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MapOutcome")]
pub(crate) struct MapOutcome<O = Value> {
    /// Index of the input, from 0.
    pub index: u64,
    pub state: MapOutcomeState,
    /// Number of the attempt that gave it, from 1; not of a pending input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Output of an input that is done: JSON, or an object with `content_type` and `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<O>,
    /// Failure of an input that failed or is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// State of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MapOutcomeState {
    /// It has no outcome yet.
    Pending,
    Done,
    Failed,
    Dead,
}

/// Line of a stream of outcomes. A stream begins with `map` where it also carries the inputs, and ends with `summary`;
/// without a `summary` it broke off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum MapStreamLine {
    Outcome(Box<MapOutcome>),
    /// First line: the new map.
    Created {
        map: Box<Map>,
    },
    /// Last line: the map at its end.
    Ended {
        summary: Box<Map>,
    },
    /// The upload or the reading of outcomes failed.
    Failed(MapFailure),
}

/// Error within a stream of outcomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MapFailure {
    pub error: MapFailureError,
    /// Index of the input whose output could not be read, if the error is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_index: Option<u64>,
}

/// Code and description of an error within a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MapFailureError {
    /// As in a problem document.
    pub code: String,
    pub message: String,
}
