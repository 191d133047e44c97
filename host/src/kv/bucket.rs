//! Buckets: values by key, and pages of keys in byte order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::AppName;
use crate::limits::{
    KV_BATCH_BYTES_MAX, KV_BATCH_KEYS_MAX, KV_KEY_BYTES_MAX, KV_LIST_BYTES_MAX, KV_LIST_KEYS_MAX, KV_VALUE_BYTES_MAX,
};
use crate::storage::{KeyPage, KeyQuery, KeyValue, Place, StorageError};

/// Bytes of the longest bucket name.
const BUCKET_LEN_MAX: usize = 64;
/// Cursors that an open bucket remembers.
const CURSORS_MAX: usize = 16;

/// Buckets of all apps.
pub(crate) struct Buckets {
    pub(super) engine: Arc<dyn KeyValue>,
}

/// A bucket of one app.
#[derive(Clone, Debug)]
#[expect(unreachable_pub, reason = "the bindings re-export it under the name of the interface")]
pub struct Bucket {
    app: AppName,
    name: String,
    /// Last keys of the pages listed so far, by cursor.
    pages: VecDeque<(u64, String)>,
    next_cursor: u64,
}

/// A page of keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub keys: Vec<String>,
    /// Cursor of the next page; `None` on the last.
    pub cursor: Option<u64>,
}

