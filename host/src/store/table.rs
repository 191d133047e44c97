//! Tables of the database: ordered byte strings to byte strings.

use std::ops::Bound;

use redb::TableDefinition;

/// A table: ordered byte strings to byte strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Guests' key-value data (`kv`).
    KeyValue,
    /// Those of them that expire (`key_value`).
    ExpiringValues,
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
    /// Bytes that each app keeps (`usage`).
    Usage,
}

impl Table {
    pub(super) const ALL: [Table; 15] = [
        Table::KeyValue,
        Table::ExpiringValues,
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
        Table::Usage,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::KeyValue => "key-value",
            Table::ExpiringValues => "expiring-values",
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
            Table::Usage => "usage",
        }
    }

    pub(super) fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// Whether the end lies before the start, which redb has no answer for.
pub(super) fn is_empty(between: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match between {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
        _ => false,
    }
}
