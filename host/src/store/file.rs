//! The open database and what becomes of it when its file fails.
//!
//! After any I/O error redb refuses everything until the file is opened again. Whether that is right depends on what
//! failed: a full disk hurts one transaction, and the file is opened again at once; a failed fsync or a broken disk is
//! the end, since nobody can say any more what is on it.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use redb::{Builder, Database, DatabaseError, StorageError};
use tokio::sync::watch;

use super::backend::{Fault, Faults, WatchedFile};
use super::durable::is_exhausted;
use super::error::StoreError;
use super::format;
use super::medium::Medium;
use super::reserve::Reserve;
use super::space::{self, Space};
use super::write::Write;
use crate::limits::{STORE_COMPACT_BYTES_MAX, STORE_MEASURE_BYTES_MAX, STORE_SPARE_BYTES};

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
    space: Space,
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
        let lent = LentReserve::take(&*medium);
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
        drop(lent);
        let (open, space) = (RwLock::new(Opened { db: Some(db), generation: 0 }), Space::default());
        Ok(Self { medium, faults, open, health, space })
    }

    /// Returns how many bytes are free on the disk; as many as there can be, where it does not say.
    pub(super) fn free_bytes(&self) -> u64 {
        self.medium.free_bytes().unwrap_or(u64::MAX)
    }

    /// Keeps a reserve beside the file from now on.
    pub(super) fn keep_reserve(&self) {
        if let Some(reserve) = self.medium.reserve() {
            reserve.keep();
            refill(&*self.medium, 0);
        }
    }

    /// Fills the reserve up, if the disk has room for it beside new work.
    pub(super) fn refill_reserve(&self) {
        if self.medium.reserve().is_some_and(|reserve| reserve.bytes() < STORE_SPARE_BYTES)
            && Write::New.has_room(self.free_bytes().saturating_sub(STORE_SPARE_BYTES))
        {
            refill(&*self.medium, 0);
        }
    }

    /// Gives the reserve back to the disk where that has little room, until the result is dropped.
    pub(super) fn lend_reserve(&self) -> LentReserve<'_> {
        LentReserve::take(&*self.medium)
    }

    /// Returns the bytes that are free within the file, as last measured; none before.
    pub(super) fn space_bytes(&self) -> Option<u64> {
        self.space.free_bytes()
    }

    /// Returns the bytes that a write may use on a disk with little room: those of the disk, and those within the file
    /// as long as the disk has some, since redb may use a hole of the file instead. A disk without any gets the space
    /// within the file back first.
    pub(super) fn room_bytes(&self) -> u64 {
        let is_measurable = || self.medium.allocated_bytes().is_ok_and(|bytes| bytes <= STORE_MEASURE_BYTES_MAX);
        if self.space.is_due(Instant::now()) && is_measurable() {
            let _lent = self.lend_reserve();
            if self.measure_space().is_ok() && self.is_worth_compacting() {
                self.compact();
                let _ = self.measure_space();
            }
        }
        match self.free_bytes() {
            free_bytes if Write::Essential.has_room(free_bytes) => {
                free_bytes.saturating_add(self.space.free_bytes().unwrap_or_default())
            }
            free_bytes => free_bytes,
        }
    }

    /// Whether compaction gives new work room, in some seconds.
    fn is_worth_compacting(&self) -> bool {
        let free_bytes = self.space.free_bytes().unwrap_or_default();
        let allocated_bytes = self.medium.allocated_bytes().unwrap_or(u64::MAX);
        let used_bytes = allocated_bytes.saturating_sub(free_bytes);
        Write::New.has_room(free_bytes) && used_bytes <= STORE_COMPACT_BYTES_MAX
    }

    /// Gives the space within the file back to the disk. Readers wait meanwhile.
    fn compact(&self) {
        let began = Instant::now();
        let mut opened = self.open.write();
        let generation = opened.generation;
        let Some(db) = &mut opened.db else { return };
        let result = db.compact();
        drop(opened);
        match result {
            Ok(_) => tracing::info!(elapsed = ?began.elapsed(), "the disk is full; the database was compacted"),
            Err(error) => {
                tracing::warn!(%error, "the disk is full, and the database cannot be compacted");
                match self.faults.take() {
                    Fault::Sync | Fault::Broken => drop(self.poisoned_by(Some(Arc::new(error.into())))),
                    Fault::NoRoom => drop(self.reopen(generation)),
                    Fault::None => {}
                }
            }
        }
    }

    /// Measures the free bytes within the file. Reads all of it.
    pub(super) fn measure_space(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let used_bytes = self.read(space::used_bytes)?;
        let allocated_bytes = self.medium.allocated_bytes().unwrap_or_default();
        self.space.measured(allocated_bytes.saturating_sub(used_bytes), began);
        Ok(())
    }

    /// Whether a measurement of the free bytes within the file would tell more, and is not too soon.
    pub(super) fn is_measuring_due(&self) -> bool {
        self.space.is_due(Instant::now())
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
                self.space.written(self.faults.take_written_bytes());
                return Ok(());
            };
            let fault = self.faults.take();
            drop(opened);
            return match (fault, error) {
                (Fault::Sync | Fault::Broken, error) => Err(WriteFailure::Poisoned(self.poison(error))),
                (Fault::NoRoom, _) => {
                    self.space.exhausted();
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

    /// Reads as `read` does, if that takes no wait: none while the file is opened again.
    pub(super) fn try_read<T>(
        &self,
        work: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Option<Result<T, StoreError>> {
        let opened = self.open.try_read()?;
        match work(opened.db.as_ref()?) {
            Ok(value) => Some(Ok(value)),
            // Judged, and perhaps tried again, off the thread of this caller.
            Err(_) => None,
        }
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
        let _lent = LentReserve::take(&*self.medium);
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

/// The reserve of a disk with little room, given back to it; as much as is free then is taken again on drop.
pub(super) struct LentReserve<'a>(Option<(&'a dyn Medium, u64)>);

impl<'a> LentReserve<'a> {
    fn take(medium: &'a dyn Medium) -> Self {
        let lent_bytes = medium.reserve().map_or(0, Reserve::bytes);
        let reserve = medium.reserve().filter(|_| lent_bytes > 0);
        let has_room = || medium.free_bytes().is_ok_and(|bytes| bytes >= STORE_SPARE_BYTES);
        match reserve {
            Some(reserve) if !has_room() => {
                if let Err(error) = reserve.release() {
                    tracing::warn!(%error, "the reserve of the data directory cannot be used");
                }
                Self(Some((medium, lent_bytes)))
            }
            _ => Self(None),
        }
    }
}

impl Drop for LentReserve<'_> {
    fn drop(&mut self) {
        if let Some((medium, lent_bytes)) = self.0 {
            refill(medium, lent_bytes);
        }
    }
}

/// Takes the reserve from what is free. What cannot be taken now is tried again after the next write.
fn refill(medium: &dyn Medium, lent_bytes: u64) {
    if let (Some(reserve), Ok(free_bytes)) = (medium.reserve(), medium.free_bytes())
        && let Err(error) = reserve.refill(free_bytes, lent_bytes)
    {
        tracing::debug!(%error, "the reserve of the data directory is not whole");
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

/// Makes a database where none was published.
pub(super) fn make(medium: &dyn Medium) -> Result<(), StoreError> {
    let failed = |source: redb::Error| StoreError::Open { path: medium.path().to_owned(), source: Arc::new(source) };
    let there = medium.open().map_err(|error| failed(error.into()))?;
    if there.is_some() {
        return Ok(());
    }
    create(medium, &Arc::default())?.close().map_err(|error| failed(error.into()))
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
