//! Spawned maps, which outlive the function that spawned them.
//!
//! Unlike [`Map`](crate::Map), a spawned map is not lazy: its inputs are on the host's disk when `spawn_map` returns,
//! and its results are addressed by the position of their input.

mod read;

use std::fmt;
use std::marker::PhantomData;

pub use self::read::{Completed, Results};
use crate::failure::Result;
use crate::host::{self, Order};
use crate::payload::{Output, Payload};

/// Inputs sent to the host at a time.
const PUSH_LEN_MAX: usize = 1_024;
/// Bytes of inputs at which they are sent early.
const PUSH_BYTES_MAX: usize = 1 << 20;

/// A map that the host keeps on its disk: it outlives the call that spawned it and a restart of the host. Its results
/// are read here, or anywhere in the app by its id, as often as is wanted.
///
/// Each input runs at least once; its outcome is recorded once. Cancelling the call that spawned the map cancels it;
/// the end of that call does not.
///
/// ```
/// use bireme_sdk::MapHandle;
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn times_two(n: u32) -> Result<u32> {
///     if n > 1_000 {
///         return Err(Failure::terminal(format!("{n} is too much")));
///     }
///     Ok(n * 2)
/// }
///
/// fn main() -> Result<()> {
///     let doubled = times_two::spawn_map([1, 2_000, 3])?;
///     assert_eq!(doubled.get(2)?, Some(6)); // by position, while it runs and after
///     assert!(doubled.get(1).is_err());
///
///     let results: Vec<Result<u32>> = doubled.iter()?.collect(); // in the order of the inputs
///     assert_eq!(results.iter().flatten().sum::<u32>(), 8);
///     for (index, result) in doubled.as_completed()? {
///         assert_eq!(result.is_err(), index == 1);
///     }
///
///     let again = MapHandle::<u32>::open(doubled.id())?; // in another call, another day
///     assert_eq!((again.progress()?.done, again.progress()?.failed), (2, 1));
///     Ok(())
/// }
/// ```
pub struct MapHandle<T> {
    map: host::SpawnedMap,
    id: String,
    of: PhantomData<fn() -> T>,
}

/// Progress of a map.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn count_bytes(text: String) -> usize {
///     text.len()
/// }
///
/// fn main() -> Result<()> {
///     let progress = count_bytes::spawn_map(["a".to_owned(), "bc".to_owned()])?.wait()?;
///     assert_eq!((progress.inputs, progress.done, progress.waiting()), (2, 2, 0));
///     assert!(progress.is_ended);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Inputs of the map.
    pub inputs: u64,
    /// Inputs with a result.
    pub done: u64,
    /// Inputs that failed, after every attempt.
    pub failed: u64,
    /// Inputs cancelled before they ended.
    pub cancelled: u64,
    /// End of the inputs: true once they are complete.
    pub is_closed: bool,
    /// End of the map: true once every input has ended.
    pub is_ended: bool,
}

impl Progress {
    /// Returns the number of inputs that wait or run.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn same(n: u32) -> u32 {
    ///     n
    /// }
    ///
    /// assert_eq!(same::spawn_map([1, 2, 3])?.progress()?.waiting(), 0); // a native test runs them at once
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn waiting(&self) -> u64 {
        self.inputs.saturating_sub(self.done + self.failed + self.cancelled)
    }
}

/// Spawns a map of `function` over inputs; expansion of the macro's `spawn_map`.
///
/// # Errors
/// The host's failure, or that of an input that cannot be sent; the map is cancelled then.
pub fn spawn_map<T>(function: &str, inputs: impl Iterator<Item = Result<Payload>>) -> Result<MapHandle<T>> {
    let map = host::SpawnedMap::start(function)?;
    match push_all(&map, inputs) {
        Ok(()) => Ok(MapHandle { id: map.id(), map, of: PhantomData }),
        Err(failure) => {
            // The first failure is the one to report.
            let _ = map.cancel();
            Err(failure)
        }
    }
}

fn push_all(map: &host::SpawnedMap, inputs: impl Iterator<Item = Result<Payload>>) -> Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (input, index) in inputs.zip(0_u64..) {
        let input = input.map_err(|failure| failure.context(format!("input {index} of the map cannot be sent")))?;
        bytes += input.data.len();
        batch.push(input);
        if batch.len() == PUSH_LEN_MAX || bytes >= PUSH_BYTES_MAX {
            map.push(&batch)?;
            batch.clear();
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        map.push(&batch)?;
    }
    map.close()
}

