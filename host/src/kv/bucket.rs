//! Buckets: values by key, and pages of keys in byte order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::AppName;
use crate::limits::{KV_KEY_BYTES_MAX, KV_LIST_KEYS_MAX, KV_VALUE_BYTES_MAX};
use crate::storage::{KeyValue, Place, StorageError};

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

    /// Sets `key`, and returns once that is durable.
    pub(crate) async fn set(&self, bucket: &Bucket, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        check_value(key, &value)?;
        Ok(self.engine.set(bucket.place(key)?, value.into()).await?)
    }

    /// Removes `key`, and returns once that is durable. An absent key is not an error.
    pub(crate) async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), KeyValueError> {
        Ok(self.engine.delete(bucket.place(key)?).await?)
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
        let keys = self.page(bucket, after.as_deref()).await?;
        let cursor = match keys.last() {
            Some(last) if keys.len() == KV_LIST_KEYS_MAX => {
                let cursor = bucket.next_cursor;
                bucket.next_cursor += 1;
                if bucket.pages.len() == CURSORS_MAX {
                    bucket.pages.pop_front();
                }
                bucket.pages.push_back((cursor, last.clone()));
                Some(cursor)
            }
            _ => None,
        };
        Ok(Keys { keys, cursor })
    }

    /// Returns a page of the keys after `after`, which need not exist. A page of `KV_LIST_KEYS_MAX` keys may have a
    /// successor.
    pub(crate) async fn keys_after(&self, bucket: &Bucket, after: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        if let Some(after) = after {
            bucket.place(after)?;
        }
        self.page(bucket, after).await
    }

    async fn page(&self, bucket: &Bucket, after: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        Ok(self.engine.keys(&bucket.app, &bucket.name, after, KV_LIST_KEYS_MAX).await?)
    }
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
        kv.set(&mine, "k", b"1".to_vec()).await.unwrap();
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
        let writes = keys.iter().map(|key| kv.set(&bucket, key, vec![]));
        assert!(futures_util::future::join_all(writes).await.iter().all(Result::is_ok));
        let first = kv.keys(&mut bucket, None).await.unwrap();
        let second = kv.keys(&mut bucket, first.cursor).await.unwrap();
        assert_eq!([first.keys, second.keys].concat(), keys);
        assert_eq!(second.cursor, None);
        assert!(matches!(kv.keys(&mut bucket, Some(u64::MAX)).await, Err(KeyValueError::Cursor { .. })));

        let first = kv.keys_after(&bucket, None).await.unwrap();
        let second = kv.keys_after(&bucket, first.last().map(String::as_str)).await.unwrap();
        assert_eq!((first.len(), second.len()), (KV_LIST_KEYS_MAX, 5));
        assert_eq!([first, second].concat(), keys);
        // A deleted key is as good a start as any.
        assert_eq!(kv.keys_after(&bucket, Some("001002x")).await.unwrap(), ["001003", "001004"]);
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
}
