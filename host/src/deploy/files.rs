//! Deployed components on disk, named by their digests.
//!
//! Invariants: a file is complete (written under a temporary name, synced, renamed); a file that is read matches its
//! digest.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::app::{ComponentBytes, ComponentError};

/// The components of a data directory.
#[derive(Clone, Debug)]
pub struct ComponentFiles {
    dir: PathBuf,
}

/// A component that cannot be stored or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    #[error("cannot keep a component in `{}`", dir.display())]
    Keep { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error("`{}` is not the component that was deployed: its digest is another", path.display())]
    Changed { path: PathBuf },
}

impl ComponentFiles {
    /// Uses the directory `apps` of a data directory, created with the first component.
    pub fn new(data: &Path) -> Self {
        Self { dir: data.join("apps") }
    }

    /// Stores a component, and returns once it is on disk. Blocks.
    pub fn keep(&self, component: &ComponentBytes) -> Result<(), FilesError> {
        let keep = || -> io::Result<()> {
            let path = self.path(&hex(&component.digest));
            // Mode 0700: a component may hold what its author would not publish.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            // An intact file is left alone: writing it again would only risk it.
            if path.is_file() && fs::read(&path).is_ok_and(|bytes| bytes == *component.bytes) {
                return Ok(());
            }
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(&component.bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(&self.dir)?.sync_all()
        };
        keep().map_err(|source| FilesError::Keep { dir: self.dir.clone(), source })
    }

    /// Reads a component back and verifies its digest. Blocks.
    pub fn read(&self, digest: &str) -> Result<ComponentBytes, FilesError> {
        let path = self.path(digest);
        let component = ComponentBytes::read(&path)?;
        if hex(&component.digest) != digest { Err(FilesError::Changed { path }) } else { Ok(component) }
    }

    /// Removes components whose digests are not in `kept`. A failed removal is left for the next sweep. Blocks.
    pub fn sweep(&self, kept: &HashSet<String>) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let digest = path.file_stem().unwrap_or_default().to_string_lossy();
            if path.extension().is_some_and(|extension| extension == "wasm") && !kept.contains(&*digest) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(digest).with_extension("wasm")
    }
}

/// Formats a digest in hex.
pub fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_reads_back_and_a_changed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = ComponentFiles::new(dir.path());
        let component = ComponentBytes::new(b"\0asm\x0d\0\x01\0".to_vec()).unwrap();
        let digest = hex(&component.digest);
        files.keep(&component).unwrap();
        files.keep(&component).unwrap();
        assert_eq!(files.read(&digest).unwrap().bytes, component.bytes);

        fs::write(files.path(&digest), b"\0asm\x0d\0\x01\0\0").unwrap();
        assert!(matches!(files.read(&digest), Err(FilesError::Changed { .. })));
        files.keep(&component).unwrap();
        assert!(files.read(&digest).is_ok(), "keeping it again mends it");
        files.sweep(&HashSet::from([digest.clone()]));
        assert!(files.read(&digest).is_ok());
        files.sweep(&HashSet::new());
        assert!(files.read(&digest).is_err());
    }
}
