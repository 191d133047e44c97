//! Reserve: disk space that a preallocated file holds, so that work which gives space back can be written on a full
//! disk.
//!
//! Deleting a row in redb takes new pages first. The reserve is given back to the disk before such a write and taken
//! again after it, as far as there is room then. It lies in a file of its own and not in the database's, since redb
//! leaves holes in that file and may put a page into any of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

use super::durable;
use crate::limits::{STORE_RESERVE_BYTES_MIN, STORE_SPARE_BYTES};

/// Name in the data directory.
pub(super) const RESERVE_FILE: &str = "reserve";
/// Step in which the reserve grows.
const STEP_BYTES: u64 = 64 << 10;

/// The reserve of a data directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    /// Whether the file is made where there is none: a host makes it, a command does not.
    is_kept: AtomicBool,
}

impl Reserve {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(RESERVE_FILE), is_kept: AtomicBool::new(false) }
    }

    /// Keeps a reserve from now on, where there was none.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Returns the bytes that it holds.
    pub(super) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Gives the space back to the disk.
    pub(super) fn release(&self) -> io::Result<()> {
        match durable::open(&self.path, &mut OpenOptions::new()) {
            Ok(file) => file.set_len(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes as much space as is free, up to [`STORE_SPARE_BYTES`] in all. Beyond the `lent_bytes` that it had, it
    /// leaves the disk what results of running work may use.
    pub(super) fn refill(&self, free_bytes: u64, lent_bytes: u64) -> io::Result<()> {
        let held = self.bytes();
        let spare = held.saturating_add(free_bytes.saturating_sub(STORE_RESERVE_BYTES_MIN));
        let owed = lent_bytes.min(held.saturating_add(free_bytes));
        let is_wanted = held > 0 || self.path.exists() || self.is_kept.load(Ordering::Relaxed);
        let wanted = STORE_SPARE_BYTES.min(spare.max(owed)) / STEP_BYTES * STEP_BYTES;
        if !is_wanted || wanted <= held {
            return Ok(());
        }
        let file = durable::open(&self.path, OpenOptions::new().create(true).truncate(false))?;
        preallocate(&file, held, wanted)
    }
}

fn preallocate(file: &File, held: u64, wanted: u64) -> io::Result<()> {
    let allocated = fallocate(file, FallocateFlags::empty(), held, wanted - held).map_err(io::Error::from);
    if allocated.is_err() {
        // Some file systems keep what they had allocated before they met the end of the disk.
        let _ = file.set_len(held);
    }
    allocated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_takes_what_is_free_up_to_its_size_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path());
        reserve.refill(u64::MAX, 0).unwrap();
        assert_eq!(reserve.bytes(), 0, "no host keeps one here");
        reserve.keep();
        reserve.refill(STORE_RESERVE_BYTES_MIN + STEP_BYTES + 1, 0).unwrap();
        assert_eq!(reserve.bytes(), STEP_BYTES, "results of running work come first");
        reserve.refill(u64::MAX - STEP_BYTES, 0).unwrap();
        assert_eq!(reserve.bytes(), STORE_SPARE_BYTES);
        reserve.release().unwrap();
        assert_eq!(reserve.bytes(), 0);
        let next = Reserve::new(dir.path());
        next.refill(2 * STEP_BYTES, STORE_SPARE_BYTES).unwrap();
        assert_eq!(reserve.bytes(), 2 * STEP_BYTES, "the next start finds it, and what it lent comes back first");
    }
}
