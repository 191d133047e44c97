//! Observer of a journal: told of each change of a call, map or schedule once it is on disk.

use super::record::CallRecord;
use crate::ids::{FunctionId, MapId};

/// Observer of the changes in a journal. The methods return at once: they run on the way of a write.
pub(crate) trait Observer: Send + Sync {
    /// A call was accepted or has a new state.
    fn call_changed(&self, record: &CallRecord);

    /// A map was created, or its header or progress has changed.
    fn map_changed(&self, id: MapId);

    /// A schedule has a new state, or a run of it began or ended.
    fn schedule_changed(&self, function: &FunctionId);
}
