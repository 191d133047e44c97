//! Changes to the database: put, deleted, or decided within the writer's transaction.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::table::Table;
use super::view::{View, ViewError};

/// One change.
#[derive(Clone, Debug)]
pub enum Op {
    /// Write of a value, in place of an earlier one under the same key.
    Put {
        /// Table to write to.
        table: Table,
        /// Key within the table, ordered by its bytes.
        key: Vec<u8>,
        /// Bytes to keep, opaque to the store.
        value: Vec<u8>,
    },
    /// Removal of a key and its value; an absent key is no error.
    Delete {
        /// Table to remove from.
        table: Table,
        /// Key within the table.
        key: Vec<u8>,
    },
    /// Changes decided from what the transaction has.
    Decide(Decider),
}

impl Op {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, .. } => key.len(),
            Op::Decide(decider) => decider.bytes(),
        }
    }
}

/// Changes of a decider, in order: prepared ones, borrowed from its state, and ones that it makes.
pub(crate) type Changes<'a> = Vec<Cow<'a, [Op]>>;

/// Decides changes from what the transaction has.
///
/// Called on the writer's thread, within the transaction and after every earlier write, so no write falls between what
/// it sees and what it changes. Called again where the transaction is: the last call counts. It must not block or
/// panic. Whatever takes time (encoding above all) is done before, and is part of its state.
#[derive(Clone)]
pub struct Decider {
    decide: Arc<dyn Decide>,
    bytes: usize,
}

/// Answer of a decider.
#[derive(Debug)]
pub(crate) struct Decided<T>(Arc<Mutex<Option<T>>>);

trait Decide: Send + Sync {
    fn decide<'a>(&'a self, view: &View<'_>) -> Result<Changes<'a>, ViewError>;
}

struct Deciding<S, F, T> {
    state: S,
    decide: F,
    answer: Arc<Mutex<Option<T>>>,
}

impl<S, F, T> Decide for Deciding<S, F, T>
where
    S: Send + Sync,
    F: for<'a> Fn(&'a S, &View<'_>) -> Result<(Changes<'a>, T), ViewError> + Send + Sync,
    T: Send,
{
    fn decide<'a>(&'a self, view: &View<'_>) -> Result<Changes<'a>, ViewError> {
        // An earlier answer goes first, with all that it holds.
        self.answer.lock().take();
        let (changes, answer) = (self.decide)(&self.state, view)?;
        *self.answer.lock() = Some(answer);
        Ok(changes)
    }
}

impl Decider {
    /// Makes a decider with a state of `bytes`, which count like the value of a put, and the place of its answer.
    pub(crate) fn new<S, F, T>(bytes: usize, state: S, decide: F) -> (Self, Decided<T>)
    where
        S: Send + Sync + 'static,
        F: for<'a> Fn(&'a S, &View<'_>) -> Result<(Changes<'a>, T), ViewError> + Send + Sync + 'static,
        T: Send + 'static,
    {
        let answer = Arc::new(Mutex::new(None));
        let decide = Arc::new(Deciding { state, decide, answer: answer.clone() });
        (Self { decide, bytes }, Decided(answer))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn decide(&self, view: &View<'_>) -> Result<Changes<'_>, ViewError> {
        self.decide.decide(view)
    }
}

impl<T> Decided<T> {
    /// Returns the answer, once the write is committed.
    pub(crate) fn take(self) -> T {
        self.0.lock().take().expect("a write that was committed was decided")
    }
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
