//! Staging of a model's directory: built out of sight, put in place in one step.
//!
//! Not here: the sources of files (`pull`), the installed models (`catalogue`).
//!
//! Invariants: a directory under the models' directory whose name does not start with a dot is whole; a file is hashed
//! while it is written and on the disk before the directory appears; two writers of one model do not meet, and the
//! later one replaces the earlier without a gap; the leftovers of an interrupted writer are removed when the next one
//! starts.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const PREFIX: &str = ".staging-";
const LOCK: &str = ".lock";
const PIECE_BYTES: usize = 256 << 10;

/// A directory under construction; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Staging {
    models_dir: PathBuf,
    dir: TempDir,
    /// Locked as long as the owner lives, so that others can tell a directory in use from one left behind.
    _in_use: File,
}

/// Length and hash of a written file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrittenFile {
    /// The file's length.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
}

/// A model's directory cannot be built on this machine, from any source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StagingError {
    /// The directory, or something in it, cannot be written.
    #[error("`{}` cannot be written: {source}; choose another directory with `--models-dir`", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file system is full.
    #[error("no space is left for `{}`; free some, or choose another directory with `--models-dir`", path.display())]
    DiskFull {
        /// The file or directory.
        path: PathBuf,
    },
}

/// A file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The source broke off after some bytes.
    #[error("the source broke off after {received} bytes: {source}")]
    Source {
        /// The bytes that arrived.
        received: u64,
        /// The source's reason.
        source: io::Error,
    },
    /// This machine cannot take it.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl Staging {
    /// Starts a directory, after removing those that interrupted writers left behind.
    pub(crate) fn begin(models_dir: &Path) -> Result<Self, StagingError> {
        // The data directory may be created here, and its other contents are private.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(models_dir).map_err(at(models_dir))?;
        let _lock = lock(models_dir)?;
        remove_left_behind(models_dir);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(models_dir).map_err(at(models_dir))?;
        let in_use = File::create(dir.path().join(LOCK)).map_err(at(dir.path()))?;
        in_use.lock().map_err(at(dir.path()))?;
        let staging = Self { models_dir: models_dir.to_owned(), dir, _in_use: in_use };
        fs::create_dir(staging.root()).map_err(at(models_dir))?;
        Ok(staging)
    }

    /// Returns a directory beside the model's that goes away with the staging, for intermediate files.
    pub(crate) fn scratch(&self) -> Result<PathBuf, StagingError> {
        let path = self.dir.path().join("scratch");
        fs::create_dir_all(&path).map_err(at(&path))?;
        Ok(path)
    }

    /// Writes at most `limit_bytes` of `source` to `path` and the disk. `progress` hears of each piece's length.
    pub(crate) fn write(
        &self,
        path: &str,
        mut source: impl Read,
        limit_bytes: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<WrittenFile, WriteError> {
        let target = self.root().join(path);
        let parent = target.parent().expect("a file has a parent");
        fs::create_dir_all(parent).map_err(at(parent))?;
        let mut file = File::create(&target).map_err(at(&target))?;
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut piece = vec![0; PIECE_BYTES];
        while bytes < limit_bytes {
            let want = piece.len().min(usize::try_from(limit_bytes - bytes).unwrap_or(usize::MAX));
            let read = match source.read(&mut piece[..want]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(WriteError::Source { received: bytes, source });
                }
            };
            hash.update(&piece[..read]);
            file.write_all(&piece[..read]).map_err(at(&target))?;
            bytes += read as u64;
            progress(read as u64);
        }
        file.sync_all().map_err(at(&target))?;
        Ok(WrittenFile { bytes, sha256: hex::encode(hash.finalize()) })
    }

    /// Says whether a file has been written.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.root().join(path).is_file()
    }

    /// Puts the directory in place as `name` and returns its path.
    pub(crate) fn commit(self, name: &str) -> Result<PathBuf, StagingError> {
        let target = self.models_dir.join(name);
        let _lock = lock(&self.models_dir)?;
        sync_tree(&self.root()).map_err(at(&target))?;
        self.swap_in(&target).map_err(at(&target))?;
        sync_dir(&self.models_dir).map_err(at(&self.models_dir))?;
        Ok(target)
    }

    /// Swaps the directory with `target`. A reader finds the one or the other at any time, and keeps the files that it
    /// has open.
    fn swap_in(&self, target: &Path) -> io::Result<()> {
        let root = self.root();
        match renameat_with(CWD, &root, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => return fs::rename(&root, target),
            // Some file systems cannot exchange; there a reader may find nothing for a moment.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        let replaced = self.dir.path().join("replaced");
        fs::rename(target, &replaced)?;
        fs::rename(&root, target).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::rename(&replaced, target);
        })
    }

    /// Returns the directory that becomes the model's.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("model")
    }
}

