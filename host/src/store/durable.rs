//! Durable file operations with private modes: a file's name is on disk only once its directory was synced, and the
//! group and others may read nothing that is made here.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

/// Modes of files and directories: names, inputs and results of calls are nobody else's to read.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// Permissions of the group and of others.
const OTHERS: u32 = 0o077;

/// How often, and after which rest, an open is tried that found no descriptor or memory: for about a second. The rest
/// is short, since others close theirs after the time of an fsync.
const OPEN_TRIES: u32 = 200;
const OPEN_REST: Duration = Duration::from_millis(5);

/// What of a sync failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    /// Nothing was synced, and nothing that was written is in doubt.
    #[error("cannot open it")]
    Open(#[source] io::Error),
    /// What it covered may be lost, though reads still show it.
    #[error("fsync failed")]
    Sync(#[source] io::Error),
}

impl From<SyncError> for io::Error {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Open(error) | SyncError::Sync(error) => error,
        }
    }
}

/// Whether the process or the machine has no descriptor or memory to give now, and may have later.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR))
}

/// Opens, again for about a second while there are no descriptors. Blocks.
pub(super) fn patiently<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..OPEN_TRIES {
        match open() {
            Err(error) if is_exhausted(&error) => std::thread::sleep(OPEN_REST),
            result => return result,
        }
    }
    open()
}

/// Returns once the contents of a file, or the names in a directory, are on disk. Blocks.
pub(super) fn sync(path: &Path) -> Result<(), SyncError> {
    let file = patiently(|| File::open(path)).map_err(SyncError::Open)?;
    file.sync_all().map_err(SyncError::Sync)
}

/// Opens a file of ours to read and write, readable for nobody else; `options` say whether it is created. Blocks.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = patiently(|| options.read(true).write(true).mode(FILE_MODE).open(path))?;
    // One of an earlier version, or of a copy.
    tighten(&file.metadata()?, FILE_MODE, |permissions| file.set_permissions(permissions))?;
    Ok(file)
}

/// Creates a directory for our files; its name is on disk only after a sync of the one above it.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIR_MODE).create(dir)
}

/// Creates `dir` and what is missing above it, and returns once their names are on disk.
pub(super) fn create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir_all(parent)?;
    match create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(error),
        // Somebody else's directory may not be synced yet.
        _ => sync(parent)?,
    }
    Ok(())
}

/// Takes the group's and others' permissions on a directory of ours away; says whether there were any. One that is not
/// there is no error.
pub(super) fn close_dir(dir: &Path) -> io::Result<bool> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {
            tighten(&metadata, DIR_MODE, |permissions| fs::set_permissions(dir, permissions))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(false),
    }
}

fn tighten(metadata: &fs::Metadata, mode: u32, set: impl FnOnce(Permissions) -> io::Result<()>) -> io::Result<bool> {
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || metadata.mode() & OTHERS == 0 {
        return Ok(false);
    }
    set(Permissions::from_mode(mode)).map(|()| true)
}

/// Returns the bytes that an ordinary user may still write to the disk with `path`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    disk_bytes(path).map(|(_, free)| free)
}

/// Returns the size of the disk with `path`, and the bytes that an ordinary user may still write to it.
pub(super) fn disk_bytes(path: &Path) -> io::Result<(u64, u64)> {
    let disk = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok((bytes(disk.f_blocks), bytes(disk.f_bavail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_made_and_what_is_opened_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, file) = (dir.path().join("a/b"), dir.path().join("a/b/file"));
        create_dir_all(&deep).unwrap();
        open(&file, OpenOptions::new().create(true)).unwrap();
        assert_eq!((mode(&dir.path().join("a")), mode(&deep), mode(&file)), (0o700, 0o700, 0o600));

        fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        open(&file, &mut OpenOptions::new()).unwrap();
        assert!(close_dir(&deep).unwrap());
        assert_eq!((mode(&deep), mode(&file)), (0o700, 0o600));
        assert!(!close_dir(&deep).unwrap(), "it was closed already");
        assert!(!close_dir(&dir.path().join("none")).unwrap());
    }

    #[test]
    fn an_open_is_tried_again_while_there_are_no_descriptors_and_not_for_other_errors() {
        let mut tries = 0;
        let opened = patiently(|| {
            tries += 1;
            if tries < 3 { Err(Errno::MFILE.into()) } else { Ok(tries) }
        });
        assert_eq!(opened.unwrap(), 3);

        let mut tries = 0;
        let failed: io::Result<()> = patiently(|| {
            tries += 1;
            Err(Errno::ACCESS.into())
        });
        assert_eq!((failed.unwrap_err().kind(), tries), (io::ErrorKind::PermissionDenied, 1));
        let exhausted: io::Result<()> = patiently(|| Err(Errno::NFILE.into()));
        assert!(is_exhausted(&exhausted.unwrap_err()));
    }
}
