//! The database's file as redb sees it, watched: which kind of operation failed decides what becomes of the store.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use crate::failpoint;

/// What went wrong on a file since somebody last asked, and what was written.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    worst: Mutex<Fault>,
    written_bytes: AtomicU64,
}

/// The worst that happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The file could not grow or take bytes: the disk, a quota or a limit on the file's size is full.
    NoRoom,
    /// A read or a write failed otherwise.
    Broken,
    /// An fsync failed. What it covered may be lost, though reads still show it.
    Sync,
}

impl Fault {
    pub(super) fn of_write(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoRoom,
            _ => Self::Broken,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::None => 0,
            Self::NoRoom => 1,
            Self::Broken => 2,
            Self::Sync => 3,
        }
    }
}

impl Faults {
    /// Returns the worst fault since the last call, and forgets it.
    pub(crate) fn take(&self) -> Fault {
        std::mem::take(&mut self.worst.lock())
    }

    /// Returns the bytes written since the last call.
    pub(crate) fn take_written_bytes(&self) -> u64 {
        self.written_bytes.swap(0, Ordering::Relaxed)
    }

    fn note(&self, fault: Fault) {
        let mut worst = self.worst.lock();
        if fault.rank() > worst.rank() {
            *worst = fault;
        }
    }
}

/// A file with a memory for its faults, and with fail points around what changes it.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    file: Box<dyn StorageBackend>,
    faults: Arc<Faults>,
}

impl WatchedFile {
    pub(crate) fn new(file: Box<dyn StorageBackend>, faults: Arc<Faults>) -> Self {
        Self { file, faults }
    }

    fn noting<T>(&self, result: io::Result<T>, fault: impl FnOnce(&io::Error) -> Fault) -> io::Result<T> {
        result.inspect_err(|error| self.faults.note(fault(error)))
    }
}

impl StorageBackend for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.noting(self.file.len(), |_| Fault::Broken)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noting(self.file.read(offset, out), |_| Fault::Broken)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        failpoint::hit("store.set-len.before");
        self.noting(self.file.set_len(len), Fault::of_write)?;
        failpoint::hit("store.set-len.after");
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        failpoint::hit("store.sync.before");
        self.noting(self.file.sync_data(), |_| Fault::Sync)?;
        failpoint::hit("store.sync.after");
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        failpoint::hit("store.write.before");
        self.noting(self.file.write(offset, data), Fault::of_write)?;
        self.faults.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        failpoint::hit("store.write.after");
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
