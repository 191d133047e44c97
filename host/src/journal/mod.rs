//! Journal: durable calls and maps, their inputs and outcomes, and schedules, on disk.
//!
//! Not here: who runs when (`dispatch::durable`). The trait is what a second place to keep them would serve; it asks
//! for no transaction over more than one of its methods, and no answer takes longer the more has happened.
//!
//! Invariants: a method that changes something returns after fsync; all that one method changes is there or none of it;
//! what ended stays as it ended (`dispatch::durable` lets only one outcome through, and `retry_failed` is the one that
//! takes some back).

mod chunk;
mod codec;
mod key;
mod lease;
mod observer;
mod payload;
mod quarantine;
mod record;
mod schedule;
mod segment;
mod stored;

use std::pin::Pin;

pub use chunk::{CHUNK_BYTES_MAX, CHUNK_LEN_MAX};
pub use key::Kind;
pub use lease::{Lease, LeaseHolder};
pub use observer::Observer;
pub use payload::{PayloadPlace, StoredPayload};
pub use quarantine::{DamagedRow, Owner, QuarantinedRow, hex};
pub use record::{CallRecord, Entry, EntryKind, FailedAttempt, MapHeader, MapProgress, MapRecord, MapState, State};
pub use schedule::{
    DueTimes, HISTORY_LEN, RunOutcome, ScheduleState, ScheduleStep, ScheduledRun, SkipReason, StoredSchedule,
};
pub use stored::{StoreJournal, peek_quarantine};

use crate::call::{Payload, Priority};
use crate::codes::Code;
use crate::ids::{AppName, CallId, FunctionId, FunctionName, MapId};
use crate::store::StoreError;

/// A future of a journal.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, JournalError>> + Send + 'a>>;

/// A journal that cannot do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    #[error(transparent)]
    Store(StoreError),
    /// Nothing of the write was kept, and no write of this host will be.
    #[error("another host has taken up the journal since (epoch {latest}, this one has {epoch}); stop this host")]
    Fenced { epoch: u64, latest: u64 },
    /// Nothing was written.
    #[error("it ended longer ago than it is kept, and has been deleted")]
    Expired,
    /// Row that could not be set aside either.
    #[error(transparent)]
    Damaged(Box<DamagedRow>),
    #[error("{owner} is in quarantine: a row of it cannot be read; `bireme doctor` shows it")]
    Quarantined { owner: Owner },
}

impl JournalError {
    /// Returns the error code for users.
    pub fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.code(),
            Self::Fenced { .. } | Self::Expired | Self::Damaged(_) | Self::Quarantined { .. } => Code::Store,
        }
    }
}

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced { epoch, latest } => Self::Fenced { epoch, latest },
            error => Self::Store(error),
        }
    }
}

/// What a request said of itself, so that it can be sent twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    /// SHA-256 of what was asked for.
    pub fingerprint: [u8; 32],
}

/// What was made by the request that first had a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedRecord {
    pub kind: Kind,
    pub id: [u8; 16],
    pub fingerprint: [u8; 32],
}

/// A call or map that a list has.
#[derive(Clone, Debug, PartialEq)]
pub enum ListEntry {
    Call(CallRecord),
    Map(MapRecord),
}

/// Which of them a list wants, newest first.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub app: Option<AppName>,
    /// Of that app.
    pub function: Option<FunctionName>,
    /// Those made before this one.
    pub before: Option<[u8; 16]>,
    /// Rows that are read at most; fewer are returned if some are filtered out.
    pub limit: usize,
}

/// As much of a call that has not ended as it takes to queue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCall {
    pub id: CallId,
    pub function: FunctionId,
    pub priority: Priority,
    /// When its next attempt begins, in milliseconds since 1970.
    pub next_ms: Option<u64>,
    /// As in `CallRecord::run`.
    pub run: Option<u64>,
}

/// A chunk of which some input has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingChunk {
    pub first: u64,
    pub lease: Lease,
}

/// A chunk with what is known of its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    pub first: u64,
    pub inputs: Vec<StoredPayload>,
    /// Outcomes and retries so far, oldest first.
    pub entries: Vec<Entry>,
    /// The outputs were too large to be read; those in `entries` are empty.
    pub is_stripped: bool,
    /// The highest number of its segments.
    pub segments: u32,
}

/// What is written of one chunk's outcomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChunkUpdate {
    pub first: u64,
    /// New ones; or all of the chunk, if `replaces`.
    pub entries: Vec<Entry>,
    /// Number of the segment that they make; without meaning if `replaces`.
    pub segment: u32,
    /// The segments up to this number give way to the one of `entries`.
    pub replaces: Option<u32>,
    /// Every input has its outcome.
    pub is_whole: bool,
}

/// Keeps calls and maps.
pub trait Journal: Send + Sync {
    /// Takes the journal up for this host, before it leases anything: writes of every host before it are refused from
    /// then on ([`JournalError::Fenced`]). Asked again, answers the same.
    fn take_up(&self) -> Answer<'_, LeaseHolder>;

