//! Blobs: components of apps, in files that are named by their digests.
//!
//! Invariants: a file is complete (written under a temporary name, synced, renamed); a file that is read matches its
//! digest.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::codes::Code;
use crate::storage::{Answer, Blobs, ErrorKind, StorageError};
use crate::tasks::blocking;

/// Components of a data directory.
#[derive(Clone, Debug)]
pub(super) struct ComponentFiles {
    dir: PathBuf,
}

/// Component that cannot be kept or read back.
#[derive(Debug, thiserror::Error)]
enum BlobError {
    #[error("cannot keep a component in `{}`", dir.display())]
    Keep { dir: PathBuf, source: io::Error },
    #[error("cannot read the component `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not the component that was deployed: its digest is another", path.display())]
    Changed { path: PathBuf },
}

impl From<BlobError> for StorageError {
    fn from(error: BlobError) -> Self {
        let kind = match &error {
            BlobError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::Gone,
            BlobError::Changed { .. } => ErrorKind::Gone,
            BlobError::Keep { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorKind::Full,
            BlobError::Keep { .. } | BlobError::Read { .. } => ErrorKind::Refused,
        };
        StorageError::new(kind, error).with_code(Code::Io)
    }
}

impl ComponentFiles {
    /// Uses the directory `apps` of a data directory, created with the first component.
    pub(super) fn new(data: &Path) -> Self {
        Self { dir: data.join("apps") }
    }

    fn keep(&self, digest: &[u8; 32], bytes: &[u8]) -> Result<(), BlobError> {
        let keep = || -> io::Result<()> {
            let path = self.path(digest);
            // Mode 0700: a component may hold what its author would not publish.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            // An intact file is left alone: writing it again would only risk it.
            if path.is_file() && fs::read(&path).is_ok_and(|there| there == bytes) {
                return Ok(());
            }
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(&self.dir)?.sync_all()
        };
        keep().map_err(|source| BlobError::Keep { dir: self.dir.clone(), source })
    }

    fn read(&self, digest: &[u8; 32]) -> Result<Bytes, BlobError> {
        let path = self.path(digest);
        let bytes = fs::read(&path).map_err(|source| BlobError::Read { path: path.clone(), source })?;
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        if found == *digest { Ok(bytes.into()) } else { Err(BlobError::Changed { path }) }
    }

    fn remove_others(&self, kept: &HashSet<[u8; 32]>) {
        let kept: HashSet<PathBuf> = kept.iter().map(|digest| self.path(digest)).collect();
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "wasm") && !kept.contains(&path) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn path(&self, digest: &[u8; 32]) -> PathBuf {
        self.dir.join(hex::encode(digest)).with_extension("wasm")
    }
}

impl Blobs for ComponentFiles {
    fn put<'a>(&'a self, digest: &'a [u8; 32], bytes: Bytes) -> Answer<'a, ()> {
        Box::pin(async move {
            let (this, digest) = (self.clone(), *digest);
            Ok(blocking(move || this.keep(&digest, &bytes)).await?)
        })
    }

    fn get<'a>(&'a self, digest: &'a [u8; 32]) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let (this, digest) = (self.clone(), *digest);
            Ok(blocking(move || this.read(&digest)).await?)
        })
    }

    fn sweep<'a>(&'a self, kept: &'a HashSet<[u8; 32]>) -> Answer<'a, ()> {
        Box::pin(async move {
            let (this, kept) = (self.clone(), kept.clone());
            blocking(move || this.remove_others(&kept)).await;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_reads_back_and_a_changed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = ComponentFiles::new(dir.path());
        let component = b"\0asm\x0d\0\x01\0";
        let digest: [u8; 32] = Sha256::digest(component).into();
        files.keep(&digest, component).unwrap();
        files.keep(&digest, component).unwrap();
        assert_eq!(files.read(&digest).unwrap(), &component[..]);

        fs::write(files.path(&digest), b"\0asm\x0d\0\x01\0\0").unwrap();
        assert!(matches!(files.read(&digest), Err(BlobError::Changed { .. })));
        files.keep(&digest, component).unwrap();
        assert!(files.read(&digest).is_ok(), "keeping it again mends it");
        files.remove_others(&HashSet::from([digest]));
        assert!(files.read(&digest).is_ok());
        files.remove_others(&HashSet::new());
        assert!(matches!(files.read(&digest), Err(BlobError::Read { .. })));
    }
}