/// An operation that was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyValueError {
    #[error("a bucket's name has 1 to {BUCKET_LEN_MAX} bytes and no NUL; `{name}` does not")]
    BucketName { name: String },
    #[error("a key has at most {KV_KEY_BYTES_MAX} bytes; this one has {len}")]
    KeyTooLong { len: usize },
    #[error("a value has at most {KV_VALUE_BYTES_MAX} bytes; the one for `{key}` has {len}")]
    ValueTooLarge { key: String, len: usize },
    #[error("a batch has at most {KV_BATCH_KEYS_MAX} keys; this one has {len}")]
    BatchKeys { len: usize },
    #[error("the values of a batch have at most {KV_BATCH_BYTES_MAX} bytes together; use several batches")]
    BatchBytes,
    #[error("a time to live is at least a millisecond; for `{key}` it is 0")]
    TimeToLive { key: String },
    #[error(
        "no list of keys goes on at {cursor}; a cursor holds for the bucket that gave it and its last {CURSORS_MAX} \
         pages"
    )]
    Cursor { cursor: u64 },
    #[error(
        "the value of `{key}` is no whole number in decimal text, so nothing was added to it; `set` it to one, or \
         `delete` it"
    )]
    NotANumber { key: String },
    #[error("`{key}` holds {value}, and that plus {delta} does not fit 64 bits, so nothing was added to it")]
    Overflow { key: String, value: i128, delta: i128 },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Buckets {
    /// Uses the key-value data of an engine.
    pub(crate) fn new(engine: Arc<dyn KeyValue>) -> Self {
        Self { engine }
    }

    /// Returns the bucket `name` of `app`. Buckets need no creation.
    pub(crate) fn bucket(&self, app: &AppName, name: &str) -> Result<Bucket, KeyValueError> {
        if name.is_empty() || name.len() > BUCKET_LEN_MAX || name.contains('\0') {
            return Err(KeyValueError::BucketName { name: name.chars().take(BUCKET_LEN_MAX).collect() });
        }
        Ok(Bucket { app: app.clone(), name: name.to_owned(), pages: VecDeque::new(), next_cursor: 1 })
    }

    /// Returns the value of `key`.
    pub(crate) async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Bytes>, KeyValueError> {
        Ok(self.engine.get(bucket.place(key)?).await?)
    }

    /// Returns whether `key` has a value.
    pub(crate) async fn exists(&self, bucket: &Bucket, key: &str) -> Result<bool, KeyValueError> {
        Ok(self.engine.exists(bucket.place(key)?).await?)
    }

    /// Returns the values of several keys at one moment, in their order.
    pub(crate) async fn get_many(&self, bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        check_batch(bucket, keys.iter())?;
        let values = self.engine.get_many(&bucket.app, &bucket.name, keys, KV_BATCH_BYTES_MAX).await?;
        values.ok_or(KeyValueError::BatchBytes)
    }

    /// Sets `key`, and returns once that is durable. With a time to live, the value expires after it, by the clock of
    /// the engine.
    pub(crate) async fn set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), KeyValueError> {
        check_value(key, &value)?;
        let expires_ms = match ttl {
            Some(ttl) if ttl.as_millis() == 0 => return Err(KeyValueError::TimeToLive { key: excerpt(key) }),
            Some(ttl) => {
                let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                Some(self.engine.now_ms().saturating_add(ttl_ms))
            }
            None => None,
        };
        Ok(self.engine.set(bucket.place(key)?, value.into(), expires_ms).await?)
    }

    /// Sets several keys, all or none, and returns once that is durable.
    pub(crate) async fn set_many(&self, bucket: &Bucket, values: Vec<(String, Vec<u8>)>) -> Result<(), KeyValueError> {
        check_batch(bucket, values.iter().map(|(key, _)| key))?;
        if values.iter().map(|(_, value)| value.len()).sum::<usize>() > KV_BATCH_BYTES_MAX {
            return Err(KeyValueError::BatchBytes);
        }
        let values = values.into_iter().map(|(key, value)| (key, value.into())).collect();
        Ok(self.engine.set_many(&bucket.app, &bucket.name, values).await?)
    }

    /// Removes `key`, and returns once that is durable. An absent key is not an error.
    pub(crate) async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), KeyValueError> {
        Ok(self.engine.delete(bucket.place(key)?).await?)
    }

    /// Removes several keys, all or none, and returns once that is durable.
    pub(crate) async fn delete_many(&self, bucket: &Bucket, keys: &[String]) -> Result<(), KeyValueError> {
        check_batch(bucket, keys.iter())?;
        Ok(self.engine.delete_many(&bucket.app, &bucket.name, keys).await?)
    }

    /// Returns the next page of keys, in byte order. Keys set or deleted meanwhile shift no others.
    pub(crate) async fn keys(&self, bucket: &mut Bucket, cursor: Option<u64>) -> Result<Keys, KeyValueError> {
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let page = bucket.pages.iter().find(|(page, _)| *page == cursor);
                Some(page.ok_or(KeyValueError::Cursor { cursor })?.1.clone())
            }
        };
        let page = self.page(bucket, "", after.as_deref(), KV_LIST_KEYS_MAX).await?;
        let cursor = page.next.map(|last| {
            let cursor = bucket.next_cursor;
            bucket.next_cursor += 1;
            if bucket.pages.len() == CURSORS_MAX {
                bucket.pages.pop_front();
            }
            bucket.pages.push_back((cursor, last));
            cursor
        });
        Ok(Keys { keys: page.keys, cursor })
    }

    /// Returns a page of up to `len_max` of the keys that begin with `prefix` and come after `after`, which need not
    /// exist. A page has at most `KV_LIST_KEYS_MAX` keys and `KV_LIST_BYTES_MAX` of them.
    pub(crate) async fn page(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<KeyPage, KeyValueError> {
        for key in after.into_iter().chain([prefix]) {
            bucket.place(key)?;
        }
        let (app, name, len_max) = (&bucket.app, &bucket.name, len_max.min(KV_LIST_KEYS_MAX));
        let query = KeyQuery { app, bucket: name, prefix, after, len_max, bytes_max: KV_LIST_BYTES_MAX };
        Ok(self.engine.keys(query).await?)
    }

    /// Returns a page of the names of an app's buckets that have a key.
    pub(crate) async fn buckets(&self, app: &AppName, after: Option<&str>) -> Result<KeyPage, KeyValueError> {
        Ok(self.engine.buckets(app, after, KV_LIST_KEYS_MAX).await?)
    }
}

/// Refuses a batch of more than `KV_BATCH_KEYS_MAX` keys, or with one that is too long.
fn check_batch<'a>(bucket: &Bucket, mut keys: impl ExactSizeIterator<Item = &'a String>) -> Result<(), KeyValueError> {
    let len = keys.len();
    if len > KV_BATCH_KEYS_MAX {
        return Err(KeyValueError::BatchKeys { len });
    }
    keys.try_for_each(|key| bucket.place(key).map(drop))
}