/// Removes the directory `name`, out of sight first.
pub(crate) fn remove(models_dir: &Path, name: &str) -> Result<(), StagingError> {
    let staging = Staging::begin(models_dir)?;
    let target = models_dir.join(name);
    let _lock = lock(models_dir)?;
    fs::rename(&target, staging.dir.path().join("removed")).map_err(at(&target))
}

/// Returns the SHA-256 of a file in lower-case hexadecimal digits.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut io::BufReader::with_capacity(PIECE_BYTES, File::open(path)?), &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// Holds off other writers; the lock ends with the handle, even that of a killed process.
fn lock(models_dir: &Path) -> Result<File, StagingError> {
    let path = models_dir.join(LOCK);
    let file = File::create(&path).map_err(at(&path))?;
    file.lock().map_err(at(&path))?;
    Ok(file)
}

/// Called with the lock held, so that no directory is seen between its creation and its own lock. Leftovers that cannot
/// be removed now are tried again the next time.
fn remove_left_behind(models_dir: &Path) {
    let entries = fs::read_dir(models_dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let in_use = File::open(entry.path().join(LOCK));
        if in_use.is_ok_and(|file| file.try_lock().is_err()) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::debug!(path = %entry.path().display(), %error, "a left-over directory stays");
        }
    }
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn at(path: &Path) -> impl Fn(io::Error) -> StagingError + use<'_> {
    |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StagingError::DiskFull { path: path.to_owned() },
        _ => StagingError::Unwritable { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("readable").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != LOCK).collect()
    }

    #[test]
    fn a_directory_appears_whole_or_not_at_all() {
        let home = TempDir::new().expect("a directory");
        let models = home.path().join("a/models");
        let staging = Staging::begin(&models).expect("writable");
        let written = staging.write("1_Pooling/x", &b"abc"[..], 9, &mut |_| {}).expect("written");
        assert_eq!(written.bytes, 3);
        assert!(written.sha256.starts_with("ba7816bf"));
        assert!(!models.join("m").exists());
        staging.commit("m").expect("committed");
        assert_eq!(fs::read(models.join("m/1_Pooling/x")).expect("there"), b"abc");

        let dropped = Staging::begin(&models).expect("writable");
        dropped.write("x", &b"abc"[..], 9, &mut |_| {}).expect("written");
        drop(dropped);
        assert_eq!(names(&models), ["m"]);
    }

    #[test]
    fn the_later_of_two_writers_replaces_the_earlier() {
        let home = TempDir::new().expect("a directory");
        let one = Staging::begin(home.path()).expect("writable");
        let two = Staging::begin(home.path()).expect("writable");
        one.write("x", &b"one"[..], 9, &mut |_| {}).expect("written");
        two.write("x", &b"two"[..], 9, &mut |_| {}).expect("written");
        two.commit("m").expect("committed");
        one.commit("m").expect("committed");
        assert_eq!(fs::read(home.path().join("m/x")).expect("there"), b"one");
        assert_eq!(names(home.path()), ["m"]);
    }

    #[test]
    fn what_a_killed_writer_left_goes_and_what_is_in_use_stays() {
        let home = TempDir::new().expect("a directory");
        let left = home.path().join(".staging-dead");
        fs::create_dir_all(left.join("model")).expect("made");
        File::create(left.join(LOCK)).expect("made");
        let one = Staging::begin(home.path()).expect("writable");
        assert!(!left.exists());
        let _two = Staging::begin(home.path()).expect("writable");
        assert!(one.root().exists());
    }

    #[test]
    fn a_write_stops_at_its_limit_and_names_a_broken_source() {
        let home = TempDir::new().expect("a directory");
        let staging = Staging::begin(home.path()).expect("writable");
        let cut = staging.write("x", io::repeat(7), 1_000_000, &mut |_| {}).expect("written");
        assert_eq!(cut.bytes, 1_000_000);
        let broken = b"abc".chain(Broken);
        let error = staging.write("x", broken, 9, &mut |_| {}).expect_err("broken");
        assert!(matches!(error, WriteError::Source { received: 3, .. }), "{error}");
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }

    #[test]
    fn a_home_that_cannot_be_written_is_named() {
        let home = TempDir::new().expect("a directory");
        let file = home.path().join("file");
        fs::write(&file, "").expect("written");
        let error = Staging::begin(&file.join("models")).expect_err("a file is no directory");
        assert!(error.to_string().contains("--models-dir"), "{error}");
    }
}
