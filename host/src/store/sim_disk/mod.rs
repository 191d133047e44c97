//! Simulated disk that loses, reorders and tears unsynced writes, for tests of everything that is kept on one.
//!
//! The model is harsher than a file system that journals: a write may be lost though a later one was kept, a write may
//! be cut off at any byte, sector or page, and a file's name, its directory's name and its contents are each kept or
//! lost by themselves. A rename is kept whole or not at all.

mod faults;
mod image;
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use redb::StorageBackend;

use super::durable::SyncError;
use super::medium::Medium;
use super::tree::Tree;
use image::Random;

const BLOCK: u64 = 4_096;
const DATABASE: &str = "store.redb";
const NEW_DATABASE: &str = "store.redb.new";

/// A disk with a directory on it. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    removals: Arc<RemovalGate>,
}

/// Gate before each removal of a file, for a disk that takes its time over it.
#[derive(Debug, Default)]
struct RemovalGate {
    state: Mutex<Removals>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct Removals {
    is_closed: bool,
    waiting: usize,
    done: u64,
}

#[derive(Debug)]
struct State {
    random: Random,
    files: BTreeMap<u64, Contents>,
    names: BTreeMap<PathBuf, Node>,
    /// The names that outlast a power cut for certain, and what was done to them since.
    synced_names: BTreeMap<PathBuf, Node>,
    unsynced_names: Vec<NameOp>,
    /// Counts the starts: what was opened before a power cut is of no use after it.
    boot: u64,
    /// Operations that change something, since the disk was made.
    ops: u64,
    dies_at: Option<u64>,
    is_dead: bool,
    full: Option<Full>,
    fills_at: Option<(u64, Full)>,
    free_bytes: u64,
    /// The operation that fails, if it is a sync.
    sync_fails_at: Option<u64>,
    syncs_lie: bool,
}

/// What a full disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// What needs another block, as on most file systems.
    Growth,
    /// Every write, as on those that never write in place.
    Everything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
enum NameOp {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

#[derive(Clone, Debug, Default)]
struct Contents {
    now: Vec<u8>,
    /// What outlasts a power cut for certain, and what was done since.
    synced: Vec<u8>,
    unsynced: Vec<WriteOp>,
    blocks: HashSet<u64>,
}

#[derive(Clone, Debug)]
enum WriteOp {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

fn power() -> io::Error {
    io::Error::other("the power is out")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            boot: 0,
            ops: 0,
            dies_at: None,
            is_dead: false,
            full: None,
            fills_at: None,
            free_bytes: u64::MAX,
            sync_fails_at: None,
            syncs_lie: false,
        };
        Self { state: Arc::new(Mutex::new(state)), removals: Arc::default() }
    }

    /// A disk that says it synced and did not: what no software can survive, and every checker must notice.
    pub(crate) fn lying(seed: u64) -> Self {
        let disk = Self::new(seed);
        disk.state().syncs_lie = true;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no operation of the disk panics")
    }

    /// Returns the operations until now that changed something.
    pub(crate) fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Lets the power go at the `nth` operation from now on. That one may be half on disk.
    pub(crate) fn cut_power_in(&self, nth: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.ops + nth);
    }

    /// Lets the power go now.
    pub(crate) fn cut_power(&self) {
        self.state().is_dead = true;
    }

    /// Lets the sync among the operations that is the `nth` from now on, or nothing if that is none, fail once. What it
    /// covered is never written, and later syncs succeed, as on Linux.
    pub(crate) fn fail_sync_in(&self, nth: u64) {
        let mut state = self.state();
        state.sync_fails_at = Some(state.ops + nth);
    }

    /// Makes the disk full, or gives it room.
    pub(crate) fn set_full(&self, full: Option<Full>) {
        self.state().full = full;
    }

    /// Makes the disk full from the `nth` operation from now on.
    pub(crate) fn fill_in(&self, nth: u64, full: Full) {
        let mut state = self.state();
        state.fills_at = Some((state.ops + nth, full));
    }

