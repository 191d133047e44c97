//! Atomic changes of one key, which lose no concurrent change.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Bucket, Error, Fault};
use crate::failure::Result;
use crate::host::{Cas, SwapError};

/// Bytes of the longest text that is read as a number, as on a host.
const NUMBER_LEN_MAX: usize = 40;

/// A value, and the handle that swaps it.
type Seen = (Cas, Option<Vec<u8>>);

/// Outcome of a compare-and-swap.
///
/// ```
/// use bireme_sdk::kv::{self, Swap};
/// use bireme_sdk::testing;
///
/// let _kv = testing::with_kv();
/// let locks = kv::open("locks")?;
/// // Taken by whoever writes it first.
/// assert!(locks.compare_and_swap("printer", None, "Ada")?.is_done());
/// let lost = locks.compare_and_swap("printer", None, "Grace")?;
/// assert_eq!(lost, Swap::Lost { current: Some(b"Ada".to_vec()) });
/// # Ok::<(), kv::Error>(())
/// ```
#[must_use = "a swap may be lost"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap<T = Vec<u8>> {
    /// The key held the expected value, and holds the new one now.
    Done,
    /// The key holds another value, and nothing was written.
    Lost {
        /// The present value; `None` if the key does not exist.
        current: Option<T>,
    },
}

impl<T> Swap<T> {
    /// Returns true if the new value was written.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

impl Bucket {
    /// Adds to a number, atomically, and returns the sum. A key that does not exist counts as 0.
    ///
    /// Many calls may add to one key at the same time, and every one of them counts: their sums are written together,
    /// so this is also the fastest way to count. The number is stored as decimal text: [`get_json`](Self::get_json)
    /// reads it, and [`set_json`](Self::set_json) of an integer starts it.
    ///
    /// An attempt that is cut off after it has added (by its timeout, a crash) has added; a function with `retries`
    /// then adds again.
    ///
    /// ```
    /// use bireme_sdk::{kv, testing};
    ///
    /// let _kv = testing::with_kv();
    /// let stock = kv::open("stock")?;
    /// stock.set_json("oars", &120)?;
    /// assert_eq!(stock.increment("oars", -2)?, 118);
    /// assert_eq!(stock.get_json::<i64>("oars")?, Some(118));
    /// # Ok::<(), kv::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotANumber`], [`Error::Overflow`], after which the value is what it was; [`Error::Key`].
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.bucket.increment(key, delta).map_err(|fault| self.not_added(key, delta, fault))
    }

    /// Writes `new` if the key holds `expected`, atomically; `None` expects an absent key.
    ///
    /// Values are compared, not versions: a value that was changed and changed back is the expected one. For a change
    /// that depends on the present value, [`update`](Self::update) has the loop.
    ///
    /// # Errors
    /// [`Error::Key`]. Losing is not an error: see [`Swap::Lost`].
    pub fn compare_and_swap(&self, key: &str, expected: Option<&[u8]>, new: impl AsRef<[u8]>) -> Result<Swap, Error> {
        let (cas, current) = self.read(key)?;
        if current.as_deref() != expected {
            return Ok(Swap::Lost { current });
        }
        match self.swap(key, cas, new.as_ref())? {
            None => Ok(Swap::Done),
            Some((_, current)) => Ok(Swap::Lost { current }),
        }
    }

