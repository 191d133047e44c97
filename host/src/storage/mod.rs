//! Storage: traits for everything that outlives a process, in types and errors of no engine.
//!
//! Each trait is a unit that one transaction covers: [`Journal`] with its [`Timetable`], [`Members`], [`Apps`],
//! [`KeyValue`], [`Blobs`]. The engine of a data directory is `store`; `storage::memory`, for tests, delays, reorders
//! and loses answers. Both pass `storage::conformance`, which a further engine runs unchanged.
//!
//! Invariants of each engine: a method that changes something returns once that is durable; all that one method changes
//! is there, or none of it; a method whose answer was lost ([`ErrorKind::Unknown`]) may be called again with the same
//! parameters, but for `KeyValue::{swap, increment}`; no answer takes longer the more has happened.

mod apps;
mod blobs;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
mod journal;
mod key_value;
mod lease;
mod members;
#[cfg(test)]
pub(crate) mod memory;
mod observer;
mod payload;
mod record;
mod schedule;
mod timetable;

use std::pin::Pin;
use std::sync::Arc;

pub(crate) use apps::{Action, AppRecord, Apps, Pushed};
pub(crate) use blobs::Blobs;
pub(crate) use error::{ErrorKind, OverQuota, StorageError};
pub(crate) use journal::{
    Accept, Accepted, Append, Appended, CallSettle, Chunk, ChunkUpdate, Claimed, ClaimedChunk, ClockMark, Counts,
    Idempotency, Journal, KeyedRecord, LeaseToken, ListEntry, MapMark, MapSettle, MapSettled, NewRecord, OpenCall,
    OutcomeCounts, Outcomes, ProgressDelta, Query, Settled,
};
pub(crate) use key_value::{Increment, Incremented, KeyPage, KeyQuery, KeyValue, Place};
pub(crate) use lease::{Lease, LeaseHolder, PendingChunk};
pub(crate) use members::{Beat, Members};
pub(crate) use observer::Observer;
pub(crate) use payload::{PayloadPlace, StoredPayload};
pub(crate) use record::{
    CallRecord, Entry, EntryKind, FailedAttempt, Kind, MapHeader, MapProgress, MapRecord, MapState, State,
};
pub(crate) use schedule::{
    DueTimes, HISTORY_LEN, RunOutcome, ScheduleState, ScheduleStep, ScheduledRun, SkipReason, StoredSchedule,
};
pub(crate) use timetable::Timetable;

/// Inputs of one chunk.
pub(crate) const CHUNK_LEN_MAX: usize = 1_024;
/// Bytes of inputs after which a chunk takes no further one.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Future of an engine's answer.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Engine of one host, by trait.
#[derive(Clone)]
pub(crate) struct Storage {
    pub members: Arc<dyn Members>,
    pub journal: Arc<dyn Journal>,
    pub timetable: Arc<dyn Timetable>,
    pub apps: Arc<dyn Apps>,
    pub key_value: Arc<dyn KeyValue>,
    /// Components of apps.
    pub blobs: Arc<dyn Blobs>,
}
