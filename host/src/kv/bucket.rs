//! Buckets: values by key, and pages of keys in byte order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::AppName;
use crate::limits::{KV_KEY_BYTES_MAX, KV_LIST_KEYS_MAX, KV_VALUE_BYTES_MAX};
use crate::store::{Op, Store, StoreDir, StoreError, Table};

/// Bytes of the longest bucket name.
const BUCKET_LEN_MAX: usize = 64;
/// Cursors that an open bucket remembers.
const CURSORS_MAX: usize = 16;

/// The key-value data of all apps.
pub struct KeyValue {
    dir: Arc<StoreDir>,
}

/// A bucket of one app.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// `app \0 bucket \0`: names hold no NUL, so no prefix is the start of another.
    prefix: Vec<u8>,
    /// Last keys of the pages listed so far, by cursor.
    pages: VecDeque<(u64, Vec<u8>)>,
    next_cursor: u64,
}

/// A page of keys.
#[derive(Debug, PartialEq, Eq)]
pub struct Keys {
    pub keys: Vec<String>,
    /// Cursor of the next page; `None` on the last.
    pub cursor: Option<u64>,
}

/// An operation that was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyValueError {
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
    Store(#[from] StoreError),
}

impl KeyValue {
    /// Uses the data directory `dir`, which need not exist yet.
    pub fn new(dir: Arc<StoreDir>) -> Self {
        Self { dir }
    }

    /// Returns the store, opened at the first use.
    pub(super) fn store(&self) -> Result<&Store, StoreError> {
        self.dir.store()
    }

    /// Returns the bucket `name` of `app`. Buckets need no creation.
    pub fn bucket(&self, app: &AppName, name: &str) -> Result<Bucket, KeyValueError> {
        if name.is_empty() || name.len() > BUCKET_LEN_MAX || name.contains('\0') {
            return Err(KeyValueError::BucketName { name: name.chars().take(BUCKET_LEN_MAX).collect() });
        }
        let prefix = [app.as_str().as_bytes(), b"\0", name.as_bytes(), b"\0"].concat();
        Ok(Bucket { prefix, pages: VecDeque::new(), next_cursor: 1 })
    }