    /// [`compare_and_swap`](Self::compare_and_swap) of JSON values, which are compared as values of `T`, not as text.
    ///
    /// ```
    /// use bireme_sdk::kv::{self, Swap};
    /// use bireme_sdk::testing;
    ///
    /// let _kv = testing::with_kv();
    /// let deck = kv::open("deck")?;
    /// deck.set("rowers", "[ 1,  2 ]")?;
    /// assert!(deck.compare_and_swap_json("rowers", Some(&vec![1, 2]), &vec![3])?.is_done());
    /// assert_eq!(deck.compare_and_swap_json("rowers", None, &vec![4])?, Swap::Lost { current: Some(vec![3]) });
    /// # Ok::<(), kv::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Json`].
    pub fn compare_and_swap_json<T>(&self, key: &str, expected: Option<&T>, new: &T) -> Result<Swap<T>, Error>
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        let json = serde_json::to_vec(new).map_err(|source| self.json(key, source))?;
        let (cas, current) = self.read(key)?;
        let current = self.parse(key, current)?;
        if current.as_ref() != expected {
            return Ok(Swap::Lost { current });
        }
        match self.swap(key, cas, &json)? {
            None => Ok(Swap::Done),
            Some((_, current)) => Ok(Swap::Lost { current: self.parse(key, current)? }),
        }
    }

    /// Replaces a value by the result of `change`, atomically, and returns the new one.
    ///
    /// If another call writes the key in between, `change` runs again on the newer value, until one of its results is
    /// written or the call's timeout ends it; so it should be quick, and leave this key alone. Each turn has a winner:
    /// of `n` calls that update a key at the same time, the last is done after `n` turns. For counters,
    /// [`increment`](Self::increment) needs one.
    ///
    /// ```
    /// use bireme_sdk::{kv, testing};
    ///
    /// let _kv = testing::with_kv();
    /// let log = kv::open("log")?;
    /// for line in ["up", "down"] {
    ///     log.update("today", |text| [text.unwrap_or_default(), format!("{line}\n").into()].concat())?;
    /// }
    /// assert_eq!(log.get("today")?.as_deref(), Some(&b"up\ndown\n"[..]));
    /// # Ok::<(), kv::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn update<V: AsRef<[u8]>>(&self, key: &str, mut change: impl FnMut(Option<Vec<u8>>) -> V) -> Result<V, Error> {
        let (mut cas, mut current) = self.read(key)?;
        loop {
            let value = change(current);
            match self.swap(key, cas, value.as_ref())? {
                None => return Ok(value),
                Some(newer) => (cas, current) = newer,
            }
        }
    }

    /// [`update`](Self::update) of a JSON value.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use bireme_sdk::{kv, testing};
    ///
    /// let _kv = testing::with_kv();
    /// let words = kv::open("words")?;
    /// for word in ["oar", "sail", "oar"] {
    ///     words.update_json("seen", |seen: Option<BTreeMap<String, u32>>| {
    ///         let mut seen = seen.unwrap_or_default();
    ///         *seen.entry(word.to_owned()).or_default() += 1;
    ///         seen
    ///     })?;
    /// }
    /// assert_eq!(words.get("seen")?.as_deref(), Some(&br#"{"oar":2,"sail":1}"#[..]));
    /// # Ok::<(), kv::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Json`]: a value that is no `T` is not asked about, and stays.
    pub fn update_json<T>(&self, key: &str, mut change: impl FnMut(Option<T>) -> T) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        let (mut cas, mut current) = self.read(key)?;
        loop {
            let value = change(self.parse(key, current)?);
            let json = serde_json::to_vec(&value).map_err(|source| self.json(key, source))?;
            match self.swap(key, cas, &json)? {
                None => return Ok(value),
                Some(newer) => (cas, current) = newer,
            }
        }
    }

    /// Reads a value for a swap.
    fn read(&self, key: &str) -> Result<Seen, Error> {
        let read = |cas: Cas| cas.current().map(|current| (cas, current));
        self.bucket.cas(key).and_then(read).map_err(|fault| self.key("read", key, fault))
    }

    /// Swaps; after a lost swap, reads the newer value.
    fn swap(&self, key: &str, cas: Cas, value: &[u8]) -> Result<Option<Seen>, Error> {
        match cas.swap(value) {
            Ok(()) => Ok(None),
            Err(SwapError::Lost(newer)) => {
                let current = newer.current().map_err(|fault| self.key("read", key, fault))?;
                Ok(Some((newer, current)))
            }
            Err(SwapError::Fault(fault)) => Err(self.key("write", key, fault)),
        }
    }

    fn parse<T: DeserializeOwned>(&self, key: &str, json: Option<Vec<u8>>) -> Result<Option<T>, Error> {
        json.map(|json| serde_json::from_slice(&json)).transpose().map_err(|source| self.json(key, source))
    }

    /// Finds the reason of a failed increment in the value, since the interface has one error for all. If the value has
    /// changed since, the host's own message stays.
    fn not_added(&self, key: &str, delta: i64, fault: Fault) -> Error {
        let (bucket, name) = (self.name.clone(), key.to_owned());
        match self.bucket.get(key) {
            Ok(Some(value)) => match number(&value) {
                None => Error::NotANumber { bucket, key: name },
                Some(value) if i64::try_from(value.saturating_add(delta.into())).is_err() => {
                    Error::Overflow { bucket, key: name, value, delta }
                }
                Some(_) => self.key("add to", key, fault),
            },
            _ => self.key("add to", key, fault),
        }
    }
}

