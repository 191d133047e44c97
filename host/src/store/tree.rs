//! The few things that [`Files`](super::Files) does to a file system, so that a simulated one can take its place.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::durable::{self, SyncError};

/// A directory and what is below it; paths are relative to it. Each call may block.
pub(crate) trait Tree: Send + Sync + 'static {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Returns the size of a file.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Writes a new file, or the whole of one that is there. On disk only after [`sync`](Self::sync).
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Returns once the contents of a file, or the names in a directory, are on disk.
    fn sync(&self, path: &Path) -> Result<(), SyncError>;

    /// Gives a file another name, in the place of whatever has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory where there is none; says whether it did.
    fn create_dir(&self, path: &Path) -> io::Result<bool>;

    /// Returns the names in a directory; none where there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Bytes that an ordinary user may still write to the disk.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A directory on disk.
pub(crate) struct DiskTree {
    root: PathBuf,
}

impl DiskTree {
    /// `root` is there already.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl Tree for DiskTree {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        durable::patiently(|| fs::read(self.root.join(path)))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(self.root.join(path))?.len())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        durable::open(&self.root.join(path), OpenOptions::new().create(true).truncate(true))?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> Result<(), SyncError> {
        durable::sync(&self.root.join(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        match durable::create_dir(&self.root.join(path)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(self.root.join(path)) {
            Ok(entries) => entries.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        durable::free_bytes(&self.root)
    }
}
