//! Large values in files of their own, each under the digest of its contents: `results/ab/abcdef…` of the data
//! directory.
//!
//! Invariants: `put` returns once the file and its name are on disk; a file under a digest is whole (written beside,
//! synced, renamed); what `get` returns is what the digest says. A crash may leave a file that nobody refers to, never
//! the reverse, if a reference is committed after `put` and deleted before `remove`.
//!
//! Not here: who refers to a file, and when the last reference goes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::backend::Fault;
use super::durable::{SyncError, is_exhausted};
use super::error::StoreError;
use super::file::{Health, poison};
use super::tree::Tree;
use super::write::Write;
use crate::failpoint;
use hex::encode as hex;

const ROOT: &str = "results";
/// Where files are before they have their names; emptied at each start.
const UNFINISHED: &str = "results/unfinished";

/// The files of a data directory.
pub(crate) struct Files {
    tree: Arc<dyn Tree>,
    health: Health,
    /// What messages call the data directory.
    dir: PathBuf,
    next: AtomicU64,
}

impl Files {
    /// The files in `tree`; removes what a crash left unfinished. Blocks.
    pub(super) fn open(tree: Arc<dyn Tree>, dir: &Path, health: Health) -> Result<Self, StoreError> {
        let sweep = || -> io::Result<()> {
            for name in tree.list(Path::new(UNFINISHED))? {
                tree.remove(&Path::new(UNFINISHED).join(name))?;
            }
            Ok(())
        };
        sweep().map_err(|source| StoreError::Directory { dir: dir.join(UNFINISHED), source: Arc::new(source) })?;
        Ok(Self { tree, health, dir: dir.to_owned(), next: AtomicU64::new(0) })
    }

    /// Returns the digest that `bytes` are kept under.
    pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    /// Keeps `bytes` under their digest and returns once they are on disk. Keeping the same bytes again changes
    /// nothing. Blocks.
    pub(crate) fn put(&self, write: Write, digest: &[u8; 32], bytes: &[u8]) -> Result<(), StoreError> {
        if let Some(poisoned) = self.health.borrow().clone() {
            return Err(poisoned);
        }
        let path = path(digest);
        // A file that is there may have been written by somebody who was cut off before its name was on disk.
        if self.tree.read(&path).is_ok_and(|there| there == bytes) {
            self.sync(&path, digest)?;
            return self.sync_dirs(&path, digest);
        }
        let free_bytes = self.tree.free_bytes().unwrap_or(u64::MAX);
        if !write.has_room(free_bytes.saturating_sub(bytes.len() as u64)) {
            return Err(StoreError::Full { free_mib: Some(free_bytes >> 20) });
        }
        let unfinished = Path::new(UNFINISHED).join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let result = self.write(&unfinished, &path, bytes, digest);
        if result.is_err() {
            // It takes room that is needed. What stays is removed at the next start.
            let _ = self.tree.remove(&unfinished);
        }
        result
    }

    #[cfg(test)]
    pub(crate) fn keep(&self, write: Write, bytes: &[u8]) -> Result<[u8; 32], StoreError> {
        let digest = Self::digest(bytes);
        self.put(write, &digest, bytes).map(|()| digest)
    }