/// Parses decimal text.
pub(crate) fn number(text: &[u8]) -> Option<i128> {
    if text.len() > NUMBER_LEN_MAX {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::open;
    use crate::testing;

    #[test]
    fn what_cannot_be_added_names_bucket_and_key_and_stays() -> Result<(), Error> {
        let _kv = testing::with_kv();
        let bucket = open("counts")?;
        bucket.set("word", "seven")?;
        let error = bucket.increment("word", 1).expect_err("it is no number");
        assert!(matches!(error, Error::NotANumber { .. }) && error.is_terminal());
        assert_eq!(
            error.to_string(),
            "the value of key `word` in bucket `counts` is no whole number in decimal text, so nothing was added to it"
        );
        bucket.set_json("most", &i64::MAX)?;
        let error = bucket.increment("most", 2).expect_err("it is the largest");
        assert!(error.is_terminal());
        assert_eq!(
            error.to_string(),
            "key `most` of bucket `counts` holds 9223372036854775807, and that plus 2 does not fit 64 bits"
        );
        assert_eq!(bucket.get("word")?.as_deref(), Some(&b"seven"[..]));
        assert_eq!(bucket.get_json::<i64>("most")?, Some(i64::MAX));
        assert_eq!(bucket.increment("most", -1)?, i64::MAX - 1);
        Ok(())
    }

    #[test]
    fn a_change_is_asked_again_with_what_came_between() -> Result<(), Error> {
        let _kv = testing::with_kv();
        let bucket = open("counts")?;
        let mut seen = Vec::new();
        let value = bucket.update("k", |current| {
            let len = current.as_ref().map(Vec::len);
            seen.push(len);
            if len != Some(2) {
                // As another call might.
                bucket.set("k", vec![b'x'; len.map_or(1, |len| len + 1)]).expect("there is a fake");
            }
            [current.unwrap_or_default(), b"!".to_vec()].concat()
        })?;
        assert_eq!((seen, value), (vec![None, Some(1), Some(2)], b"xx!".to_vec()));
        assert_eq!(bucket.get("k")?.as_deref(), Some(&b"xx!"[..]));
        Ok(())
    }

    #[test]
    fn a_value_that_is_no_such_json_is_not_changed() -> Result<(), Error> {
        let _kv = testing::with_kv();
        let bucket = open("counts")?;
        bucket.set("k", "not JSON")?;
        assert!(matches!(bucket.update_json("k", |_: Option<u32>| 1), Err(Error::Json { .. })));
        assert!(matches!(bucket.compare_and_swap_json("k", None, &1), Err(Error::Json { .. })));
        assert_eq!(bucket.compare_and_swap("k", None, "1")?, Swap::Lost { current: Some(b"not JSON".to_vec()) });
        assert!(bucket.compare_and_swap("k", Some(b"not JSON"), "1")?.is_done());
        assert_eq!(bucket.update_json("k", |k: Option<u32>| k.unwrap_or_default() + 1)?, 2);
        Ok(())
    }
}
