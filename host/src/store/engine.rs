//! Engine of a data directory, by the traits of `storage`.

use std::sync::Arc;

use super::apps::StoreApps;
use super::blobs::ComponentFiles;
use super::dir::StoreDir;
use super::journal::StoreJournal;
use super::key_value::StoreKeyValue;
use crate::storage::{Observer, Storage};

/// Returns the engine of a data directory, which opens at its first use. `observer` is told of the journal's changes.
pub(crate) fn engine(dir: Arc<StoreDir>, observer: Option<Arc<dyn Observer>>) -> Storage {
    let journal = Arc::new(match observer {
        Some(observer) => StoreJournal::observed(dir.clone(), observer),
        None => StoreJournal::new(dir.clone()),
    });
    Storage {
        members: journal.clone(),
        timetable: journal.clone(),
        journal,
        apps: Arc::new(StoreApps::new(dir.clone())),
        key_value: Arc::new(StoreKeyValue::new(dir.clone())),
        blobs: Arc::new(ComponentFiles::new(dir.path())),
    }
}