    /// Keeps a new call with its input.
    fn accept_call<'a>(
        &'a self,
        record: &'a CallRecord,
        input: Payload,
        idempotency: Option<&'a Idempotency>,
    ) -> Answer<'a, ()>;

    /// Writes where a call stands; with its output once it is done. A state that is terminal closes the call, and ends
    /// the scheduled run that it is.
    fn save_call<'a>(&'a self, record: &'a CallRecord, output: Option<Payload>) -> Answer<'a, ()>;

    fn call(&self, id: CallId) -> Answer<'_, Option<CallRecord>>;
    fn call_input(&self, id: CallId) -> Answer<'_, Option<Payload>>;
    fn call_output(&self, id: CallId) -> Answer<'_, Option<Payload>>;

    /// Returns calls that have not ended, oldest first, those behind `after`.
    fn open_calls(&self, after: Option<CallId>, limit: usize) -> Answer<'_, Vec<OpenCall>>;

    /// Returns what was made with an idempotency key.
    fn keyed<'a>(&'a self, function: &'a FunctionId, key: &'a str) -> Answer<'a, Option<KeyedRecord>>;

    /// Returns what a call has spawned, those behind `after`.
    fn children(
        &self,
        parent: CallId,
        after: Option<(Kind, [u8; 16])>,
        limit: usize,
    ) -> Answer<'_, Vec<(Kind, [u8; 16])>>;

    /// Returns calls and maps, newest first. Reads no more rows than asked for; the second is where to go on, if there
    /// is more.
    fn list(&self, query: Query) -> Answer<'_, (Vec<ListEntry>, Option<[u8; 16]>)>;

    /// Writes one step of the schedules. Deletes runs that are older than `HISTORY_LEN`.
    fn advance_schedules<'a>(&'a self, step: &'a ScheduleStep) -> Answer<'a, ()>;

    /// Returns all schedules. Once, at start.
    fn schedules(&self) -> Answer<'_, Vec<StoredSchedule>>;

    /// Returns the latest runs of a function, newest first.
    fn schedule_runs<'a>(&'a self, function: &'a FunctionId) -> Answer<'a, Vec<ScheduledRun>>;

    /// Keeps a new map.
    fn create_map<'a>(&'a self, header: &'a MapHeader, idempotency: Option<&'a Idempotency>) -> Answer<'a, ()>;

    /// Writes a map's header.
    fn save_map<'a>(&'a self, header: &'a MapHeader) -> Answer<'a, ()>;

    /// Keeps inputs from index `first` on, and the header that counts them; those of `leased` chunks begin at once.
    /// Returns the chunks that they make.
    fn append<'a>(
        &'a self,
        header: &'a MapHeader,
        first: u64,
        inputs: Vec<Payload>,
        is_leased: bool,
    ) -> Answer<'a, Vec<PendingChunk>>;

    /// Returns chunks that are not whole, those behind the one at `after`.
    fn pending(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<PendingChunk>>;

    /// Returns the pending chunk that begins at `first`.
    fn chunk(&self, map: MapId, first: u64) -> Answer<'_, Option<Chunk>>;

    /// Writes that the inputs of these chunks may begin.
    fn lease<'a>(&'a self, map: MapId, chunks: &'a [PendingChunk]) -> Answer<'a, ()>;

    /// Writes outcomes and retries, and the progress that counts them.
    fn settle<'a>(
        &'a self,
        header: &'a MapHeader,
        progress: &'a MapProgress,
        chunks: Vec<ChunkUpdate>,
    ) -> Answer<'a, ()>;

    fn map(&self, id: MapId) -> Answer<'_, Option<MapRecord>>;

    /// Returns maps that have not ended, oldest first, those behind `after`.
    fn open_maps(&self, after: Option<MapId>, limit: usize) -> Answer<'_, Vec<MapRecord>>;

    /// Returns the inputs of the chunk that `index` is in, and where that begins.
    fn inputs(&self, map: MapId, index: u64) -> Answer<'_, Option<(u64, Vec<StoredPayload>)>>;

    /// Returns one input of a map.
    fn map_input(&self, map: MapId, index: u64) -> Answer<'_, Option<Payload>>;

    /// Returns what is known of the chunk that `index` is in, with its outcomes from `index` on as far as they are not
    /// too large together.
    fn outcomes(&self, map: MapId, index: u64) -> Answer<'_, Option<Outcomes>>;

    /// Takes the failures of the chunk at `first` back, so that its inputs run again. Refused
    /// ([`JournalError::Expired`]) for a map that is deleted, or about to be.
    fn reset_failures<'a>(&'a self, before: &'a MapRecord, after: &'a MapRecord, first: u64) -> Answer<'a, ()>;

    /// Returns the bytes of a payload, wherever they are.
    fn payload(&self, stored: StoredPayload) -> Answer<'_, Payload>;

    /// Takes a step in the deletion of what has ended before `until_ms`: marks some of it, which is answered for as if
    /// it was deleted from then on, or deletes a bounded number of rows and files of what is marked. Returns whether
    /// there may be more.
    fn expire<'a>(&'a self, app: &'a AppName, until_ms: u64) -> Answer<'a, bool>;

    /// Finishes deletions that a host did not come to the end of. Once, at start.
    fn sweep(&self) -> Answer<'_, ()>;

    /// Returns how many rows are in quarantine: they cannot be read, and neither they nor their calls and maps are
    /// used.
    fn quarantined(&self) -> usize;

    /// Returns the apps that something has ended of.
    fn apps_with_ended(&self) -> Answer<'_, Vec<AppName>>;
}

/// Outcomes of one chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcomes {
    pub first: u64,
    pub len: u64,
    /// By index; one for each input at most.
    pub entries: Vec<Entry>,
    /// Where `entries` ends: the end of the chunk, unless they are too large together.
    pub until: u64,
    /// Of the whole chunk.
    pub counts: OutcomeCounts,
}

/// How the inputs of a chunk have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    pub done: u64,
    pub failed: u64,
    pub dead: u64,
}
