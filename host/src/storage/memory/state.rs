//! State of an engine in memory: everything that is kept, and the starts that joined.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    AppRecord, CallRecord, ClockMark, Entry, ErrorKind, KeyedRecord, Lease, LeaseHolder, MapRecord, ScheduleState,
    ScheduledRun, StorageError, StoredPayload,
};
use crate::ids::{AppName, CallId, FunctionId, HostId, MapId};

/// Everything that an engine keeps. Each operation is a method, from parameters to the answer.
#[derive(Default)]
pub(crate) struct State {
    /// Time of the operation under way.
    pub now_ms: u64,
    pub starts: Vec<Start>,
    pub epoch: u64,
    pub clock: Option<ClockMark>,
    pub calls: BTreeMap<CallId, Call>,
    pub maps: BTreeMap<MapId, Map>,
    pub keyed: HashMap<(FunctionId, String), KeyedRecord>,
    pub schedules: BTreeMap<FunctionId, ScheduleState>,
    pub runs: BTreeMap<FunctionId, BTreeMap<u64, ScheduledRun>>,
    pub apps: BTreeMap<AppName, BTreeMap<u64, AppRecord>>,
    /// By app, bucket and key.
    pub values: BTreeMap<(AppName, String, String), Value>,
    pub blobs: BTreeMap<[u8; 32], Bytes>,
}

/// A value, and the time at which it expires.
pub(crate) struct Value {
    pub bytes: Bytes,
    pub expires_ms: Option<u64>,
}

/// One start of a host.
pub(crate) struct Start {
    /// Name of its host.
    pub host: Arc<str>,
    pub holder: Option<LeaseHolder>,
    pub is_fenced: bool,
}

/// Number of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartNumber(pub usize);

pub(crate) struct Call {
    pub record: CallRecord,
    pub input: StoredPayload,
    pub output: Option<StoredPayload>,
    /// It counts as deleted.
    pub is_expiring: bool,
}

pub(crate) struct Map {
    pub record: MapRecord,
    /// By first input.
    pub chunks: BTreeMap<u64, MapChunk>,
    /// It counts as deleted.
    pub is_expiring: bool,
}

pub(crate) struct MapChunk {
    pub inputs: Vec<StoredPayload>,
    /// None once it is whole.
    pub lease: Option<Lease>,
    /// Outcomes and retries, by the number of their segment; 0 for one that has replaced others.
    pub segments: BTreeMap<u32, Vec<Entry>>,
}

/// Party that has a lease, as one start sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Myself,
    /// Another start, which lives.
    Another,
    /// Nobody: it was never leased, or its holder was fenced.
    Nobody,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("a later start of this host has joined, or it was fenced")]
    Fenced,
    #[error("this start has not joined; `join` comes before leases")]
    NotJoined,
    #[error("there is no such record, or it is about to be deleted")]
    Gone,
    #[error("a simulated fault")]
    Simulated,
}

impl MemoryError {
    pub(crate) fn of(self, kind: ErrorKind) -> StorageError {
        StorageError::new(kind, self)
    }
}

pub(crate) fn gone() -> StorageError {
    MemoryError::Gone.of(ErrorKind::Gone)
}

impl State {
    /// Adds a start of a host, which has not joined.
    pub(crate) fn start(&mut self, host: &str) -> StartNumber {
        self.starts.push(Start { host: host.into(), holder: None, is_fenced: false });
        StartNumber(self.starts.len() - 1)
    }

    /// Refuses what a fenced start wants to change.
    pub(crate) fn check(&self, me: StartNumber) -> Result<(), StorageError> {
        match self.starts[me.0].is_fenced {
            true => Err(MemoryError::Fenced.of(ErrorKind::Fenced)),
            false => Ok(()),
        }
    }

    /// Joins; earlier starts of the same host are fenced.
    pub(crate) fn join(&mut self, me: StartNumber) -> Result<LeaseHolder, StorageError> {
        self.check(me)?;
        if let Some(holder) = self.starts[me.0].holder {
            return Ok(holder);
        }
        self.epoch += 1;
        let holder = LeaseHolder { owner: HostId::generate(), epoch: self.epoch };
        let host = self.starts[me.0].host.clone();
        let earlier = self.starts[..me.0].iter_mut().filter(|start| start.host == host);
        earlier.for_each(|start| start.is_fenced = true);
        self.starts[me.0].holder = Some(holder);
        Ok(holder)
    }

    /// Fences all starts of a host.
    pub(crate) fn fence(&mut self, host: &str) {
        self.starts.iter_mut().filter(|start| &*start.host == host).for_each(|start| start.is_fenced = true);
    }

    /// Returns the holder of the leases that a start takes.
    pub(crate) fn holder(&self, me: StartNumber) -> Result<LeaseHolder, StorageError> {
        self.starts[me.0].holder.ok_or_else(|| MemoryError::NotJoined.of(ErrorKind::Refused))
    }

    /// Returns who has a lease.
    pub(crate) fn party(&self, me: StartNumber, holder: Option<LeaseHolder>) -> Party {
        let Some(holder) = holder else { return Party::Nobody };
        let found = self.starts.iter().position(|start| start.holder == Some(holder) && !start.is_fenced);
        match found {
            Some(number) if number == me.0 => Party::Myself,
            Some(_) => Party::Another,
            None => Party::Nobody,
        }
    }
}
