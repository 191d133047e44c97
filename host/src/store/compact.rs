//! Compaction of a database without a host: gives the space within the file back to the disk.
//!
//! redb moves pages in transactions of its own, so a process that is killed meanwhile leaves a database with all of its
//! rows, and a part of the space.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use redb::{Builder, CompactionError, Database, ReadableDatabase};

use super::backend::WatchedFile;
use super::dir::DATABASE_FILE;
use super::error::StoreError;
use super::lock::DataLock;
use super::medium::{DiskFile, Medium};
use super::overlay::Overlay;
use super::space;

/// Size of a database's file, and the part of it that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSpace {
    /// Bytes that the file takes of the disk.
    pub allocated_bytes: u64,
    pub free_bytes: u64,
}

/// Database without a host, for compaction.
pub(crate) struct OfflineDatabase {
    db: Database,
    file: DiskFile,
    _lock: DataLock,
}

impl OfflineDatabase {
    /// Opens the database of a data directory; none if it has none. Refused while a host has the directory.
    pub(crate) fn open(data: &Path) -> Result<Option<Self>, StoreError> {
        let path = data.join(DATABASE_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let lock = DataLock::take(data)?;
        let file = DiskFile::new(&path);
        let failed = |source: redb::Error| StoreError::Open { path: path.clone(), source: Arc::new(source) };
        let Some(backend) = Medium::open(&file).map_err(|error| failed(error.into()))? else { return Ok(None) };
        let backend = WatchedFile::new(backend, Arc::default());
        let db = Builder::new().create_with_backend(backend).map_err(|error| failed(error.into()))?;
        Ok(Some(Self { db, file, _lock: lock }))
    }

    /// Returns the bytes that the file takes of the disk now.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.file.allocated_bytes().unwrap_or_default()
    }

    /// Moves pages to the start of the file and cuts its end off. Takes as long as reading and writing all of it.
    pub(crate) fn compact(mut self) -> Result<(), StoreError> {
        let failed = |error: CompactionError| StoreError::Commit { source: Arc::new(error.into()) };
        self.db.compact().map_err(failed)?;
        self.db.close().map_err(|error| StoreError::Commit { source: Arc::new(error.into()) })
    }
}

/// Looks how much of a database's file is free, without changing it; none where there is no database. A file that is
/// being written may be read in part.
pub(crate) fn file_space(data: &Path) -> Result<Option<FileSpace>, StoreError> {
    let path = data.join(DATABASE_FILE);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Directory { dir: data.to_owned(), source: Arc::new(source) }),
    };
    let read = || -> Result<u64, redb::Error> {
        let db = Builder::new().create_with_backend(Overlay::open(&path)?)?;
        // Tables of a later format are not there in an older file.
        drop(db.begin_read()?);
        space::used_bytes(&db)
    };
    let used_bytes = read().map_err(|source| StoreError::Open { path: path.clone(), source: Arc::new(source) })?;
    let allocated_bytes = metadata.blocks().saturating_mul(512);
    Ok(Some(FileSpace { allocated_bytes, free_bytes: allocated_bytes.saturating_sub(used_bytes) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Op, Store, Table};

    #[tokio::test]
    async fn space_of_deleted_rows_is_found_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(file_space(dir.path()).unwrap(), None);
        assert!(OfflineDatabase::open(dir.path()).unwrap().is_none());
        let store = Store::open(&dir.path().join(DATABASE_FILE)).unwrap();
        let key = |n: u32| n.to_be_bytes().to_vec();
        for n in 0..40 {
            let put = Op::Put { table: Table::KeyValue, key: key(n), value: vec![7; 1 << 20] };
            store.write(vec![put]).await.unwrap();
        }
        let delete = |n| Op::Delete { table: Table::KeyValue, key: key(n) };
        store.write((0..36).map(delete).collect()).await.unwrap();
        drop(store);
        let before = file_space(dir.path()).unwrap().unwrap();
        assert!(before.free_bytes > 20 << 20, "{before:?}");

        let database = OfflineDatabase::open(dir.path()).unwrap().unwrap();
        assert!(matches!(OfflineDatabase::open(dir.path()), Err(StoreError::InUse { .. })));
        database.compact().unwrap();
        let after = file_space(dir.path()).unwrap().unwrap();
        assert!(after.allocated_bytes < before.allocated_bytes / 2, "{before:?} {after:?}");
        let store = Store::open(&dir.path().join(DATABASE_FILE)).unwrap();
        assert_eq!(store.get(Table::KeyValue, &key(39)).unwrap().unwrap(), vec![7; 1 << 20]);
        assert_eq!(store.keys(Table::KeyValue, b"", None, 100).unwrap().len(), 4);
    }
}
