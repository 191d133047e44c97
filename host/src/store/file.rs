//! The open database and what becomes of it when its file fails.
//!
//! After any I/O error redb refuses everything until the file is opened again. Whether that is right depends on what
//! failed: a full disk hurts one transaction, and the file is opened again at once; a failed fsync or a broken disk is
//! the end, since nobody can say any more what is on it.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Builder, Database, DatabaseError, StorageError};
use tokio::sync::watch;

use super::backend::{Fault, Faults, WatchedFile};
use super::durable::is_exhausted;
use super::error::StoreError;
use super::format;
use super::medium::Medium;

/// Pages that redb may keep in memory.
const CACHE_BYTES: usize = 64 << 20;

/// Why the store has stopped for good, if it has.
pub(super) type Health = watch::Sender<Option<StoreError>>;

/// Stops the store for good, and returns why: the first reason stays.
pub(super) fn poison(health: &Health, path: &Path, source: Option<Arc<redb::Error>>) -> StoreError {
    let error = StoreError::Poisoned { path: path.to_owned(), source };
    health.send_if_modified(|health| {
        let is_first = health.is_none();
        if is_first {
            *health = Some(error.clone());
        }
        is_first
    });
    health.borrow().clone().unwrap_or(error)
}

/// A database that is opened again after its disk was full.
pub(super) struct DatabaseFile {
    medium: Arc<dyn Medium>,
    faults: Arc<Faults>,
    open: RwLock<Opened>,
    health: Health,
}

struct Opened {
    /// None after a full disk, until it could be opened again.
    db: Option<Database>,
    /// Counts the openings, so that of several who met a failure only one opens the file.
    generation: u64,
}

/// How a piece of work on the database ended badly.
pub(super) enum WriteFailure {
    /// The file has no room. Nothing was kept.
    NoRoom,
    /// By itself: nothing was kept, the file is well.
    Refused(Arc<redb::Error>),
    /// The file could not be opened for want of descriptors or memory. Nothing was kept, the file is well.
    Exhausted(StoreError),
    Poisoned(StoreError),
}

impl DatabaseFile {
    /// Opens the database, or makes it, and brings it to the present format.
    pub(super) fn open(medium: Arc<dyn Medium>, health: Health) -> Result<Self, StoreError> {
        let faults = Arc::new(Faults::default());
        // What a disk that lost synced pages left makes redb panic rather than refuse.
        let db = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let db = match open(&*medium, &faults)? {
                Some(db) => db,
                None => create(&*medium, &faults)?,
            };
            format::prepare(&db, medium.path())?;
            Ok(db)
        }))
        .unwrap_or_else(|_| Err(StoreError::Damaged { path: medium.path().to_owned() }))?;
        faults.take();
        Ok(Self { medium, faults, open: RwLock::new(Opened { db: Some(db), generation: 0 }), health })
    }

    /// Returns how many bytes are free on the disk; as many as there can be, where it does not say.
    pub(super) fn free_bytes(&self) -> u64 {
        self.medium.free_bytes().unwrap_or(u64::MAX)
    }

    /// Returns why the store has stopped, if it has.
    pub(super) fn poisoned(&self) -> Option<StoreError> {
        self.health.borrow().clone()
    }

    /// Runs a transaction, and judges what failed. A transaction that fails for lack of room leaves the file open
    /// again.
    pub(super) fn write(&self, work: impl Fn(&Database) -> Result<(), redb::Error>) -> Result<(), WriteFailure> {
        for _ in 0..2 {
            let opened = self.open.read();
            let generation = opened.generation;
            let Some(db) = &opened.db else {
                drop(opened);
                self.reopen(generation)?;
                continue;
            };
            let Err(error) = work(db) else {
                // A write that redb could do without may have failed on the way.
                self.faults.take();
                return Ok(());
            };
            let fault = self.faults.take();
            drop(opened);
            return match (fault, error) {
                (Fault::Sync | Fault::Broken, error) => Err(WriteFailure::Poisoned(self.poison(error))),
                (Fault::NoRoom, _) => {
                    // Where that fails too, the next to come tries again.
                    if let Err(WriteFailure::Poisoned(error)) = self.reopen(generation) {
                        return Err(WriteFailure::Poisoned(error));
                    }
                    Err(WriteFailure::NoRoom)
                }
                // A reader met the failure first, and took the note of it.
                (Fault::None, redb::Error::PreviousIo) => {
                    self.reopen(generation)?;
                    continue;
                }
                (Fault::None, error) => Err(WriteFailure::Refused(Arc::new(error))),
            };
        }
        Err(WriteFailure::NoRoom)
    }

    /// Reads, once more where the file was opened again meanwhile.
    pub(super) fn read<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        for _ in 0..2 {
            let opened = self.open.read();
            let generation = opened.generation;
            let result = opened.db.as_ref().map(&work);
            drop(opened);
            match result {
                Some(Ok(value)) => return Ok(value),
                // A write found the disk full.
                None | Some(Err(redb::Error::PreviousIo)) => self.reopen(generation).map_err(StoreError::from)?,
                Some(Err(error @ (redb::Error::Io(_) | redb::Error::Backend(_)))) => return Err(self.poison(error)),
                Some(Err(error)) => return Err(StoreError::Read { source: Arc::new(error) }),
            }
        }
        Err(StoreError::Full { free_mib: None })
    }

    /// Opens the file again, unless that was done since `generation` or the store has stopped.
    fn reopen(&self, generation: u64) -> Result<(), WriteFailure> {
        let mut opened = self.open.write();
        if let Some(error) = self.poisoned() {
            return Err(WriteFailure::Poisoned(error));
        }
        if opened.generation != generation {
            return Ok(());
        }
        // Two at a time would be refused.
        opened.db = None;
        let result = open(&*self.medium, &self.faults);
        match (self.faults.take(), result) {
            (_, Ok(Some(db))) => {
                opened.db = Some(db);
                opened.generation += 1;
                Ok(())
            }
            (Fault::NoRoom, _) => Err(WriteFailure::NoRoom),
            // Who comes next tries again.
            (_, Err(error @ StoreError::Exhausted { .. })) => Err(WriteFailure::Exhausted(error)),
            (_, Err(StoreError::Open { source, .. })) => Err(WriteFailure::Poisoned(self.poisoned_by(Some(source)))),
            (_, Ok(None) | Err(_)) => Err(WriteFailure::Poisoned(self.poisoned_by(None))),
        }
    }

    fn poison(&self, error: redb::Error) -> StoreError {
        self.poisoned_by(Some(Arc::new(error)))
    }

    /// Stops the store for good, if that was not done, and returns why.
    pub(super) fn poisoned_by(&self, source: Option<Arc<redb::Error>>) -> StoreError {
        poison(&self.health, self.medium.path(), source)
    }
}

