//! Read-modify-write operations: `increment` and compare-and-swap.
//!
//! The store's writer decides each inside its transaction, after every earlier write: nothing falls between the
//! comparison and the write, no lock is held during disk I/O, and operations that wait together share a commit.
//!
//! Numbers are decimal text (`-7`, `42`): `get` reads them, they are JSON, and a count that an app wrote with `set` can
//! be incremented.

use std::fmt::Display;

use bytes::Bytes;

use super::bucket::{Bucket, KeyValue, KeyValueError, check_value, excerpt};
use crate::store::Table;

/// Bytes of the longest text that is read as a number: every 128-bit integer fits.
const NUMBER_LEN_MAX: usize = 40;

/// An integer type of `increment`.
pub trait Number: Copy + Display + Into<i128> + TryFrom<i128> + Send + Sync + 'static {}

impl Number for i64 {}
impl Number for u64 {}

/// A key's value at one moment, for `swap` to compare with. Compares values, not versions: a value that was changed and
/// changed back counts as unchanged (ABA).
#[derive(Debug)]
pub struct Cas {
    /// The key's name, for errors.
    name: String,
    /// The key in the store.
    key: Vec<u8>,
    current: Option<Bytes>,
}

/// Outcome of a swap.
#[derive(Debug)]
pub enum Swap {
    Done,
    /// Another write came first. Holds the present value.
    Lost(Cas),
}

/// Outcome of an increment, as the writer decided it.
enum Sum<N> {
    Written(N),
    NotANumber,
    Overflow(i128),
}

impl Cas {
    /// Returns the value at that moment.
    pub fn current(&self) -> Option<&[u8]> {
        self.current.as_deref()
    }

    /// Returns the bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        self.name.len() + self.key.len() + self.current.as_ref().map_or(0, Bytes::len)
    }
}

impl KeyValue {
    /// Adds `delta` to the number at `key` (0 if absent), and returns the sum once it is on disk.
    ///
    /// A value that is not a number, and a sum that does not fit `N`, are errors and change nothing.
    pub async fn increment<N: Number>(&self, bucket: &Bucket, key: &str, delta: N) -> Result<N, KeyValueError> {
        let add = move |present: Option<&[u8]>| match sum(present, delta) {
            Sum::Written(sum) => (Some(sum.to_string().into()), Sum::Written(sum)),
            refused => (None, refused),
        };
        match self.store()?.update(Table::KeyValue, bucket.key(key)?, NUMBER_LEN_MAX, add).await? {
            Sum::Written(sum) => Ok(sum),
            Sum::NotANumber => Err(KeyValueError::NotANumber { key: excerpt(key) }),
            Sum::Overflow(value) => Err(KeyValueError::Overflow { key: excerpt(key), value, delta: delta.into() }),
        }
    }

    /// Reads `key` for a swap.
    pub fn cas(&self, bucket: &Bucket, key: &str) -> Result<Cas, KeyValueError> {
        let name = key.to_owned();
        let key = bucket.key(key)?;
        let current = self.store()?.get(Table::KeyValue, &key)?.map(Bytes::from);
        Ok(Cas { name, key, current })
    }

    /// Writes `value` if the key still has the value in `cas`, and returns once that is on disk.
    pub async fn swap(&self, cas: Cas, value: Vec<u8>) -> Result<Swap, KeyValueError> {
        check_value(&cas.name, &value)?;
        let Cas { name, key, current } = cas;
        let (bytes, value) = (current.as_ref().map_or(0, Bytes::len) + value.len(), Bytes::from(value));
        let compare = move |present: Option<&[u8]>| match present == current.as_deref() {
            true => (Some(value.clone()), true),
            false => (None, false),
        };
        if self.store()?.update(Table::KeyValue, key.clone(), bytes, compare).await? {
            return Ok(Swap::Done);
        }
        // The winner's value is on disk by now. A copy made by the writer would be held for every waiting loser.
        let current = self.store()?.get(Table::KeyValue, &key)?.map(Bytes::from);
        Ok(Swap::Lost(Cas { name, key, current }))
    }
}