    /// Lets removals of files wait from now on, or go on.
    pub(crate) fn hold_removals(&self, is_held: bool) {
        self.removals.state.lock().expect("nothing panics with it").is_closed = is_held;
        self.removals.opened.notify_all();
    }

    /// Returns the removals of files that wait, and those that were made.
    pub(crate) fn removals(&self) -> (usize, u64) {
        let removals = self.removals.state.lock().expect("nothing panics with it");
        (removals.waiting, removals.done)
    }

    /// Whether the power is on.
    pub(crate) fn has_power(&self) -> bool {
        !self.state().is_dead
    }

    /// Changes what is in the database behind the store's back.
    fn edit_database(&self, edit: impl FnOnce(&redb::Database)) {
        let file = Medium::open(self).unwrap().unwrap();
        let watched = super::backend::WatchedFile::new(file, Arc::default());
        edit(&redb::Database::builder().create_with_backend(watched).unwrap());
    }

    /// Sets what the disk says is free.
    pub(crate) fn set_free_bytes(&self, bytes: u64) {
        self.state().free_bytes = bytes;
    }

    /// Gives the power back: what is on the disk then is what was synced, and some of the rest.
    pub(crate) fn reboot(&self) {
        self.state().reboot();
    }
}

impl State {
    /// Counts an operation. `Ok(false)` for the one at which the power goes.
    fn tick(&mut self) -> io::Result<bool> {
        if self.is_dead {
            return Err(power());
        }
        self.ops += 1;
        if let Some((_, full)) = self.fills_at.take_if(|(at, _)| *at == self.ops) {
            self.full = Some(full);
        }
        self.is_dead = self.dies_at == Some(self.ops);
        Ok(!self.is_dead)
    }

    fn write(&mut self, id: u64, op: WriteOp) -> io::Result<()> {
        let is_alive = self.tick()?;
        let contents = self.files.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        let needs_room = contents.new_blocks(&op);
        if is_alive
            && (self.full == Some(Full::Everything) || (self.full == Some(Full::Growth) && !needs_room.is_empty()))
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        contents.blocks.extend(needs_room);
        image::apply(&mut contents.now, &op);
        contents.blocks.retain(|block| block * BLOCK < contents.now.len() as u64);
        contents.unsynced.push(op);
        if is_alive { Ok(()) } else { Err(power()) }
    }

    fn sync_file(&mut self, id: u64) -> io::Result<()> {
        if !self.tick()? {
            return Err(power());
        }
        let fails = self.sync_fails_at == Some(self.ops);
        let contents = self.files.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        if fails {
            contents.unsynced.clear();
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        if !self.syncs_lie {
            for op in contents.unsynced.drain(..) {
                image::apply(&mut contents.synced, &op);
            }
        }
        Ok(())
    }

    fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        if !self.tick()? {
            return Err(power());
        }
        if self.sync_fails_at == Some(self.ops) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        if self.syncs_lie {
            return Ok(());
        }
        let (synced, unsynced) = std::mem::take(&mut self.unsynced_names).into_iter().partition(|op| match op {
            NameOp::Put(path, _) | NameOp::Remove(path) | NameOp::Rename(_, path, _) => parent(path) == dir,
        });
        self.unsynced_names = unsynced;
        let synced: Vec<NameOp> = synced;
        synced.iter().for_each(|op| image::apply_name(&mut self.synced_names, op));
        Ok(())
    }

