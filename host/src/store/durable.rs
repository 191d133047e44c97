//! What outlasts a power cut: a file's name is on disk only once its directory was synced.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Returns once the contents of a file, or the names in a directory, are on disk.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates `dir` and what is missing above it, and returns once their names are on disk.
pub(super) fn create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir_all(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(error),
        // Somebody else's directory may not be synced yet.
        _ => sync(parent)?,
    }
    Ok(())
}

/// Returns the bytes that an ordinary user may still write to the disk with `path`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
