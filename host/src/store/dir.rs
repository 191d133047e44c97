//! The database of a data directory, opened at the first use: a command that keeps nothing needs no directory.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytesize::ByteSize;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::file::Health;
use super::lock::LOCK_FILE;
use super::reserve::RESERVE_FILE;
use super::tree::DiskTree;
use super::{AppUsage, DataLock, DiskFile, Files, Medium, Store, StoreError, durable, failure, file};
use crate::limits::APP_DISK_PARTS;
use crate::metrics::StoreCounters;
use crate::storage::StorageError;

pub(super) const DATABASE_FILE: &str = "store.redb";
/// Names in a data directory that are bireme's.
const OURS: [&str; 15] = [
    "apps",
    "artifacts",
    "compiled",
    "dev",
    "lock",
    "logs",
    "models",
    "python",
    "reserve",
    "results",
    "run",
    "sdk",
    "store.redb",
    "store.redb.new",
    "token",
];
/// Directories in it that nobody else may read. Earlier versions, or a copy, may have left them open.
const CLOSED: [&str; 3] = ["apps", "logs", "results"];

/// Whether a directory has a database, which opening it would make.
pub(crate) fn has_database(dir: &Path) -> bool {
    dir.join(DATABASE_FILE).exists()
}

/// Returns the bytes that the database of a directory takes of the disk.
pub(crate) fn database_bytes(dir: &Path) -> io::Result<u64> {
    DiskFile::new(&dir.join(DATABASE_FILE)).allocated_bytes()
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
    /// Quota of each app; a part of the disk unless it is given.
    app_disk_max: Option<u64>,
    /// Whether a thread measures the space within the file.
    is_measuring: Arc<AtomicBool>,
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
        let (health, opening) = (watch::Sender::new(None), Mutex::new(()));
        let (app_disk_max, is_measuring) = Default::default();
        Self { path: path.to_owned(), open: OnceLock::new(), opening, health, counters, app_disk_max, is_measuring }
    }

    /// Returns it with a quota for each app.
    #[must_use]
    pub(crate) fn with_app_disk(self, app_disk_max: Option<u64>) -> Self {
        Self { app_disk_max, ..self }
    }

    /// The data on a simulated disk, opened.
    #[cfg(test)]
    pub(crate) fn simulated(disk: &super::sim_disk::Disk) -> Result<Self, StoreError> {
        let dir = Self::new(Path::new(""));
        let disk = Arc::new(disk.clone());
        let store = Store::open_on(disk.clone(), dir.health.clone(), dir.counters.clone())?;
        let files = Files::open(disk, Path::new(""), dir.health.clone())?;
        store.count_usage(&|digest| files.bytes(digest))?;
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

    /// Makes what a confined host cannot: the directory, its database where there is none, and the files and
    /// directories beside it. In one that is in use, its holder has made them.
    pub(crate) fn make(path: &Path) -> Result<(), StoreError> {
        let _lock = match DataLock::take(path) {
            Err(StoreError::InUse { .. }) => return Ok(()),
            taken => taken?,
        };
        let failed = |source| StoreError::Directory { dir: path.to_owned(), source: Arc::new(source) };
        close_to_others(path).map_err(failed)?;
        for dir in CLOSED {
            match durable::create_dir_all(&path.join(dir)) {
                // A full disk must not keep a host from starting.
                Err(error) if error.kind() != io::ErrorKind::StorageFull => return Err(failed(error)),
                _ => {}
            }
        }
        let reserve = durable::open(&path.join(RESERVE_FILE), OpenOptions::new().create(true).truncate(false));
        match reserve {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => return Err(failed(error)),
            _ => {}
        }
        file::make(&DiskFile::new(&path.join(DATABASE_FILE)))
    }

    /// Returns the directories below `path` in which an open one makes files, and the files that it changes and never
    /// replaces.
    pub(crate) fn kept(path: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let of = |names: &[&str]| names.iter().map(|name| path.join(name)).collect();
        (of(&CLOSED), of(&[DATABASE_FILE, LOCK_FILE, RESERVE_FILE]))
    }

    /// Opens the database now, so that a directory in use is found at start.
    pub(crate) fn open_now(&self) -> Result<(), StoreError> {
        self.store().map(drop)
    }

    /// Opens the database for a host: with a reserve of disk space, and a line in the log for each app over its quota.
    pub(crate) fn open_for_host(&self) -> Result<(), StoreError> {
        let store = self.store()?;
        store.file.keep_reserve();
        let quota_bytes = store.usage.quota_bytes();
        for (app, usage) in store.usage.all() {
            if usage.bytes > quota_bytes {
                let (used, quota) = (ByteSize::b(usage.bytes), ByteSize::b(quota_bytes));
                tracing::warn!(
                    %app, %used, %quota,
                    "the app keeps more than its quota: it may read and delete, and its writes are refused"
                );
            }
        }
        Ok(())
    }

    /// Returns what an app keeps; none before the database is open.
    pub(crate) fn app_usage(&self, app: &str) -> Option<AppUsage> {
        self.open.get().map(|opened| opened.store.usage.of(app))
    }

    /// Returns what each app keeps, by name; none before the database is open.
    pub(crate) fn usage(&self) -> Vec<(Box<str>, AppUsage)> {
        self.open.get().map(|opened| opened.store.usage.all()).unwrap_or_default()
    }

    /// Returns the quota of each app; none before the database is open.
    pub(crate) fn app_disk_max(&self) -> Option<u64> {
        self.open.get().map(|opened| opened.store.usage.quota_bytes())
    }

    /// Returns the bytes that are free within the database's file, as last measured, and has them measured if that was
    /// long ago. None before the first measurement.
    pub(crate) fn space_bytes(&self) -> Option<u64> {
        let file = &self.open.get()?.store.file;
        if file.is_measuring_due() && !self.is_measuring.swap(true, Ordering::Relaxed) {
            let (file, is_measuring) = (file.clone(), self.is_measuring.clone());
            let measure = move || {
                if let Err(error) = file.measure_space() {
                    tracing::debug!(%error, "the free space of the database cannot be measured");
                }
                is_measuring.store(false, Ordering::Relaxed);
            };
            // Whoever asks next starts another where this one has no thread.
            if std::thread::Builder::new().name("store-space".into()).spawn(measure).is_err() {
                self.is_measuring.store(false, Ordering::Relaxed);
            }
        }
        file.space_bytes()
    }

    /// Returns the database, opening it where that has not been done.
    pub(crate) fn store(&self) -> Result<&Store, StoreError> {
        Ok(&self.opened()?.store)
    }

    /// Returns the database if it is open.
    pub(crate) fn store_if_open(&self) -> Option<&Store> {
        self.open.get().map(|opened| &opened.store)
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
            store.count_usage(&|digest| files.bytes(digest))?;
            store.usage.set_quota_bytes(self.app_disk_max.unwrap_or_else(|| default_quota(&self.path)));
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

/// Returns the quota of an app that nobody has given: a part of the disk.
fn default_quota(dir: &Path) -> u64 {
    durable::disk_bytes(dir).map_or(u64::MAX, |(disk_bytes, _)| disk_bytes / APP_DISK_PARTS)
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
