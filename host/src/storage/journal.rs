//! Journal: durable calls and maps with their inputs and outcomes.
//!
//! Not here: who runs when (`dispatch::durable`).
//!
//! Invariants beyond those of every engine: what ended stays as it ended, and only `reset_failures` takes outcomes
//! back; of several ends of one call or input the first that is written holds; only the holder of a lease writes under
//! it; a call whose parent was cancelled is not accepted once the cancel is durable.

use super::{
    Answer, CallRecord, Entry, EntryKind, Kind, Lease, LeaseHolder, MapHeader, MapRecord, OverQuota, PendingChunk,
    StoredPayload,
};
use crate::call::{Payload, Priority, Receipt};
use crate::ids::{AppName, CallId, FunctionId, FunctionName, MapId, Version};

/// Identity that a client gave to a request, so that it can be sent twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Idempotency {
    pub key: String,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
}

/// Call or map that the first request with an idempotency key made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyedRecord {
    pub kind: Kind,
    pub id: [u8; 16],
    pub fingerprint: [u8; 32],
}

/// New call or map.
#[derive(Clone, Debug)]
pub(crate) struct Accept {
    pub record: NewRecord,
    pub idempotency: Option<Idempotency>,
    /// Map that has the parent as an input; none if the parent is a single call.
    pub parent_map: Option<MapId>,
    /// Calls, or maps, of the app that may be open, this one included.
    pub open_max: usize,
}

/// Record of a new call or map.
#[derive(Clone, Debug)]
pub(crate) enum NewRecord {
    /// Leased by this host if its state is [`super::State::Leased`].
    Call(Box<CallRecord>, Payload),
    Map(Box<MapHeader>),
}

/// Answer to an [`Accept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    New,
    /// An earlier request had the same idempotency key.
    Existing(KeyedRecord),
    /// The app has `open` calls, or maps, that have not ended.
    TooMany {
        open: usize,
    },
    /// The app keeps as much on disk as it may.
    OverQuota(OverQuota),
    ParentCancelled,
}

/// Lease of one attempt at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseToken {
    pub holder: LeaseHolder,
    pub attempt: u32,
}

/// Answer to a claim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Claimed {
    /// The call with one more attempt, leased. If this host had the lease already (an answer was lost), unchanged.
    Leased(Box<CallRecord>),
    /// Its next attempt begins at this time.
    Later { at_ms: u64 },
    /// It has ended, or is not there.
    Ended,
}

/// New state of a call.
#[derive(Clone, Debug)]
pub(crate) struct CallSettle {
    /// The call as it is from now on. Its holder and the sums in it come from who has the lease.
    pub record: Box<CallRecord>,
    /// Lease of the attempt that ended; none for the end of a call that no living host runs.
    pub lease: Option<LeaseToken>,
    pub output: Option<Payload>,
}

/// Answer to a settle of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Settled {
    Kept,
    /// The lease is another host's by now. Nothing was written.
    Fenced,
    /// The call had ended, as the record says. Nothing was written.
    Ended(Box<CallRecord>),
}

/// Call or map in a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ListEntry {
    Call(CallRecord),
    Map(MapRecord),
}

/// Filter of a list, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub app: Option<AppName>,
    /// Of that app.
    pub function: Option<FunctionName>,
    /// Those made before this one.
    pub before: Option<[u8; 16]>,
    /// Rows that are read at most; fewer are returned if some are filtered out.
    pub limit: usize,
}

/// Call that has not ended, as much of it as a queue needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenCall {
    pub id: CallId,
    pub function: FunctionId,
    pub priority: Priority,
    /// When its next attempt begins, in milliseconds since 1970.
    pub next_ms: Option<u64>,
    /// As in `CallRecord::run`.
    pub run: Option<u64>,
}

/// Open calls and maps, over all apps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub calls: usize,
    pub maps: usize,
}

/// New inputs of a map.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub map: MapId,
    /// Index of the first one.
    pub at: u64,
    pub inputs: Vec<Payload>,
    /// This host runs them at once.
    pub is_leased: bool,
}