impl<T> MapHandle<T> {
    /// Opens a map by its id, with results of type `T`.
    ///
    /// ```
    /// use bireme_sdk::{Code, MapHandle};
    ///
    /// let unknown = MapHandle::<u32>::open("0199c0de-0000-7000-8000-000000000000");
    /// assert_eq!(unknown.unwrap_err().code, Code::Terminal);
    /// ```
    ///
    /// # Errors
    /// [`Code::Terminal`](crate::Code::Terminal) if it is no map of this app, or the host's failure.
    pub fn open(id: impl AsRef<str>) -> Result<Self> {
        let map = host::SpawnedMap::open(id.as_ref())?;
        Ok(Self { id: map.id(), map, of: PhantomData })
    }

    /// Returns the id: unique on its host, sortable by time.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of inputs, which may still grow if they are added elsewhere.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn plus(left: u32, right: u32) -> u32 {
    ///     left + right
    /// }
    ///
    /// assert_eq!(plus::spawn_map([1, 2, 3], [4, 5])?.len()?, 2);
    /// assert_eq!(plus::spawn_starmap([(1, 4), (2, 5), (3, 6)])?.len()?, 3);
    /// assert!(plus::spawn_starmap([])?.is_empty()?);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// The host's failure.
    pub fn len(&self) -> Result<u64> {
        Ok(self.progress()?.inputs)
    }

    /// Returns true if the map has no inputs.
    ///
    /// # Errors
    /// The host's failure.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns its progress.
    ///
    /// # Errors
    /// The host's failure.
    pub fn progress(&self) -> Result<Progress> {
        self.map.progress()
    }

    /// Waits until every input has its outcome, until the running call's own deadline, and returns the final progress.
    /// Failures are only counted.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn keep(key: String) -> Result<()> {
    ///     Ok(kv::open("keys")?.set(&key, "")?)
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     let _kv = bireme_sdk::testing::with_kv();
    ///     let progress = keep::spawn_map(["a".to_owned(), "b".to_owned()])?.wait()?;
    ///     assert_eq!((progress.failed, kv::open("keys")?.keys().count()), (0, 2));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// The host's failure.
    pub fn wait(&self) -> Result<Progress> {
        let mut reader = self.map.outcomes(Order::Completion, 0)?;
        while !reader.next(read::OUTCOMES_LEN_MAX)?.is_empty() {}
        self.progress()
    }

    /// Cancels unfinished inputs and their descendants. Existing results stay.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn mirror(n: u32) -> u32 {
    ///     n
    /// }
    ///
    /// let pings = mirror::spawn_map([1, 2])?;
    /// assert!(pings.cancel()?.is_ended);
    /// assert_eq!(pings.get(1)?, Some(2));
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// The host's failure.
    pub fn cancel(&self) -> Result<Progress> {
        self.map.cancel()
    }
}

impl<T: Output> MapHandle<T> {
    /// Returns the result of one input; `None` while it has none.
    ///
    /// # Errors
    /// The failure of that input's call, or the host's. A cancelled input fails as
    /// [`Code::Cancelled`](crate::Code::Cancelled), an input that the map does not have as
    /// [`Code::Terminal`](crate::Code::Terminal).
    pub fn get(&self, index: u64) -> Result<Option<T>> {
        self.map.outcome(index)?.map(|result| T::read(&self.id, result?)).transpose()
    }

    /// Returns every result in the order of the inputs, waiting for those to come. A failure does not end it. A
    /// cancelled input fails as [`Code::Cancelled`](crate::Code::Cancelled).
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    ///
    /// #[function]
    /// fn redouble(n: u32) -> u32 {
    ///     n * 2
    /// }
    ///
    /// let doubled = redouble::spawn_map(1..=3)?;
    /// assert_eq!(doubled.iter()?.collect::<Result<Vec<u32>>>()?, [2, 4, 6]);
    /// assert_eq!(doubled.iter()?.count(), 3); // as often as is wanted
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// The host's failure.
    pub fn iter(&self) -> Result<Results<'_, T>> {
        Results::new(&self.map, &self.id)
    }

    /// Returns every outcome once, in the order of completion, each with the position of its input: first the existing
    /// ones. Cancelled inputs have none.
    ///
    /// # Errors
    /// The host's failure.
    pub fn as_completed(&self) -> Result<Completed<'_, T>> {
        Completed::new(&self.map, &self.id)
    }
}

impl<T> fmt::Debug for MapHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapHandle").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests;
