//! Read-modify-write operations: `increment` and compare-and-swap, each decided by the engine in one transaction.
//!
//! Numbers are decimal text (`-7`, `42`): `get` reads them, they are JSON, and a count that an app wrote with `set` can
//! be incremented.

use std::fmt::Display;

use bytes::Bytes;

use super::bucket::{Bucket, Buckets, KeyValueError, check_value, excerpt};
use crate::storage::{Increment, Incremented};

/// An integer type of `increment`.
pub(crate) trait Number: Copy + Display + Into<i128> + TryFrom<i128> + Send + Sync + 'static {
    const MIN: Self;
    const MAX: Self;
}

impl Number for i64 {
    const MIN: Self = i64::MIN;
    const MAX: Self = i64::MAX;
}

impl Number for u64 {
    const MIN: Self = u64::MIN;
    const MAX: Self = u64::MAX;
}

/// A key's value at one moment, for `swap` to compare with. Compares values, not versions: a value that was changed and
/// changed back counts as unchanged (ABA).
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it under the name of the interface")]
pub struct Cas {
    bucket: Bucket,
    key: String,
    current: Option<Bytes>,
}

/// Outcome of a swap.
#[derive(Debug)]
pub(crate) enum Swap {
    Done,
    /// Another write came first. Holds the present value.
    Lost(Cas),
}

impl Cas {
    /// Returns the value at that moment.
    pub(crate) fn current(&self) -> Option<&[u8]> {
        self.current.as_deref()
    }

    /// Returns the bytes of memory that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.current.as_ref().map_or(0, Bytes::len)
    }
}

impl Buckets {
    /// Adds `delta` to the number at `key` (0 if absent), and returns the sum once it is durable.
    ///
    /// A value that is not a number, and a sum that does not fit `N`, are errors and change nothing.
    pub(crate) async fn increment<N: Number>(&self, bucket: &Bucket, key: &str, delta: N) -> Result<N, KeyValueError> {
        let increment = Increment { delta: delta.into(), min: N::MIN.into(), max: N::MAX.into() };
        match self.engine.increment(bucket.place(key)?, increment).await? {
            Incremented::Sum(sum) => Ok(N::try_from(sum).unwrap_or_else(|_| unreachable!("the sum is within bounds"))),
            Incremented::NotANumber => Err(KeyValueError::NotANumber { key: excerpt(key) }),
            Incremented::Overflow { value } => {
                Err(KeyValueError::Overflow { key: excerpt(key), value, delta: delta.into() })
            }
        }
    }

    /// Reads `key` for a swap.
    pub(crate) async fn cas(&self, bucket: &Bucket, key: &str) -> Result<Cas, KeyValueError> {
        let current = self.get(bucket, key).await?;
        Ok(Cas { bucket: bucket.unlisted(), key: key.to_owned(), current })
    }

