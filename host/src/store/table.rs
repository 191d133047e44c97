//! Tables of the database: ordered byte strings to byte strings, and the changes to them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use redb::TableDefinition;

use super::decider::Decider;

/// A table: ordered byte strings to byte strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Guests' key-value data (`kv`).
    KeyValue,
    /// What was deployed, stopped and rolled back (`deploy`).
    Deployments,
    /// Schedules (`journal`): the state of each, and its latest runs.
    Schedules,
    /// Facts of the directory as a whole: the epoch (`Store::raise_epoch`).
    Host,
    /// Rows of other tables that cannot be read (`journal::quarantine`).
    Quarantine,
    /// Durable calls (`journal`): what each is and where it stands.
    Calls,
    /// Their inputs.
    CallInputs,
    /// Their outputs.
    CallOutputs,
    /// What finds calls and maps by something else than their id (`journal::key`).
    JournalIndex,
    /// Durable maps (`journal`): what each is and where it stands.
    Maps,
    /// Their inputs, in chunks.
    MapInputs,
    /// Chunks of which not every input has its outcome, and their leases.
    MapPending,
    /// Their outcomes, in segments.
    MapResults,
}

impl Table {
    pub(super) const ALL: [Table; 13] = [
        Table::KeyValue,
        Table::Deployments,
        Table::Schedules,
        Table::Host,
        Table::Quarantine,
        Table::Calls,
        Table::CallInputs,
        Table::CallOutputs,
        Table::JournalIndex,
        Table::Maps,
        Table::MapInputs,
        Table::MapPending,
        Table::MapResults,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Table::KeyValue => "key-value",
            Table::Deployments => "deployments",
            Table::Schedules => "schedules",
            Table::Host => "host",
            Table::Quarantine => "quarantine",
            Table::Calls => "calls",
            Table::CallInputs => "call-inputs",
            Table::CallOutputs => "call-outputs",
            Table::JournalIndex => "journal-index",
            Table::Maps => "maps",
            Table::MapInputs => "map-inputs",
            Table::MapPending => "map-pending",
            Table::MapResults => "map-results",
        }
    }

    pub(super) fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One change.
#[derive(Clone, Debug)]
pub enum Op {
    Put {
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        table: Table,
        key: Vec<u8>,
    },
    /// A value decided from the one that it replaces.
    Update {
        table: Table,
        key: Vec<u8>,
        decide: Decision,
    },
    /// Changes decided from what the transaction has.
    Decide(Decider),
}

/// Decides the new value of a key from its present one; `None` leaves the key as it is.
///
/// Called on the writer's thread, within the transaction and after every earlier write, so no write falls between what
/// it sees and what it decides. Called again where the transaction is: the last call counts. It must not block or
/// panic.
#[derive(Clone)]
pub struct Decision {
    decide: Arc<NewValue>,
    bytes: usize,
}

type NewValue = dyn Fn(Option<&[u8]>) -> Option<Bytes> + Send + Sync;

impl Decision {
    /// `bytes`: memory that `decide` holds, which counts like the value of a put.
    pub fn new(bytes: usize, decide: impl Fn(Option<&[u8]>) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        Self { decide: Arc::new(decide), bytes }
    }

    pub(super) fn new_value(&self, present: Option<&[u8]>) -> Option<Bytes> {
        (self.decide)(present)
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Op {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, .. } => key.len(),
            Op::Update { key, decide, .. } => key.len() + decide.bytes,
            Op::Decide(decider) => decider.bytes(),
        }
    }
}