    fn change_name(&mut self, op: NameOp) -> io::Result<()> {
        let is_alive = self.tick()?;
        image::apply_name(&mut self.names, &op);
        self.unsynced_names.push(op);
        if is_alive { Ok(()) } else { Err(power()) }
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        if path.as_os_str().is_empty() {
            return Ok(Node::Directory);
        }
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.node(path)? {
            Node::File(id) => Ok(id),
            Node::Directory => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Makes an empty file, in the place of whatever has the name.
    fn create(&mut self, path: &Path) -> io::Result<u64> {
        if self.node(parent(path))? != Node::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let id = self.files.len() as u64;
        self.files.insert(id, Contents::default());
        self.change_name(NameOp::Put(path.to_owned(), Node::File(id)))?;
        Ok(id)
    }

    fn reboot(&mut self) {
        for contents in self.files.values_mut() {
            contents.now = image::after_power_loss(contents, &mut self.random);
            contents.synced.clone_from(&contents.now);
            contents.unsynced.clear();
        }
        self.names = image::names_after_power_loss(&self.synced_names, &self.unsynced_names, &mut self.random);
        self.synced_names.clone_from(&self.names);
        self.unsynced_names.clear();
        self.boot += 1;
        self.dies_at = None;
        self.is_dead = false;
    }
}

impl Contents {
    /// Returns the blocks that an operation writes to and that the file does not have.
    fn new_blocks(&self, op: &WriteOp) -> Vec<u64> {
        match op {
            WriteOp::Write(offset, data) if !data.is_empty() => (offset / BLOCK
                ..=(offset + data.len() as u64 - 1) / BLOCK)
                .filter(|block| !self.blocks.contains(block))
                .collect(),
            // A longer file has a hole at its end.
            _ => Vec::new(),
        }
    }
}

/// An open file of a [`Disk`].
#[derive(Debug)]
struct OpenFile {
    disk: Disk,
    id: u64,
    boot: u64,
}

impl OpenFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.boot == self.boot { Ok(state) } else { Err(power()) }
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[&self.id].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        if state.is_dead {
            return Err(power());
        }
        let offset = offset as usize;
        let found = state.files[&self.id].now.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state()?.write(self.id, WriteOp::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state()?.sync_file(self.id)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state()?.write(self.id, WriteOp::Write(offset, data.to_owned()))
    }
}

impl Medium for Disk {
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        let state = self.state();
        match state.file(Path::new(DATABASE)) {
            Ok(id) => Ok(Some(Box::new(OpenFile { disk: self.clone(), id, boot: state.boot }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.state();
        let id = state.create(Path::new(NEW_DATABASE))?;
        Ok(Box::new(OpenFile { disk: self.clone(), id, boot: state.boot }))
    }

    fn publish(&self) -> io::Result<()> {
        Tree::rename(self, Path::new(NEW_DATABASE), Path::new(DATABASE))?;
        self.state().sync_names(Path::new(""))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free_bytes)
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.files[&state.file(Path::new(DATABASE))?].blocks.len() as u64 * BLOCK)
    }

    fn path(&self) -> &Path {
        Path::new(DATABASE)
    }
}

impl Tree for Disk {
    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.files[&state.file(path)?].now.len() as u64)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        if state.is_dead {
            return Err(power());
        }
        Ok(state.files[&state.file(path)?].now.clone())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let id = match state.file(path) {
            Ok(id) => {
                state.write(id, WriteOp::SetLen(0))?;
                id
            }
            Err(_) => state.create(path)?,
        };
        state.write(id, WriteOp::Write(0, bytes.to_owned()))
    }

    fn sync(&self, path: &Path) -> Result<(), SyncError> {
        let mut state = self.state();
        let synced = state.node(path).and_then(|node| match node {
            Node::Directory => state.sync_names(path),
            Node::File(id) => state.sync_file(id),
        });
        synced.map_err(SyncError::Sync)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = Node::File(state.file(from)?);
        if state.node(parent(to))? != Node::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        state.change_name(NameOp::Rename(from.to_owned(), to.to_owned(), node))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut removals = self.removals.state.lock().expect("nothing panics with it");
        removals.waiting += 1;
        let gate = self.removals.opened.wait_while(removals, |removals| removals.is_closed);
        removals = gate.expect("nothing panics with it");
        removals.waiting -= 1;
        removals.done += 1;
        drop(removals);
        let mut state = self.state();
        state.file(path)?;
        state.change_name(NameOp::Remove(path.to_owned()))
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        if state.node(path).is_ok() {
            return Ok(false);
        }
        state.node(parent(path))?;
        state.change_name(NameOp::Put(path.to_owned(), Node::Directory))?;
        Ok(true)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        if state.is_dead {
            return Err(power());
        }
        let names = state.names.keys().filter(|name| parent(name) == path);
        Ok(names.filter_map(|name| name.file_name()).map(PathBuf::from).collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free_bytes)
    }
}