    /// Reads the file of `digest`, and checks it. Blocks.
    pub(crate) fn get(&self, digest: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        let bytes = self.tree.read(&path(digest)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::FileMissing { digest: *digest },
            _ => self.failed(error, digest),
        })?;
        if Self::digest(&bytes) == *digest { Ok(bytes) } else { Err(StoreError::FileChanged { digest: *digest }) }
    }

    /// Returns the size of the file of `digest`; none if it is not there. Blocks.
    pub(super) fn bytes(&self, digest: &[u8; 32]) -> Option<u64> {
        self.tree.len(&path(digest)).ok()
    }

    /// Removes the file of `digest`; one that is not there is no error. After a power cut it may be there again.
    /// Blocks.
    pub(crate) fn remove(&self, digest: &[u8; 32]) -> Result<(), StoreError> {
        failpoint::hit("files.remove.before");
        match self.tree.remove(&path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error, digest)),
            _ => {
                failpoint::hit("files.remove.after");
                Ok(())
            }
        }
    }

    /// Returns the digests of all files, so that those without a reference can be removed at start. Blocks.
    pub(crate) fn digests(&self) -> Result<Vec<[u8; 32]>, StoreError> {
        let read = || -> io::Result<Vec<[u8; 32]>> {
            let mut digests = Vec::new();
            for dir in self.tree.list(Path::new(ROOT))? {
                let dir = Path::new(ROOT).join(dir);
                if dir != Path::new(UNFINISHED) {
                    digests.extend(self.tree.list(&dir)?.iter().filter_map(|name| digest_of(name)));
                }
            }
            Ok(digests)
        };
        read().map_err(|source| StoreError::Directory { dir: self.dir.join(ROOT), source: Arc::new(source) })
    }

    fn write(&self, unfinished: &Path, path: &Path, bytes: &[u8], digest: &[u8; 32]) -> Result<(), StoreError> {
        let failed = |error| self.failed(error, digest);
        // A directory's own name must be on disk as well, which `sync_dirs` sees to.
        for dir in [Path::new(ROOT), Path::new(UNFINISHED), parent(path)] {
            self.tree.create_dir(dir).map_err(failed)?;
        }
        failpoint::hit("files.write.before");
        self.tree.write(unfinished, bytes).map_err(failed)?;
        failpoint::hit("files.write.after");
        self.sync(unfinished, digest)?;
        failpoint::hit("files.sync.after");
        self.tree.rename(unfinished, path).map_err(failed)?;
        failpoint::hit("files.rename.after");
        self.sync_dirs(path, digest)?;
        failpoint::hit("files.sync-dir.after");
        Ok(())
    }

    /// Syncs the names that lead to `path`. Whether those above were synced before is not remembered, so all are: a
    /// file is large, and syncing a directory that has not changed is cheap.
    fn sync_dirs(&self, path: &Path, digest: &[u8; 32]) -> Result<(), StoreError> {
        [parent(path), Path::new(ROOT), Path::new("")].into_iter().try_for_each(|dir| self.sync(dir, digest))
    }

    /// A sync that fails stops the store: what it covered may be lost, though reads still show it. One that could not
    /// begin says nothing about the disk: the file is not acknowledged, and keeping it again syncs it.
    fn sync(&self, path: &Path, digest: &[u8; 32]) -> Result<(), StoreError> {
        self.tree.sync(path).map_err(|error| match error {
            SyncError::Open(error) => self.failed(error, digest),
            SyncError::Sync(error) => {
                tracing::error!(path = %path.display(), file = hex(digest), %error, "a sync failed");
                poison(&self.health, &self.dir, Some(Arc::new(error.into())))
            }
        })
    }

    fn failed(&self, error: io::Error, digest: &[u8; 32]) -> StoreError {
        match Fault::of_write(&error) {
            _ if is_exhausted(&error) => StoreError::Exhausted { source: Arc::new(error) },
            Fault::NoRoom => StoreError::Full { free_mib: None },
            _ => StoreError::File { digest: *digest, source: Arc::new(error) },
        }
    }
}