    /// Returns the value of `key`.
    pub fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(self.store()?.get(Table::KeyValue, &bucket.key(key)?)?)
    }

    /// Returns whether `key` has a value.
    pub fn exists(&self, bucket: &Bucket, key: &str) -> Result<bool, KeyValueError> {
        Ok(self.store()?.contains(Table::KeyValue, &bucket.key(key)?)?)
    }

    /// Sets `key`, and returns once that is on disk.
    pub async fn set(&self, bucket: &Bucket, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        check_value(key, &value)?;
        let op = Op::Put { table: Table::KeyValue, key: bucket.key(key)?, value };
        Ok(self.store()?.write(vec![op]).await?)
    }

    /// Removes `key`, and returns once that is on disk. An absent key is not an error.
    pub async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), KeyValueError> {
        let op = Op::Delete { table: Table::KeyValue, key: bucket.key(key)? };
        Ok(self.store()?.write(vec![op]).await?)
    }

    /// Returns the next page of keys, in byte order. Keys set or deleted meanwhile shift no others.
    pub fn keys(&self, bucket: &mut Bucket, cursor: Option<u64>) -> Result<Keys, KeyValueError> {
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let page = bucket.pages.iter().find(|(page, _)| *page == cursor);
                Some(page.ok_or(KeyValueError::Cursor { cursor })?.1.clone())
            }
        };
        let found = self.page(bucket, after.as_deref())?;
        let cursor = match found.last() {
            Some(last) if found.len() == KV_LIST_KEYS_MAX => {
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
        Ok(Keys { keys: found.iter().map(|key| bucket.name(key)).collect(), cursor })
    }

    /// Returns a page of the keys after `after`, which need not exist. A page of `KV_LIST_KEYS_MAX` keys may have a
    /// successor.
    pub fn keys_after(&self, bucket: &Bucket, after: Option<&str>) -> Result<Vec<String>, KeyValueError> {
        let after = after.map(|after| bucket.key(after)).transpose()?;
        Ok(self.page(bucket, after.as_deref())?.iter().map(|key| bucket.name(key)).collect())
    }

    fn page(&self, bucket: &Bucket, after: Option<&[u8]>) -> Result<Vec<Vec<u8>>, KeyValueError> {
        Ok(self.store()?.keys(Table::KeyValue, &bucket.prefix, after, KV_LIST_KEYS_MAX)?)
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
    /// Returns the key in the store; an error over `KV_KEY_BYTES_MAX`.
    pub(super) fn key(&self, key: &str) -> Result<Vec<u8>, KeyValueError> {
        if key.len() > KV_KEY_BYTES_MAX {
            return Err(KeyValueError::KeyTooLong { len: key.len() });
        }
        Ok([&self.prefix, key.as_bytes()].concat())
    }

    /// Returns the name of a key of this bucket.
    fn name(&self, key: &[u8]) -> String {
        String::from_utf8_lossy(&key[self.prefix.len()..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::store::snapshot;

    #[tokio::test]
    async fn apps_and_buckets_do_not_see_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let kv = KeyValue::new(Arc::new(StoreDir::new(dir.path())));
        let (a, b) = (AppName::new("a").unwrap(), AppName::new("ab").unwrap());
        let mine = kv.bucket(&a, "x").unwrap();
        kv.set(&mine, "k", b"1".to_vec()).await.unwrap();
        for mut other in [kv.bucket(&b, "x").unwrap(), kv.bucket(&a, "xk").unwrap(), kv.bucket(&a, "y").unwrap()] {
            assert_eq!(kv.get(&other, "k").unwrap(), None);
            assert_eq!(kv.keys(&mut other, None).unwrap(), Keys { keys: vec![], cursor: None });
        }
        assert_eq!(kv.get(&mine, "k").unwrap(), Some(b"1".to_vec()));
        kv.delete(&mine, "k").await.unwrap();
        assert!(!kv.exists(&mine, "k").unwrap());
    }

    #[tokio::test]
    async fn a_long_list_comes_in_pages() {
        let dir = tempfile::tempdir().unwrap();
        let kv = KeyValue::new(Arc::new(StoreDir::new(dir.path())));
        let mut bucket = kv.bucket(&AppName::new("a").unwrap(), "x").unwrap();
        let keys: Vec<String> = (0..KV_LIST_KEYS_MAX + 5).map(|i| format!("{i:06}")).collect();
        let writes = keys.iter().map(|key| kv.set(&bucket, key, vec![]));
        assert!(futures_util::future::join_all(writes).await.iter().all(Result::is_ok));
        let first = kv.keys(&mut bucket, None).unwrap();
        let second = kv.keys(&mut bucket, first.cursor).unwrap();
        assert_eq!([first.keys, second.keys].concat(), keys);
        assert_eq!(second.cursor, None);
        assert!(matches!(kv.keys(&mut bucket, Some(u64::MAX)), Err(KeyValueError::Cursor { .. })));

        let first = kv.keys_after(&bucket, None).unwrap();
        let second = kv.keys_after(&bucket, first.last().map(String::as_str)).unwrap();
        assert_eq!((first.len(), second.len()), (KV_LIST_KEYS_MAX, 5));
        assert_eq!([first, second].concat(), keys);
        // A deleted key is as good a start as any.
        assert_eq!(kv.keys_after(&bucket, Some("001002x")).unwrap(), ["001003", "001004"]);
    }

    #[test]
    fn names_and_sizes_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let kv = KeyValue::new(Arc::new(StoreDir::new(dir.path())));
        let app = AppName::new("a").unwrap();
        for bad in ["", "a\0b", &"x".repeat(65)] {
            assert!(kv.bucket(&app, bad).is_err());
        }
        let bucket = kv.bucket(&app, "x").unwrap();
        assert!(matches!(kv.get(&bucket, &"k".repeat(1_025)), Err(KeyValueError::KeyTooLong { len: 1_025 })));
    }

    /// Pins the on-disk format, which users' data directories hold (`docs/decisions/store-format.md`).
    #[tokio::test]
    async fn values_are_on_disk_as_they_were() {
        let open = || {
            let dir = tempfile::tempdir().unwrap();
            let kv = KeyValue::new(Arc::new(StoreDir::new(dir.path())));
            (dir, kv)
        };
        let ((_one, written), (_other, read)) = (open(), open());
        let app = AppName::new("app").unwrap();
        let bucket = written.bucket(&app, "bucket").unwrap();
        let values = [("", &b"empty"[..]), ("key", b"\0\xff"), ("k\u{e4}y\0/", b"")];
        for (key, value) in values {
            written.set(&bucket, key, value.to_vec()).await.unwrap();
        }
        let text = snapshot::dump(written.store().unwrap());
        expect![[r#"
            [key-value]
            app\x00bucket\x00 → empty|
            app\x00bucket\x00key → \x00\xff|
            app\x00bucket\x00k\xc3\xa4y\x00/ → |
        "#]]
        .assert_eq(&text);
        snapshot::fill(read.store().unwrap(), &text).await;
        for (key, value) in values {
            assert_eq!(read.get(&bucket, key).unwrap().as_deref(), Some(value), "{key}");
        }
    }
}
