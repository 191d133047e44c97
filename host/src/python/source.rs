//! Source files of an app, for the loader: plain files beneath its directories, whatever links say.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::error::PythonError;
use crate::limits::{SOURCE_BYTES_MAX, SOURCES_BYTES_MAX};
use crate::sandbox::SourceFiles;

/// Returns a reader of the files in `dirs`, the first that has one; at most `SOURCES_BYTES_MAX` bytes in all.
pub(super) fn open(dirs: &[&Path]) -> Result<SourceFiles, PythonError> {
    let open = |dir: &&Path| {
        let opened = Dir::open_ambient_dir(dir, ambient_authority());
        opened.map_err(|source| PythonError::Read { path: dir.to_path_buf(), source })
    };
    let dirs = dirs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let room = AtomicU64::new(SOURCES_BYTES_MAX);
    Ok(Arc::new(move |path: &str| {
        let file = dirs.iter().find_map(|dir| read(dir, path))?;
        let left = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(file.len() as u64));
        left.is_ok().then_some(file)
    }))
}

fn read(dir: &Dir, path: &str) -> Option<Bytes> {
    let file = dir.open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > SOURCE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(SOURCE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beneath_the_directories_are_read_and_no_others() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.py"), "x").unwrap();
        let (app, packages) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(app.path().join("a.py"), "app").unwrap();
        std::fs::write(packages.path().join("a.py"), "package").unwrap();
        std::fs::write(packages.path().join("b.py"), "package").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.py"), app.path().join("link.py")).unwrap();
        let files = open(&[app.path(), packages.path()]).unwrap();
        assert_eq!(files("a.py").unwrap(), "app");
        assert_eq!(files("b.py").unwrap(), "package");
        let up = format!("../{}/secret.py", outside.path().file_name().unwrap().to_string_lossy());
        for path in ["c.py", "", ".", "link.py", "/etc/passwd", &up] {
            assert!(files(path).is_none(), "{path}");
        }
    }
}