fn path(digest: &[u8; 32]) -> PathBuf {
    let name = hex(digest);
    Path::new(ROOT).join(&name[..2]).join(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Reads a file's name.
fn digest_of(name: &Path) -> Option<[u8; 32]> {
    let name = name.to_str().filter(|name| name.len() == 64 && name.is_ascii())?;
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&name[2 * at..2 * at + 2], 16).ok()?;
    }
    (hex(digest) == name).then_some(digest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::watch;

    use super::*;
    use crate::store::tree::DiskTree;

    fn files(dir: &Path) -> Files {
        Files::open(Arc::new(DiskTree::new(dir)), dir, watch::Sender::new(None)).unwrap()
    }

    #[test]
    fn what_was_kept_reads_back_and_what_was_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let large = vec![7; 300 << 10];
        let digest = files.keep(Write::New, &large).unwrap();
        assert_eq!(files.keep(Write::New, &large).unwrap(), digest);
        let other = files.keep(Write::Essential, b"other").unwrap();
        assert_eq!(files.get(&digest).unwrap(), large);
        let mut digests = files.digests().unwrap();
        digests.sort();
        let mut both = vec![digest, other];
        both.sort();
        assert_eq!(digests, both);

        let path = dir.path().join(path(&digest));
        assert!(path.ends_with(format!("results/{}/{}", &hex(digest)[..2], hex(digest))));
        fs::write(&path, &large[1..]).unwrap();
        assert!(matches!(files.get(&digest), Err(StoreError::FileChanged { .. })));
        files.keep(Write::New, &large).unwrap();
        assert_eq!(files.get(&digest).unwrap(), large, "keeping it again mends it");

        files.remove(&digest).unwrap();
        files.remove(&digest).unwrap();
        assert!(matches!(files.get(&digest), Err(StoreError::FileMissing { .. })));
        assert_eq!(files.digests().unwrap(), [other]);
    }

    /// A disk whose files can be written, and not opened again to be synced.
    struct WithoutDescriptors {
        disk: DiskTree,
        syncs_left: AtomicU64,
    }

    impl Tree for WithoutDescriptors {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            self.disk.read(path)
        }

        fn len(&self, path: &Path) -> io::Result<u64> {
            self.disk.len(path)
        }

        fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            self.disk.write(path, bytes)
        }

        fn sync(&self, path: &Path) -> Result<(), SyncError> {
            let left = self.syncs_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map_err(|_| SyncError::Open(rustix::io::Errno::MFILE.into()))?;
            self.disk.sync(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.disk.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.disk.remove(path)
        }

        fn create_dir(&self, path: &Path) -> io::Result<bool> {
            self.disk.create_dir(path)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
            self.disk.list(path)
        }

        fn free_bytes(&self) -> io::Result<u64> {
            self.disk.free_bytes()
        }
    }

    #[test]
    fn a_sync_that_finds_no_descriptor_refuses_the_file_and_stops_nothing() {
        // The file itself and the three directories above it.
        for syncs in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let tree = WithoutDescriptors { disk: DiskTree::new(dir.path()), syncs_left: syncs.into() };
            let tree = Arc::new(tree);
            let health = watch::Sender::new(None);
            let files = Files::open(tree.clone(), dir.path(), health.clone()).unwrap();
            let refused = files.keep(Write::Essential, b"x").unwrap_err();
            assert!(matches!(refused, StoreError::Exhausted { .. }), "{syncs}: {refused}");
            assert!(health.borrow().is_none());
            tree.syncs_left.store(1_000, Ordering::Relaxed);
            let digest = files.keep(Write::Essential, b"x").unwrap();
            assert_eq!(files.get(&digest).unwrap(), b"x");
        }
    }

    #[test]
    fn what_a_crash_left_unfinished_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path()).keep(Write::New, b"x").unwrap();
        let left = dir.path().join(UNFINISHED).join("5");
        fs::write(&left, b"half").unwrap();
        let files = files(dir.path());
        assert!(!left.exists());
        assert_eq!(files.digests().unwrap().len(), 1);
    }

    #[test]
    fn names_that_are_no_digests_are_not_ours() {
        let name = hex([0xab; 32]);
        assert_eq!(digest_of(Path::new(&name)), Some([0xab; 32]));
        for other in [name.to_uppercase(), format!("{name}0"), name.replace('a', "é"), name.replace('a', "+")] {
            assert_eq!(digest_of(Path::new(&other)), None, "{other}");
        }
    }
}