/// Answer to an [`Append`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Appended {
    /// The map with the new inputs, and the chunks that they make.
    Kept { header: Box<MapHeader>, chunks: Vec<PendingChunk> },
    /// The map has `accepted` inputs, so the next is at that index. Nothing was written.
    Gap { accepted: u64 },
    /// The map was closed or cancelled. Nothing was written.
    Closed(Box<MapHeader>),
}

/// Change of a map by its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapMark {
    /// No more inputs will come.
    Close,
    /// Inputs without an outcome will have none.
    Cancel,
}

/// Chunk that this host has leased, with everything known of its inputs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClaimedChunk {
    pub first: u64,
    pub lease: Lease,
    /// None if its inputs are gone.
    pub chunk: Option<Chunk>,
}

/// Chunk of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub first: u64,
    pub inputs: Vec<StoredPayload>,
    /// Outcomes and retries so far, oldest first.
    pub entries: Vec<Entry>,
    /// The outputs were too large to be read; those in `entries` are empty.
    pub is_stripped: bool,
    /// The highest number of its segments.
    pub segments: u32,
}

/// Outcomes of one chunk that are written together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ChunkUpdate {
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

/// Additions to the progress of a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProgressDelta {
    pub done: u64,
    pub failed: u64,
    pub dead: u64,
    pub retried: u64,
    pub receipt: Receipt,
}

/// Outcomes and retries of a map. A closed map ends with its last outcome.
#[derive(Clone, Debug)]
pub(crate) struct MapSettle {
    pub map: MapId,
    /// Chunks that this host has leased. Without any, `delta` is zero: nothing else tells a repetition.
    pub chunks: Vec<ChunkUpdate>,
    pub delta: ProgressDelta,
    /// Nothing of the map runs any more: a cancelled map ends.
    pub is_drained: bool,
}

/// Answer to a [`MapSettle`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MapSettled {
    /// The map as it is now. Also where the same settle was written before.
    Kept(Box<MapRecord>),
    /// A chunk is not leased by this host. Nothing was written.
    Fenced,
    /// The map had ended. Nothing was written.
    Ended(Box<MapRecord>),
}

/// Outcomes of one chunk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcomes {
    pub first: u64,
    pub len: u64,
    /// By index; one for each input at most.
    pub entries: Vec<Entry>,
    /// Where `entries` ends: the end of the chunk, unless they are too large together.
    pub until: u64,
    /// Of the whole chunk.
    pub counts: OutcomeCounts,
}

/// Number of inputs of a chunk by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutcomeCounts {
    pub done: u64,
    pub failed: u64,
    pub dead: u64,
}

impl OutcomeCounts {
    /// Counts an outcome. A retry is not an outcome.
    pub(crate) fn add(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::Done(_) => self.done += 1,
            EntryKind::Failed(_) => self.failed += 1,
            EntryKind::Dead(_) => self.dead += 1,
            EntryKind::Retry { .. } => {}
        }
    }

    /// Returns true if each of `len` inputs is done.
    pub(crate) fn are_all_done(&self, len: u64) -> bool {
        *self == Self { done: len, failed: 0, dead: 0 }
    }
}

/// Time that retention goes by, as a host leaves it to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockMark {
    /// Milliseconds since 1970.
    pub trusted_ms: u64,
    /// Time for which hosts have run with a clock that had jumped.
    pub held_ms: u64,
}

/// Durable calls and maps of an engine.
pub(crate) trait Journal: Send + Sync {
    /// Returns the time of the engine, in milliseconds since 1970. Hosts compare it with no clock of their own.
    fn now_ms(&self) -> u64;

    /// Keeps new calls and maps, all in one transaction; answers in their order. One that is refused costs the others
    /// nothing.
    fn accept(&self, new: Vec<Accept>) -> Answer<'_, Vec<Accepted>>;

    /// Leases the next attempt at a call for this host, by `version` of its app. An attempt that another start of the
    /// host had under way counts as lost.
    fn claim(&self, call: CallId, version: Option<Version>) -> Answer<'_, Claimed>;

    /// Writes the state of a call after an attempt, with its output if it is done. A state that is terminal closes the
    /// call, and ends the scheduled run that it is.
    fn settle(&self, settle: CallSettle) -> Answer<'_, Settled>;

