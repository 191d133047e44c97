//! The database of a data directory, opened at the first use: a command that keeps nothing needs no directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::file::Health;
use super::tree::DiskTree;
use super::{DataLock, DiskFile, Files, Store, StoreError, durable, failure};
use crate::metrics::StoreCounters;
use crate::storage::StorageError;

pub(super) const DATABASE_FILE: &str = "store.redb";
/// Names in a data directory that are bireme's.
const OURS: [&str; 11] = [
    "apps",
    "artifacts",
    "compiled",
    "dev",
    "lock",
    "logs",
    "models",
    "results",
    "sdk",
    "store.redb",
    "store.redb.new",
];
/// Directories in it that nobody else may read. Earlier versions, or a copy, may have left them open.
const CLOSED: [&str; 3] = ["apps", "logs", "results"];

/// Whether a directory has a database, which opening it would make.
pub(crate) fn has_database(dir: &Path) -> bool {
    dir.join(DATABASE_FILE).exists()
}

/// A data directory and, once something is kept, its open database.
pub struct StoreDir {
    path: PathBuf,
    /// Opened once; an error is not kept, so that a directory that becomes free can be used.
    open: OnceLock<Opened>,
    opening: Mutex<()>,
    /// Shared with the store, so that it can be watched before it is opened.
    health: Health,
    counters: Arc<StoreCounters>,
}

/// Bytes on the disk of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskUsage {
    pub disk_bytes: u64,
    /// Bytes that an ordinary user may still write.
    pub free_bytes: u64,
    pub database_bytes: u64,
}

struct Opened {
    store: Store,
    files: Files,
    /// Behind the two: they end before another host may begin. A simulated directory has none.
    _lock: Option<DataLock>,
}

impl StoreDir {
    /// The data in `path`, which is created at the first use.
    pub(crate) fn new(path: &Path) -> Self {
        Self::counted(path, Arc::default())
    }

    /// The data in `path`, as by `new`, whose commits are counted.
    pub(crate) fn counted(path: &Path, counters: Arc<StoreCounters>) -> Self {
        let health = watch::Sender::new(None);
        Self { path: path.to_owned(), open: OnceLock::new(), opening: Mutex::new(()), health, counters }
    }

    /// The data on a simulated disk, opened.
    #[cfg(test)]
    pub(crate) fn simulated(disk: &super::sim_disk::Disk) -> Result<Self, StoreError> {
        let dir = Self::new(Path::new(""));
        let disk = Arc::new(disk.clone());
        let store = Store::open_on(disk.clone(), dir.health.clone(), dir.counters.clone())?;
        let files = Files::open(disk, Path::new(""), dir.health.clone())?;
        let _ = dir.open.set(Opened { store, files, _lock: None });
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how full the disk is and how large the database. Blocks as long as the disk does.
    pub(crate) fn disk_usage(&self) -> io::Result<DiskUsage> {
        let database_bytes = fs::metadata(self.path.join(DATABASE_FILE))?.len();
        let (disk_bytes, free_bytes) = durable::disk_bytes(&self.path)?;
        Ok(DiskUsage { disk_bytes, free_bytes, database_bytes })
    }

    /// Opens the database now, so that a directory in use is found at start.
    pub(crate) fn open_now(&self) -> Result<(), StoreError> {
        self.store().map(drop)
    }

    /// Returns the database, opening it where that has not been done.
    pub(crate) fn store(&self) -> Result<&Store, StoreError> {
        Ok(&self.opened()?.store)
    }

    /// Returns the files of large values, opening the database too.
    pub(crate) fn files(&self) -> Result<&Files, StoreError> {
        Ok(&self.opened()?.files)
    }

    fn opened(&self) -> Result<&Opened, StoreError> {
        if let Some(opened) = self.open.get() {
            return Ok(opened);
        }
        let _one_at_a_time = self.opening.lock();
        if self.open.get().is_none() {
            let lock = DataLock::take(&self.path)?;
            close_to_others(&self.path)
                .map_err(|source| StoreError::Directory { dir: self.path.clone(), source: Arc::new(source) })?;
            let file = Arc::new(DiskFile::new(&self.path.join(DATABASE_FILE)));
            let store = Store::open_on(file, self.health.clone(), self.counters.clone())?;
            let files = Files::open(Arc::new(DiskTree::new(&self.path)), &self.path, self.health.clone())?;
            let _ = self.open.set(Opened { store, files, _lock: Some(lock) });
        }
        Ok(self.open.get().expect("set under the lock"))
    }

    /// Leaves the database, if it is open, as it opens at once.
    pub(crate) async fn checkpoint(&self) -> Result<(), StorageError> {
        match self.open.get() {
            Some(opened) => Ok(opened.store.checkpoint().await?),
            None => Ok(()),
        }
    }

    /// Waits until the database has stopped for good, and says why: a host must stop then.
    pub(crate) async fn failed(&self) -> StorageError {
        failure(self.health.subscribe()).await.into()
    }
}

/// Takes away what the group and others may do in a directory of an earlier version, or one that was made beforehand. A
/// directory with other things in it is not only ours and is left as it is; what we keep in it is closed by itself.
fn close_to_others(dir: &Path) -> io::Result<()> {
    CLOSED.iter().try_for_each(|name| durable::close_dir(&dir.join(name)).map(drop))?;
    let mut names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
    let is_ours_alone = names.all(|name| name.is_ok_and(|name| OURS.iter().any(|ours| name == *ours)));
    if is_ours_alone && durable::close_dir(dir)? {
        tracing::warn!(dir = %dir.display(), "other users could look into the data directory; its mode is 0700 now");
    }
    Ok(())
}