fn sum<N: Number>(present: Option<&[u8]>, delta: N) -> Sum<N> {
    let value = match present {
        None => 0,
        Some(text) => match number(text) {
            Some(value) => value,
            None => return Sum::NotANumber,
        },
    };
    let sum = value.checked_add(delta.into()).and_then(|sum| N::try_from(sum).ok());
    sum.map_or(Sum::Overflow(value), Sum::Written)
}

fn number(text: &[u8]) -> Option<i128> {
    if text.len() > NUMBER_LEN_MAX {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::ids::AppName;
    use crate::limits::KV_VALUE_BYTES_MAX;
    use crate::store::StoreDir;

    fn open() -> (TempDir, KeyValue, Bucket) {
        let dir = tempfile::tempdir().unwrap();
        let kv = KeyValue::new(Arc::new(StoreDir::new(dir.path())));
        let bucket = kv.bucket(&AppName::new("a").unwrap(), "x").unwrap();
        (dir, kv, bucket)
    }

    fn text(kv: &KeyValue, bucket: &Bucket, key: &str) -> Option<String> {
        kv.get(bucket, key).unwrap().map(|value| String::from_utf8(value).unwrap())
    }

    #[tokio::test]
    async fn a_number_is_decimal_text_that_get_and_set_share() {
        let (_dir, kv, bucket) = open();
        assert_eq!(kv.increment(&bucket, "n", 5_i64).await.unwrap(), 5);
        assert_eq!(text(&kv, &bucket, "n").as_deref(), Some("5"));
        assert_eq!(kv.increment(&bucket, "n", -7_i64).await.unwrap(), -2);
        assert_eq!(text(&kv, &bucket, "n").as_deref(), Some("-2"));
        kv.set(&bucket, "n", b"41".to_vec()).await.unwrap();
        assert_eq!(kv.increment(&bucket, "n", 1_u64).await.unwrap(), 42);
        kv.delete(&bucket, "n").await.unwrap();
        assert_eq!(kv.increment(&bucket, "n", 0_i64).await.unwrap(), 0);
        assert_eq!(text(&kv, &bucket, "n").as_deref(), Some("0"));
    }

    #[tokio::test]
    async fn what_cannot_be_added_is_refused_with_its_key_and_left_as_it_is() {
        let (_dir, kv, bucket) = open();
        for value in ["", "1.5", "1e3", "7 ", "seven", "\u{665}", &"0".repeat(41), &"1".repeat(40)] {
            kv.set(&bucket, "n", value.into()).await.unwrap();
            let error = kv.increment(&bucket, "n", 1_i64).await.unwrap_err();
            assert!(matches!(&error, KeyValueError::NotANumber { key } if key == "n"), "{value:?}: {error}");
            assert_eq!(text(&kv, &bucket, "n").as_deref(), Some(value));
        }
        kv.set(&bucket, "n", vec![0xff, 1]).await.unwrap();
        assert!(matches!(kv.increment(&bucket, "n", 1_i64).await, Err(KeyValueError::NotANumber { .. })));

        let (max, min) = (i64::MAX.to_string(), i64::MIN.to_string());
        for (value, delta) in [(max.as_str(), 1), (&min, -1), ("18446744073709551615", 0), ("1", i64::MAX)] {
            kv.set(&bucket, "n", value.into()).await.unwrap();
            let error = kv.increment(&bucket, "n", delta).await.unwrap_err();
            assert!(error.to_string().contains(&format!("`n` holds {value}")), "{error}");
            assert_eq!(text(&kv, &bucket, "n").as_deref(), Some(value));
        }
        // `u64` reaches higher, and not below zero.
        kv.set(&bucket, "n", max.into()).await.unwrap();
        assert_eq!(kv.increment(&bucket, "n", 1_u64).await.unwrap(), 1 << 63);
        kv.set(&bucket, "n", b"-3".to_vec()).await.unwrap();
        assert!(matches!(kv.increment(&bucket, "n", 2_u64).await, Err(KeyValueError::Overflow { value: -3, .. })));
    }

    #[tokio::test]
    async fn a_swap_that_comes_second_sees_the_first() {
        let (_dir, kv, bucket) = open();
        let (one, two) = (kv.cas(&bucket, "k").unwrap(), kv.cas(&bucket, "k").unwrap());
        assert_eq!(one.current(), None);
        assert!(matches!(kv.swap(one, b"one".to_vec()).await, Ok(Swap::Done)));
        let Ok(Swap::Lost(newer)) = kv.swap(two, b"two".to_vec()).await else { panic!("it was there before") };
        assert_eq!(newer.current(), Some(&b"one"[..]));
        assert_eq!(text(&kv, &bucket, "k").as_deref(), Some("one"));
        assert!(matches!(kv.swap(newer, b"two".to_vec()).await, Ok(Swap::Done)));

        // A delete counts as a change, and an empty value differs from an absent one.
        let before = kv.cas(&bucket, "k").unwrap();
        kv.delete(&bucket, "k").await.unwrap();
        let Ok(Swap::Lost(gone)) = kv.swap(before, vec![]).await else { panic!("it was deleted") };
        assert_eq!(gone.current(), None);
        kv.set(&bucket, "k", vec![]).await.unwrap();
        assert!(matches!(kv.swap(gone, b"x".to_vec()).await, Ok(Swap::Lost(_))));
    }

    #[tokio::test]
    async fn sizes_are_those_of_a_set() {
        let (_dir, kv, bucket) = open();
        let cas = kv.cas(&bucket, "k").unwrap();
        let refused = kv.swap(cas, vec![0; KV_VALUE_BYTES_MAX + 1]).await;
        assert!(matches!(&refused, Err(KeyValueError::ValueTooLarge { key, .. }) if key == "k"), "{refused:?}");
        assert!(kv.cas(&bucket, &"k".repeat(1_025)).is_err());
        assert!(kv.increment(&bucket, &"k".repeat(1_025), 1_i64).await.is_err());
        assert!(!kv.exists(&bucket, "k").unwrap());
    }

    /// Each writer swaps until it wins; no change is lost, though sets and deletes of another key share the commits.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn swaps_and_increments_of_many_tasks_all_count() {
        let (_dir, kv, bucket) = open();
        let kv = Arc::new(kv);
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (kv, bucket) = (kv.clone(), bucket.clone());
                tokio::spawn(async move {
                    for i in 0..25 {
                        kv.set(&bucket, "other", vec![task]).await.unwrap();
                        if i % 2 == 0 {
                            kv.increment(&bucket, "n", 1_i64).await.unwrap();
                            continue;
                        }
                        let mut cas = kv.cas(&bucket, "n").unwrap();
                        loop {
                            let next = cas.current().map_or(0, |value| number(value).unwrap()) + 1;
                            match kv.swap(cas, next.to_string().into()).await.unwrap() {
                                Swap::Done => break,
                                Swap::Lost(newer) => cas = newer,
                            }
                        }
                        kv.delete(&bucket, "other").await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(text(&kv, &bucket, "n").as_deref(), Some("200"));
    }

    proptest! {
        /// Checked against plain 128-bit arithmetic.
        #[test]
        fn a_sum_is_exact_or_refused(value in any::<i128>(), small in any::<i64>(), delta in any::<i64>()) {
            for value in [value, small.into()] {
                let exact = value.checked_add(delta.into()).and_then(|sum| i64::try_from(sum).ok());
                match sum(Some(value.to_string().as_bytes()), delta) {
                    Sum::Written(sum) => prop_assert_eq!(Some(sum), exact),
                    Sum::Overflow(held) => prop_assert!(exact.is_none() && held == value),
                    Sum::NotANumber => prop_assert!(false, "{value} is a number"),
                }
            }
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..64), delta in any::<u64>()) {
            let _ = sum(Some(&text), delta);
        }
    }
}
