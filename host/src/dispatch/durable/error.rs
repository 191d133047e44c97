//! Errors of durable calls and maps.

use crate::call::Failure;
use crate::codes::Code;
use crate::ids::{AppName, CallId, MapId};
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::storage::{OverQuota, StorageError};

/// Refusal or failure of a request about a durable call or map.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    #[error(transparent)]
    Journal(#[from] StorageError),
    /// The function or its input is not as it should be.
    #[error(transparent)]
    Refused(#[from] Failure),
    #[error("no call `{id}`; it never was, or it ended longer ago than calls are kept")]
    UnknownCall { id: CallId },
    #[error("no map `{id}`; it never was, or it ended longer ago than maps are kept")]
    UnknownMap { id: MapId },
    #[error("the idempotency key `{key}` was used for another request; use a new key for what is new")]
    KeyReused { key: String },
    #[error("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {bytes}")]
    KeyLength { bytes: usize },
    #[error("`{app}` has {open} durable {what}s that have not ended, as many as may; try again when some have")]
    TooMany { app: AppName, open: usize, what: &'static str },
    #[error(transparent)]
    OverQuota(OverQuota),
    #[error("the call that spawned it was cancelled")]
    ParentCancelled,
    #[error(
        "the {what} may have been accepted, for the answer was lost; send the request again, under the same \
         idempotency key or from the same input, and it counts once"
    )]
    Unanswered { what: &'static str, source: StorageError },
    #[error("call `{id}` runs on another host; cancel it there")]
    RunsElsewhere { id: CallId },
    #[error("map `{id}` has {accepted} inputs, so the next is input {accepted}, not {from}")]
    Gap { id: MapId, accepted: u64, from: u64 },
    #[error("input {index} of map `{id}` is another one; are these the inputs of another map?")]
    Differs { id: MapId, index: u64 },
    #[error("map `{id}` takes no more inputs: it {why}")]
    Closed { id: MapId, why: &'static str },
    #[error("map `{id}` has not ended; its failures can be run again once it has")]
    NotEnded { id: MapId },
    #[error("map `{id}` has {accepted} inputs; there is no input {index}")]
    NoInput { id: MapId, index: u64, accepted: u64 },
}

impl DurableError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Refused(failure) => failure.code.code(),
            Self::Journal(error) => error.code(),
            Self::UnknownCall { .. } => Code::UnknownCall,
            Self::UnknownMap { .. } | Self::NoInput { .. } => Code::UnknownMap,
            Self::KeyReused { .. } => Code::KeyReused,
            Self::KeyLength { .. } => Code::BadQuery,
            Self::TooMany { .. } => Code::Overloaded,
            Self::OverQuota(_) => Code::DiskQuota,
            Self::ParentCancelled => Code::Cancelled,
            Self::Unanswered { .. } | Self::RunsElsewhere { .. } => Code::Unavailable,
            Self::Gap { .. } => Code::InputGap,
            Self::Differs { .. } => Code::InputDiffers,
            Self::Closed { .. } => Code::MapClosed,
            Self::NotEnded { .. } => Code::MapNotEnded,
        }
    }
}
