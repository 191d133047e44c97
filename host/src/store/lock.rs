//! One host for each data directory: a lock file that names its holder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::{StoreError, durable};

/// Name in the data directory.
pub(super) const LOCK_FILE: &str = "lock";

/// Holds a data directory until it is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct DataLock {
    file: File,
}

impl Drop for DataLock {
    /// Unlocks explicitly: a child between fork and exec has a copy of the descriptor, and would keep the lock.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl DataLock {
    /// Creates `dir` where it is missing and takes its lock, or says which process has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let directory =
            |source: std::io::Error| StoreError::Directory { dir: dir.to_owned(), source: Arc::new(source) };
        durable::create_dir_all(dir).map_err(directory)?;
        // Whoever can open it can lock it, and keep every host from starting.
        let options = &mut OpenOptions::new();
        let mut file = durable::open(&dir.join(LOCK_FILE), options.create(true).truncate(false)).map_err(directory)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(StoreError::InUse { dir: dir.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(error) => return Err(directory(error.into())),
        }
        let write = |file: &mut File| -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            Ok(durable::sync(dir)?)
        };
        match write(&mut file) {
            // The number is for messages; the lock is taken, and a full disk must not keep a host from starting.
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(directory(error)),
            _ => Ok(Self { file }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path()).unwrap();
        let refused = DataLock::take(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        DataLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path()).unwrap();
        let _copy = first.file.try_clone().unwrap();
        drop(first);
        DataLock::take(dir.path()).unwrap();
    }
}