impl From<WriteFailure> for StoreError {
    fn from(failed: WriteFailure) -> Self {
        match failed {
            WriteFailure::NoRoom => Self::Full { free_mib: None },
            WriteFailure::Refused(source) => Self::Commit { source },
            WriteFailure::Exhausted(error) | WriteFailure::Poisoned(error) => error,
        }
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Opens a published database; none where there is none.
fn open(medium: &dyn Medium, faults: &Arc<Faults>) -> Result<Option<Database>, StoreError> {
    let failed = |source: redb::Error| StoreError::Open { path: medium.path().to_owned(), source: Arc::new(source) };
    let opened = medium.open().map_err(|error| match is_exhausted(&error) {
        true => StoreError::Exhausted { source: Arc::new(error) },
        false => failed(error.into()),
    });
    let Some(file) = opened? else {
        return Ok(None);
    };
    match builder().create_with_backend(WatchedFile::new(file, faults.clone())) {
        Ok(db) => Ok(Some(db)),
        // That is how redb says that the first bytes are another program's.
        Err(DatabaseError::Storage(StorageError::Io(error))) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(StoreError::NotADatabase { path: medium.path().to_owned() })
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Makes a database beside and puts it in its place once it is whole: redb itself cannot open a file whose making was
/// cut off.
fn create(medium: &dyn Medium, faults: &Arc<Faults>) -> Result<Database, StoreError> {
    let failed = |source: redb::Error| StoreError::Open { path: medium.path().to_owned(), source: Arc::new(source) };
    let file = medium.create().map_err(|error| failed(error.into()))?;
    let db = builder()
        .create_with_backend(WatchedFile::new(file, faults.clone()))
        .map_err(|error: DatabaseError| failed(error.into()))?;
    format::prepare(&db, medium.path())?;
    db.close().map_err(|error| failed(error.into()))?;
    crate::failpoint::hit("store.publish.before");
    medium.publish().map_err(|error| failed(error.into()))?;
    crate::failpoint::hit("store.publish.after");
    open(medium, faults)?.ok_or_else(|| StoreError::NotADatabase { path: medium.path().to_owned() })
}
