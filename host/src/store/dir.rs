//! The database of a data directory, opened at the first use: a command that keeps nothing needs no directory.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{DataLock, Store, StoreError};

/// A data directory and, once something is kept, its open database.
pub struct StoreDir {
    path: PathBuf,
    /// Opened once; an error is not kept, so that a directory that becomes free can be used.
    open: OnceLock<(Store, DataLock)>,
    opening: Mutex<()>,
}

impl StoreDir {
    /// The data in `path`, which is created at the first use.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: OnceLock::new(), opening: Mutex::new(()) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database now, so that a directory in use is found at start.
    pub fn open_now(&self) -> Result<(), StoreError> {
        self.store().map(drop)
    }

    /// Returns the database, opening it where that has not been done.
    pub fn store(&self) -> Result<&Store, StoreError> {
        if let Some((store, _)) = self.open.get() {
            return Ok(store);
        }
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.open.get().is_none() {
            let lock = DataLock::take(&self.path)?;
            let store = Store::open(&self.path.join("store.redb"))?;
            let _ = self.open.set((store, lock));
        }
        Ok(&self.open.get().expect("set under the lock").0)
    }
}
