//! Names that outlast a power cut: a file's name is on disk only once its directory was synced.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Returns once the names in `dir` are on disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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
        _ => sync_dir(parent)?,
    }
    Ok(())
}