/// Refuses a value over `KV_VALUE_BYTES_MAX`.
pub(super) fn check_value(key: &str, value: &[u8]) -> Result<(), KeyValueError> {
    match value.len() > KV_VALUE_BYTES_MAX {
        true => Err(KeyValueError::ValueTooLarge { key: excerpt(key), len: value.len() }),
        false => Ok(()),
    }
}

/// Returns the first characters of a key, for errors.
pub(super) fn excerpt(key: &str) -> String {
    key.chars().take(80).collect()
}

impl Bucket {
    /// Returns the bucket without the pages that were listed.
    pub(super) fn unlisted(&self) -> Self {
        Self { app: self.app.clone(), name: self.name.clone(), pages: VecDeque::new(), next_cursor: 1 }
    }

    /// Returns the place of a key; an error over `KV_KEY_BYTES_MAX`.
    pub(super) fn place<'a>(&'a self, key: &'a str) -> Result<Place<'a>, KeyValueError> {
        if key.len() > KV_KEY_BYTES_MAX {
            return Err(KeyValueError::KeyTooLong { len: key.len() });
        }
        Ok(Place { app: &self.app, bucket: &self.name, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::Memory;

    #[tokio::test]
    async fn apps_and_buckets_do_not_see_each_other() {
        let kv = Buckets::new(Memory::new().host("test").key_value);
        let (a, b) = (AppName::new("a").unwrap(), AppName::new("ab").unwrap());
        let mine = kv.bucket(&a, "x").unwrap();
        kv.set(&mine, "k", b"1".to_vec(), None).await.unwrap();
        for mut other in [kv.bucket(&b, "x").unwrap(), kv.bucket(&a, "xk").unwrap(), kv.bucket(&a, "y").unwrap()] {
            assert_eq!(kv.get(&other, "k").await.unwrap(), None);
            assert_eq!(kv.keys(&mut other, None).await.unwrap(), Keys { keys: vec![], cursor: None });
        }
        assert_eq!(kv.get(&mine, "k").await.unwrap(), Some(b"1"[..].into()));
        kv.delete(&mine, "k").await.unwrap();
        assert!(!kv.exists(&mine, "k").await.unwrap());
    }

    #[tokio::test]
    async fn a_long_list_comes_in_pages() {
        let kv = Buckets::new(Memory::new().host("test").key_value);
        let mut bucket = kv.bucket(&AppName::new("a").unwrap(), "x").unwrap();
        let keys: Vec<String> = (0..KV_LIST_KEYS_MAX + 5).map(|i| format!("{i:06}")).collect();
        let writes = keys.iter().map(|key| kv.set(&bucket, key, vec![], None));
        assert!(futures_util::future::join_all(writes).await.iter().all(Result::is_ok));
        let first = kv.keys(&mut bucket, None).await.unwrap();
        let second = kv.keys(&mut bucket, first.cursor).await.unwrap();
        assert_eq!([first.keys, second.keys].concat(), keys);
        assert_eq!(second.cursor, None);
        assert!(matches!(kv.keys(&mut bucket, Some(u64::MAX)).await, Err(KeyValueError::Cursor { .. })));

        let page = async |after| kv.page(&bucket, "", after, usize::MAX).await.unwrap();
        let first = page(None).await;
        let second = page(first.next.as_deref()).await;
        assert_eq!((first.keys.len(), second.keys.len(), second.next), (KV_LIST_KEYS_MAX, 5, None));
        assert_eq!([first.keys, second.keys].concat(), keys);
        // A deleted key is as good a start as any.
        assert_eq!(page(Some("001002x")).await.keys, ["001003", "001004"]);
        assert_eq!(kv.page(&bucket, "00100", None, usize::MAX).await.unwrap().keys, keys[1_000..]);
    }

    #[tokio::test]
    async fn names_and_sizes_are_bounded() {
        let kv = Buckets::new(Memory::new().host("test").key_value);
        let app = AppName::new("a").unwrap();
        for bad in ["", "a\0b", &"x".repeat(65)] {
            assert!(kv.bucket(&app, bad).is_err());
        }
        let bucket = kv.bucket(&app, "x").unwrap();
        assert!(matches!(kv.get(&bucket, &"k".repeat(1_025)).await, Err(KeyValueError::KeyTooLong { len: 1_025 })));
    }

    #[tokio::test]
    async fn a_page_of_long_keys_is_bounded_in_bytes() {
        let kv = Buckets::new(Memory::new().host("test").key_value);
        let bucket = kv.bucket(&AppName::new("a").unwrap(), "x").unwrap();
        let keys: Vec<String> = (0..600).map(|i| format!("{i:0>1000}")).collect();
        for key in &keys {
            kv.set(&bucket, key, vec![], None).await.unwrap();
        }
        let (mut listed, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = kv.page(&bucket, "", after.as_deref(), usize::MAX).await.unwrap();
            assert!(page.keys.iter().map(String::len).sum::<usize>() <= KV_LIST_BYTES_MAX);
            (pages, after) = (pages + 1, page.next);
            listed.extend(page.keys);
            if after.is_none() {
                break;
            }
        }
        assert_eq!((listed, pages), (keys, 3));
    }

    #[tokio::test]
    async fn batches_are_bounded_in_keys_and_bytes() {
        let kv = Buckets::new(Memory::new().host("test").key_value);
        let bucket = kv.bucket(&AppName::new("a").unwrap(), "x").unwrap();
        let half = || vec![0; KV_BATCH_BYTES_MAX / 2 + 1];
        let keys = |len: usize| (0..len).map(|i| i.to_string()).collect::<Vec<_>>();
        let values = |len: usize| keys(len).into_iter().map(|key| (key, vec![1])).collect::<Vec<_>>();
        kv.set_many(&bucket, values(KV_BATCH_KEYS_MAX)).await.unwrap();
        assert!(matches!(
            kv.set_many(&bucket, values(KV_BATCH_KEYS_MAX + 1)).await,
            Err(KeyValueError::BatchKeys { len: 1_001 })
        ));
        let large = vec![("0".to_owned(), half()), ("1".to_owned(), half())];
        assert!(matches!(kv.set_many(&bucket, large).await, Err(KeyValueError::BatchBytes)));
        assert_eq!(kv.get(&bucket, "0").await.unwrap(), Some([1][..].into()), "nothing of it was written");
        kv.set(&bucket, "0", half(), None).await.unwrap();
        kv.set(&bucket, "1", half(), None).await.unwrap();
        assert!(matches!(kv.get_many(&bucket, &keys(2)).await, Err(KeyValueError::BatchBytes)));
        assert_eq!(kv.get_many(&bucket, &keys(1)).await.unwrap().len(), 1);
        assert!(matches!(kv.get_many(&bucket, &keys(1_001)).await, Err(KeyValueError::BatchKeys { .. })));
        let long = ["k".repeat(1_025)];
        assert!(matches!(kv.delete_many(&bucket, &long).await, Err(KeyValueError::KeyTooLong { .. })));
        kv.delete_many(&bucket, &keys(1_000)).await.unwrap();
        assert_eq!(kv.page(&bucket, "", None, 9).await.unwrap(), KeyPage::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_with_a_time_to_live_goes() {
        let kv = Buckets::new(Memory::new().host("test").key_value);
        let bucket = kv.bucket(&AppName::new("a").unwrap(), "x").unwrap();
        let (minute, short) = (Duration::from_secs(60), Duration::from_micros(999));
        kv.set(&bucket, "k", vec![1], Some(minute)).await.unwrap();
        tokio::time::advance(minute - Duration::from_millis(1)).await;
        assert!(kv.exists(&bucket, "k").await.unwrap());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!kv.exists(&bucket, "k").await.unwrap());
        let error = kv.set(&bucket, "k", vec![1], Some(short)).await;
        assert!(matches!(&error, Err(KeyValueError::TimeToLive { key }) if key == "k"), "{error:?}");
        kv.set(&bucket, "k", vec![1], Some(Duration::MAX)).await.unwrap();
        assert!(kv.exists(&bucket, "k").await.unwrap());
    }
}
