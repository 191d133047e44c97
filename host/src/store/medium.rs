//! Medium of a database: a file, or in tests a simulated one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::durable;
use super::reserve::Reserve;

/// The place of one database file.
pub(crate) trait Medium: Send + Sync + 'static {
    /// Opens the file; none where no database was ever published.
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>>;

    /// Makes an empty file that [`open`](Self::open) does not find yet. What an earlier try left is gone.
    fn create(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Lets `open` find what was created and synced, and returns once that outlasts a power cut.
    fn publish(&self) -> io::Result<()>;

    /// Bytes that an ordinary user may still write to the disk.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Bytes that the file takes of the disk: holes take none.
    fn allocated_bytes(&self) -> io::Result<u64>;

    /// Space that work which makes room may use.
    fn reserve(&self) -> Option<&Reserve> {
        None
    }

    /// What messages call it.
    fn path(&self) -> &Path;
}

/// A file on disk.
pub(crate) struct DiskFile {
    path: PathBuf,
    reserve: Reserve,
}

impl DiskFile {
    pub(crate) fn new(path: &Path) -> Self {
        let reserve = Reserve::new(dir_of(path));
        Self { path: path.to_owned(), reserve }
    }

    fn unpublished(&self) -> PathBuf {
        self.path.with_added_extension("new")
    }

    fn dir(&self) -> &Path {
        dir_of(&self.path)
    }
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
}

impl Medium for DiskFile {
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        match durable::open(&self.path, &mut OpenOptions::new()) {
            // Format 1 created the file in its place; an empty one is what a crash at that moment left.
            Ok(file) if file.metadata()?.len() == 0 => Ok(None),
            Ok(file) => backend(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        backend(durable::open(&self.unpublished(), OpenOptions::new().create(true).truncate(true))?)
    }

    fn publish(&self) -> io::Result<()> {
        fs::rename(self.unpublished(), &self.path)?;
        Ok(durable::sync(self.dir())?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        durable::free_bytes(self.dir())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        // Of 512 bytes each, whatever the file system's own are.
        Ok(fs::metadata(&self.path)?.blocks().saturating_mul(512))
    }

    fn reserve(&self) -> Option<&Reserve> {
        Some(&self.reserve)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