    fn call(&self, id: CallId) -> Answer<'_, Option<CallRecord>>;
    fn call_input(&self, id: CallId) -> Answer<'_, Option<Payload>>;
    fn call_output(&self, id: CallId) -> Answer<'_, Option<Payload>>;

    /// Returns the open calls that this host looks after, oldest first, those behind `after`. In an engine of one host:
    /// all.
    fn held(&self, after: Option<CallId>, limit: usize) -> Answer<'_, Vec<OpenCall>>;

    /// Returns the open maps that this host looks after, as `held`.
    fn held_maps(&self, after: Option<MapId>, limit: usize) -> Answer<'_, Vec<MapRecord>>;

    /// Returns how much is open. An estimate, for metrics.
    fn open(&self) -> Counts;

    /// Returns the children of a call, those behind `after`.
    fn children(
        &self,
        parent: CallId,
        after: Option<(Kind, [u8; 16])>,
        limit: usize,
    ) -> Answer<'_, Vec<(Kind, [u8; 16])>>;

    /// Returns calls and maps, newest first. Reads no more rows than asked for; the second is where to go on, if there
    /// is more.
    fn list(&self, query: Query) -> Answer<'_, (Vec<ListEntry>, Option<[u8; 16]>)>;

    /// Keeps inputs of a map.
    fn append(&self, append: Append) -> Answer<'_, Appended>;

    /// Closes or cancels a map, and returns it; none where there is no such map. One that has ended stays as it is, and
    /// none ends by it: that takes a settle, if need be of no chunk.
    fn mark(&self, map: MapId, mark: MapMark) -> Answer<'_, Option<MapRecord>>;

    /// Returns chunks that are not whole, those behind the one at `after`.
    fn pending(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<PendingChunk>>;

    /// Leases up to `limit` pending chunks for this host, those behind the one at `after`, and reads them.
    fn claim_chunks(&self, map: MapId, after: Option<u64>, limit: usize) -> Answer<'_, Vec<ClaimedChunk>>;

    /// Writes outcomes and retries of a map.
    fn settle_map(&self, settle: MapSettle) -> Answer<'_, MapSettled>;

    /// Takes the failures of the chunk at `first` back, of a map that has ended, so that its inputs run again; the map
    /// is open from then on. A chunk without a failure stays as it is. Returns the map. Refused as
    /// [`super::ErrorKind::Gone`] for a map that is deleted, or about to be.
    fn reset_failures(&self, map: MapId, first: u64) -> Answer<'_, MapRecord>;

    fn map(&self, id: MapId) -> Answer<'_, Option<MapRecord>>;

    /// Returns the inputs of the chunk that `index` is in, and where that begins.
    fn inputs(&self, map: MapId, index: u64) -> Answer<'_, Option<(u64, Vec<StoredPayload>)>>;

    /// Returns one input of a map.
    fn map_input(&self, map: MapId, index: u64) -> Answer<'_, Option<Payload>>;

    /// Returns the outcomes of the chunk that `index` is in, from `index` on as far as they are not too large together.
    fn outcomes(&self, map: MapId, index: u64) -> Answer<'_, Option<Outcomes>>;

    /// Returns the bytes of a payload, wherever they are.
    fn payload(&self, stored: StoredPayload) -> Answer<'_, Payload>;

    /// Takes a step in the deletion of calls and maps of an app that ended before `until_ms`: marks some, which count
    /// as deleted from then on, or deletes a bounded number of rows and files of marked ones. Returns whether there may
    /// be more.
    fn expire<'a>(&'a self, app: &'a AppName, until_ms: u64) -> Answer<'a, bool>;

    /// Finishes deletions that a host did not come to the end of. Once, at start.
    fn sweep(&self) -> Answer<'_, ()>;

    /// Returns the clock as it was last kept; none before the first time.
    fn clock(&self) -> Answer<'_, Option<ClockMark>>;

    /// Keeps the clock for the next host.
    fn keep_clock(&self, mark: ClockMark) -> Answer<'_, ()>;

    /// Returns the apps with an ended call or map.
    fn apps_with_ended(&self) -> Answer<'_, Vec<AppName>>;

    /// Returns how many rows are in quarantine: they cannot be read, and neither they nor their calls and maps are
    /// used.
    fn quarantined(&self) -> usize;
}