    /// Writes `value` if the key still has the value in `cas`, and returns once that is durable.
    pub(crate) async fn swap(&self, cas: Cas, value: Vec<u8>) -> Result<Swap, KeyValueError> {
        check_value(&cas.key, &value)?;
        let Cas { bucket, key, current } = cas;
        if self.engine.swap(bucket.place(&key)?, current, value.into()).await? {
            return Ok(Swap::Done);
        }
        // The winner's value is durable by now. A copy made by the writer would be held for every waiting loser.
        let current = self.get(&bucket, &key).await?;
        Ok(Swap::Lost(Cas { bucket, key, current }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::AppName;
    use crate::limits::KV_VALUE_BYTES_MAX;
    use crate::storage::memory::Memory;

    fn open() -> (Buckets, Bucket) {
        let kv = Buckets::new(Memory::new().host("test").key_value);
        let bucket = kv.bucket(&AppName::new("a").unwrap(), "x").unwrap();
        (kv, bucket)
    }

    async fn text(kv: &Buckets, bucket: &Bucket, key: &str) -> Option<String> {
        kv.get(bucket, key).await.unwrap().map(|value| String::from_utf8(value.into()).unwrap())
    }

    #[tokio::test]
    async fn a_number_is_decimal_text_that_get_and_set_share() {
        let (kv, bucket) = open();
        assert_eq!(kv.increment(&bucket, "n", 5_i64).await.unwrap(), 5);
        assert_eq!(text(&kv, &bucket, "n").await.as_deref(), Some("5"));
        assert_eq!(kv.increment(&bucket, "n", -7_i64).await.unwrap(), -2);
        assert_eq!(text(&kv, &bucket, "n").await.as_deref(), Some("-2"));
        kv.set(&bucket, "n", b"41".to_vec(), None).await.unwrap();
        assert_eq!(kv.increment(&bucket, "n", 1_u64).await.unwrap(), 42);
        kv.delete(&bucket, "n").await.unwrap();
        assert_eq!(kv.increment(&bucket, "n", 0_i64).await.unwrap(), 0);
        assert_eq!(text(&kv, &bucket, "n").await.as_deref(), Some("0"));
    }

    #[tokio::test]
    async fn what_cannot_be_added_is_refused_with_its_key_and_left_as_it_is() {
        let (kv, bucket) = open();
        for value in ["", "1.5", "1e3", "7 ", "seven", "\u{665}", &"0".repeat(41), &"1".repeat(40)] {
            kv.set(&bucket, "n", value.into(), None).await.unwrap();
            let error = kv.increment(&bucket, "n", 1_i64).await.unwrap_err();
            assert!(matches!(&error, KeyValueError::NotANumber { key } if key == "n"), "{value:?}: {error}");
            assert_eq!(text(&kv, &bucket, "n").await.as_deref(), Some(value));
        }
        kv.set(&bucket, "n", vec![0xff, 1], None).await.unwrap();
        assert!(matches!(kv.increment(&bucket, "n", 1_i64).await, Err(KeyValueError::NotANumber { .. })));

        let (max, min) = (i64::MAX.to_string(), i64::MIN.to_string());
        for (value, delta) in [(max.as_str(), 1), (&min, -1), ("18446744073709551615", 0), ("1", i64::MAX)] {
            kv.set(&bucket, "n", value.into(), None).await.unwrap();
            let error = kv.increment(&bucket, "n", delta).await.unwrap_err();
            assert!(error.to_string().contains(&format!("`n` holds {value}")), "{error}");
            assert_eq!(text(&kv, &bucket, "n").await.as_deref(), Some(value));
        }
        // `u64` reaches higher, and not below zero.
        kv.set(&bucket, "n", max.into(), None).await.unwrap();
        assert_eq!(kv.increment(&bucket, "n", 1_u64).await.unwrap(), 1 << 63);
        kv.set(&bucket, "n", b"-3".to_vec(), None).await.unwrap();
        assert!(matches!(kv.increment(&bucket, "n", 2_u64).await, Err(KeyValueError::Overflow { value: -3, .. })));
    }

    #[tokio::test]
    async fn a_swap_that_comes_second_sees_the_first() {
        let (kv, bucket) = open();
        let (one, two) = (kv.cas(&bucket, "k").await.unwrap(), kv.cas(&bucket, "k").await.unwrap());
        assert_eq!(one.current(), None);
        assert!(matches!(kv.swap(one, b"one".to_vec()).await, Ok(Swap::Done)));
        let Ok(Swap::Lost(newer)) = kv.swap(two, b"two".to_vec()).await else { panic!("it was there before") };
        assert_eq!(newer.current(), Some(&b"one"[..]));
        assert_eq!(text(&kv, &bucket, "k").await.as_deref(), Some("one"));
        assert!(matches!(kv.swap(newer, b"two".to_vec()).await, Ok(Swap::Done)));

        // A delete counts as a change, and an empty value differs from an absent one.
        let before = kv.cas(&bucket, "k").await.unwrap();
        kv.delete(&bucket, "k").await.unwrap();
        let Ok(Swap::Lost(gone)) = kv.swap(before, vec![]).await else { panic!("it was deleted") };
        assert_eq!(gone.current(), None);
        kv.set(&bucket, "k", vec![], None).await.unwrap();
        assert!(matches!(kv.swap(gone, b"x".to_vec()).await, Ok(Swap::Lost(_))));
    }

    #[tokio::test]
    async fn sizes_are_those_of_a_set() {
        let (kv, bucket) = open();
        let cas = kv.cas(&bucket, "k").await.unwrap();
        let refused = kv.swap(cas, vec![0; KV_VALUE_BYTES_MAX + 1]).await;
        assert!(matches!(&refused, Err(KeyValueError::ValueTooLarge { key, .. }) if key == "k"), "{refused:?}");
        assert!(kv.cas(&bucket, &"k".repeat(1_025)).await.is_err());
        assert!(kv.increment(&bucket, &"k".repeat(1_025), 1_i64).await.is_err());
        assert!(!kv.exists(&bucket, "k").await.unwrap());
    }

    /// Each writer swaps until it wins; no change is lost, though sets and deletes of another key share the commits.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn swaps_and_increments_of_many_tasks_all_count() {
        let (kv, bucket) = open();
        let kv = Arc::new(kv);
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (kv, bucket) = (kv.clone(), bucket.clone());
                tokio::spawn(async move {
                    for i in 0..25 {
                        kv.set(&bucket, "other", vec![task], None).await.unwrap();
                        if i % 2 == 0 {
                            kv.increment(&bucket, "n", 1_i64).await.unwrap();
                            continue;
                        }
                        let mut cas = kv.cas(&bucket, "n").await.unwrap();
                        loop {
                            let next = cas
                                .current()
                                .map_or(0, |value| std::str::from_utf8(value).unwrap().parse::<i128>().unwrap())
                                + 1;
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
        assert_eq!(text(&kv, &bucket, "n").await.as_deref(), Some("200"));
    }
}
