//! Several keys at once.

use super::{BATCH_KEYS_MAX, Bucket, Error, Fault, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::failure::Result;

impl Bucket {
    /// Reads several values at one moment, in the order of the keys; `None` for a key that does not exist.
    ///
    /// At most 1,000 keys, whose values have at most 8 MiB together.
    ///
    /// ```
    /// use bireme_sdk::{kv, testing};
    ///
    /// let _kv = testing::with_kv();
    /// let ships = kv::open("ships")?;
    /// ships.set_many([("argo", "50 oars"), ("alkedo", "170 oars")])?;
    /// assert_eq!(ships.get_many(["alkedo", "olympias"])?, [Some(b"170 oars".to_vec()), None]);
    /// ships.delete_many(["argo", "alkedo"])?;
    /// assert_eq!(ships.keys().count(), 0);
    /// # Ok::<(), kv::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Batch`].
    pub fn get_many<K: Into<String>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let keys = all(keys);
        self.bucket.get_many(&keys).map_err(|fault| self.batch("read", keys.iter(), 0, fault))
    }

    /// Writes several values, all or none, with one wait for the disk. Each replaces an earlier one and its time to
    /// live; of two for one key, the later holds.
    ///
    /// At most 1,000 keys, whose values have at most 8 MiB together.
    ///
    /// # Errors
    /// [`Error::Batch`], after which nothing was written unless the host is gone.
    pub fn set_many<K: Into<String>, V: Into<Vec<u8>>>(
        &self,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        let values: Vec<(String, Vec<u8>)> =
            values.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let bytes: usize = values.iter().map(|(_, value)| value.len()).sum();
        let keys = values.iter().map(|(key, _)| key);
        self.bucket.set_many(&values).map_err(|fault| self.batch("write", keys, bytes, fault))
    }

    /// Removes several keys, all or none, with one wait for the disk; absent ones are not an error.
    ///
    /// At most 1,000 keys.
    ///
    /// # Errors
    /// [`Error::Batch`].
    pub fn delete_many<K: Into<String>>(&self, keys: impl IntoIterator<Item = K>) -> Result<(), Error> {
        let keys = all(keys);
        self.bucket.delete_many(&keys).map_err(|fault| self.batch("delete", keys.iter(), 0, fault))
    }

    pub(super) fn batch<'a>(
        &self,
        action: &'static str,
        mut keys: impl ExactSizeIterator<Item = &'a String>,
        value_bytes: usize,
        fault: Fault,
    ) -> Error {
        let len = keys.len();
        let is_large = len > BATCH_KEYS_MAX || value_bytes > VALUE_BYTES_MAX;
        let fault = fault.refused_if(is_large || keys.any(|key| key.len() > KEY_BYTES_MAX));
        Error::Batch { action, bucket: self.name.clone(), len, fault }
    }
}

fn all<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Vec<String> {
    keys.into_iter().map(Into::into).collect()
}
