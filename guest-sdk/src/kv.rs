//! The app's key-value data, kept by the host between calls.
//!
//! A bucket is opened by name and belongs to the app. A write is seen by every later read.
//!
//! **A `get` followed by a `set` is not atomic.** Calls run at the same time, so a value that is read, changed and
//! [`set`](Bucket::set) can overwrite what another call wrote in between. Three methods cannot:
//! [`increment`](Bucket::increment) for counters, [`update`](Bucket::update) for any change of one key, and
//! [`compare_and_swap`](Bucket::compare_and_swap) beneath it. There are no transactions over several keys, but
//! [`set_many`](Bucket::set_many) writes several values together.
//!
//! | limit | of |
//! |---|---|
//! | 1,024 bytes | a key |
//! | 8 MiB | a value, or the values of a batch together |
//! | 1,000 | keys of a batch |
//!
//! ```
//! use bireme_sdk::{kv, testing};
//!
//! let _kv = testing::with_kv();
//! let bucket = kv::open("visits")?;
//! assert_eq!(bucket.increment("all", 1)?, 1);
//! let names = bucket.update_json("names", |names: Option<Vec<String>>| {
//!     let mut names = names.unwrap_or_default();
//!     names.push("Ada".to_owned());
//!     names
//! })?;
//! assert_eq!(names, ["Ada"]);
//! # Ok::<(), kv::Error>(())
//! ```

mod atomics;
mod batch;

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::atomics::Swap;
#[cfg(any(not(target_arch = "wasm32"), feature = "testing"))]
pub(crate) use self::atomics::number;
use crate::failure::Result;
use crate::host;

/// Keys of a page, and the cursor of the next one.
pub(crate) type KeyPage = (Vec<String>, Option<String>);

/// Error of the key-value data, with bucket and key.
///
/// ```
/// use bireme_sdk::kv;
///
/// // No store stands in for the host's in this test.
/// let error = kv::open("seen").and_then(|bucket| bucket.get("key")).unwrap_err();
/// assert!(!error.to_string().is_empty());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host did not open the bucket.
    #[error("cannot open bucket `{bucket}`")]
    Open {
        /// Name of the bucket.
        bucket: String,
        /// Reason of the host.
        #[source]
        fault: Fault,
    },
    /// The host failed on a key.
    #[error("cannot {action} key `{key}` of bucket `{bucket}`")]
    Key {
        /// Operation that failed, as a verb: `read`, `write`, …
        action: &'static str,
        /// Name of the bucket.
        bucket: String,
        /// Key within the bucket.
        key: String,
        /// Reason of the host.
        #[source]
        fault: Fault,
    },
    /// The host failed on a batch.
    #[error("cannot {action} {len} keys of bucket `{bucket}`")]
    Batch {
        /// Operation that failed, as a verb: `read`, `write`, …
        action: &'static str,
        /// Name of the bucket.
        bucket: String,
        /// Number of keys.
        len: usize,
        /// Reason of the host.
        #[source]
        fault: Fault,
    },
    /// The host did not list the keys.
    #[error("cannot list the keys of bucket `{bucket}`")]
    List {
        /// Name of the bucket.
        bucket: String,
        /// Reason of the host.
        #[source]
        fault: Fault,
    },
    /// The value is not of the requested type, or cannot be encoded.
    #[error("the value of key `{key}` in bucket `{bucket}` is no such JSON")]
    Json {
        /// Name of the bucket.
        bucket: String,
        /// Key within the bucket.
        key: String,
        /// Error of the JSON decoder or encoder.
        #[source]
        source: serde_json::Error,
    },
    /// The value is not a number that [`increment`](Bucket::increment) could add to. It is unchanged.
    #[error(
        "the value of key `{key}` in bucket `{bucket}` is no whole number in decimal text, so nothing was added to it"
    )]
    NotANumber {
        /// Name of the bucket.
        bucket: String,
        /// Key within the bucket.
        key: String,
    },
    /// The sum does not fit 64 bits. The value is unchanged.
    #[error("key `{key}` of bucket `{bucket}` holds {value}, and that plus {delta} does not fit 64 bits")]
    Overflow {
        /// Name of the bucket.
        bucket: String,
        /// Key within the bucket.
        key: String,
        /// Number that the key holds.
        value: i128,
        /// Number to be added.
        delta: i64,
    },
}

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 1_024;
/// Bytes of a value, and of the values of a batch together.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// Keys of a batch.
const BATCH_KEYS_MAX: usize = 1_000;

/// Reason of the host; the source of an [`Error`].
///
/// ```
/// use bireme_sdk::kv::{self, Error, Fault};
///
/// // No store stands in for the host's in this test.
/// let error = kv::open("seen").and_then(|bucket| bucket.get("key")).unwrap_err();
/// assert!(matches!(error, Error::Open { fault: Fault::NoFake, .. } | Error::Key { fault: Fault::NoFake, .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The host does not know the bucket.
    #[error("the host has no bucket of that name")]
    NoSuchBucket,
    /// The app may not use the bucket.
    #[error("this app may not use it")]
    Denied,
    /// A key, a value, a time to live or a batch beyond the limits, in the host's words; no other attempt is made.
    #[error("{0}")]
    Refused(String),
    /// Any other reason, in the host's words.
    #[error("{0}")]
    Other(String),
    /// A native test used a bucket without a fake.
    #[error("there is no host in a native test; give one with `bireme_sdk::testing::with_kv`")]
    NoFake,
}

impl Fault {
    /// Returns the fault of an operation that no attempt can make, if it is `over_limit`: the host has one kind for
    /// these and for a store that is out of order.
    fn refused_if(self, over_limit: bool) -> Self {
        match self {
            Self::Other(reason) if over_limit => Self::Refused(reason),
            other => other,
        }
    }
}

impl Error {
    /// Returns true if a retry cannot help.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Open { fault, .. }
            | Self::Key { fault, .. }
            | Self::Batch { fault, .. }
            | Self::List { fault, .. } => !matches!(fault, Fault::Other(_)),
            Self::Json { .. } | Self::NotANumber { .. } | Self::Overflow { .. } => true,
        }
    }
}

/// An open bucket.
///
/// ```
/// use bireme_sdk::{kv, testing};
///
/// let _kv = testing::with_kv();
/// let seen = kv::open("seen")?;
/// seen.set_json("counts", &[1, 2])?;
/// assert_eq!(seen.get_json::<Vec<u32>>("counts")?, Some(vec![1, 2]));
/// seen.delete("counts")?;
/// assert!(!seen.exists("counts")?);
/// # Ok::<(), kv::Error>(())
/// ```
#[derive(Debug)]
pub struct Bucket {
    name: String,
    bucket: host::Bucket,
}

/// Opens a bucket.
///
/// ```
/// use bireme_sdk::{kv, testing};
///
/// let _kv = testing::with_kv();
/// let counts = kv::open("counts")?;
/// counts.set_json("visits", &3_u32)?;
/// assert_eq!(counts.get_json::<u32>("visits")?, Some(3));
/// assert_eq!(counts.keys().collect::<Result<Vec<_>, _>>()?, ["visits"]);
/// counts.delete("visits")?;
/// assert!(!counts.exists("visits")?);
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// [`Error::Open`].
pub fn open(name: impl Into<String>) -> Result<Bucket, Error> {
    let name = name.into();
    match host::Bucket::open(&name) {
        Ok(bucket) => Ok(Bucket { name, bucket }),
        Err(fault) => Err(Error::Open { bucket: name, fault }),
    }
}

impl Bucket {
    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a value; `None` if the key does not exist or its value has expired.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bucket.get(key).map_err(|fault| self.key("read", key, fault))
    }

    /// Writes a value, replacing an earlier one and its time to live.
    ///
    /// A value computed from an earlier [`get`](Self::get) may undo the change of another call; use
    /// [`increment`](Self::increment), [`update`](Self::update) or [`compare_and_swap`](Self::compare_and_swap).
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let value = value.as_ref();
        let written = self.bucket.set(key, value);
        written.map_err(|fault| self.key("write", key, fault.refused_if(value.len() > VALUE_BYTES_MAX)))
    }

    /// Writes a value that expires after `ttl`, replacing an earlier one. Then the key is absent for every method.
    ///
    /// A later [`set`](Self::set) makes it a value that never expires; [`increment`](Self::increment),
    /// [`update`](Self::update) and [`compare_and_swap`](Self::compare_and_swap) change it and leave its time as it is.
    /// Times count in milliseconds, rounded up; the host removes the bytes within a minute or so.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use bireme_sdk::{kv, testing};
    ///
    /// let _kv = testing::with_kv();
    /// let attempts = kv::open("attempts")?;
    /// // At most 5 in a minute.
    /// attempts.set_with_ttl("ada", "0", Duration::from_secs(60))?;
    /// assert_eq!(attempts.increment("ada", 1)?, 1);
    /// testing::advance(Duration::from_secs(60));
    /// assert_eq!(attempts.get("ada")?, None);
    /// # Ok::<(), kv::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`], also for a `ttl` of zero.
    pub fn set_with_ttl(&self, key: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), Error> {
        let ttl_ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let value = value.as_ref();
        let over_limit = ttl_ms == 0 || value.len() > VALUE_BYTES_MAX;
        let written = self.bucket.set_expiring(key, value, ttl_ms);
        written.map_err(|fault| self.key("write", key, fault.refused_if(over_limit)))
    }

    /// Reads a value written by [`set_json`](Self::set_json); `None` if the key does not exist.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Json`].
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(json) = self.get(key)? else {
            return Ok(None);
        };
        serde_json::from_slice(&json).map(Some).map_err(|source| self.json(key, source))
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Json`].
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        let json = serde_json::to_vec(value).map_err(|source| self.json(key, source))?;
        self.set(key, json)
    }

    /// Writes a value as JSON that expires after `ttl`, as [`set_with_ttl`](Self::set_with_ttl) does.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Json`].
    pub fn set_json_with_ttl<T: Serialize + ?Sized>(&self, key: &str, value: &T, ttl: Duration) -> Result<(), Error> {
        let json = serde_json::to_vec(value).map_err(|source| self.json(key, source))?;
        self.set_with_ttl(key, json, ttl)
    }

    /// Removes a key; an absent one is not an error.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.bucket.delete(key).map_err(|fault| self.key("delete", key, fault))
    }

    /// Returns true if the key exists.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.bucket.exists(key).map_err(|fault| self.key("look up", key, fault))
    }

    /// Lists the keys, page by page, in no particular order. Ends at the first error.
    pub fn keys(&self) -> Keys<'_> {
        self.listed(host::Bucket::list_keys, String::new())
    }

    /// Lists the keys that begin with `prefix`, page by page, in the order of their bytes. Ends at the first error.
    ///
    /// Reads these keys alone, however many others the bucket has.
    ///
    /// ```
    /// use bireme_sdk::{kv, testing};
    ///
    /// let _kv = testing::with_kv();
    /// let names = kv::open("names")?;
    /// names.set_many([("user/ada", "Ada"), ("user/grace", "Grace"), ("ship/argo", "Argo")])?;
    /// let users: Vec<String> = names.keys_with_prefix("user/").collect::<Result<_, _>>()?;
    /// assert_eq!(users, ["user/ada", "user/grace"]);
    /// # Ok::<(), kv::Error>(())
    /// ```
    pub fn keys_with_prefix(&self, prefix: impl Into<String>) -> Keys<'_> {
        self.listed(host::Bucket::list_keys_with_prefix, prefix.into())
    }

    fn listed(&self, list: ListPage, prefix: String) -> Keys<'_> {
        Keys { bucket: self, list, prefix, page: VecDeque::new(), next: Next::First }
    }

    fn key(&self, action: &'static str, key: &str, fault: Fault) -> Error {
        let fault = fault.refused_if(key.len() > KEY_BYTES_MAX);
        Error::Key { action, bucket: self.name.clone(), key: key.to_owned(), fault }
    }

    fn json(&self, key: &str, source: serde_json::Error) -> Error {
        Error::Json { bucket: self.name.clone(), key: key.to_owned(), source }
    }
}

/// The keys of a bucket, or those with a prefix.
///
/// ```
/// use bireme_sdk::{kv, testing};
///
/// let _kv = testing::with_kv();
/// let seen = kv::open("seen")?;
/// seen.set("a", "1")?;
/// seen.set("b", "2")?;
/// assert_eq!(seen.keys().collect::<Result<Vec<_>, _>>()?, ["a", "b"]);
/// # Ok::<(), kv::Error>(())
/// ```
#[derive(Debug)]
pub struct Keys<'a> {
    bucket: &'a Bucket,
    /// By pointer, so that an app without prefixes does not import their interface, which older hosts do not have.
    list: ListPage,
    prefix: String,
    page: VecDeque<String>,
    next: Next,
}

type ListPage = fn(&host::Bucket, &str, Option<&str>) -> Result<KeyPage, Fault>;

#[derive(Debug, Clone)]
enum Next {
    First,
    After(String),
    End,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.pop_front() {
                return Some(Ok(key));
            }
            let cursor = match &self.next {
                Next::First => None,
                Next::After(cursor) => Some(cursor.as_str()),
                Next::End => return None,
            };
            match (self.list)(&self.bucket.bucket, &self.prefix, cursor) {
                Ok((keys, cursor)) => {
                    self.page = keys.into();
                    self.next = cursor.map_or(Next::End, Next::After);
                }
                Err(fault) => {
                    self.next = Next::End;
                    return Some(Err(Error::List { bucket: self.bucket.name.clone(), fault }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn keys_are_listed_over_several_pages() -> Result<(), Error> {
        let _kv = testing::with_kv();
        let bucket = open("pages")?;
        assert_eq!(bucket.keys().count(), 0);
        for n in 0..250 {
            bucket.set(&format!("{n:03}"), "x")?;
        }
        let keys: Vec<String> = bucket.keys().collect::<Result<_, _>>()?;
        assert_eq!(keys.len(), 250);
        assert_eq!(keys[249], "249");
        let keys: Vec<String> = bucket.keys_with_prefix("1").collect::<Result<_, _>>()?;
        assert_eq!((keys.len(), keys[0].as_str(), keys[99].as_str()), (100, "100", "199"));
        Ok(())
    }

    #[test]
    fn a_value_that_has_expired_is_absent_and_a_change_keeps_its_time() -> Result<(), Error> {
        let _kv = testing::with_kv();
        let bucket = open("short")?;
        let second = Duration::from_secs(1);
        bucket.set_with_ttl("n", "1", second)?;
        bucket.set_json_with_ttl("other", &[1], second)?;
        testing::advance(second / 2);
        assert_eq!(bucket.increment("n", 1)?, 2);
        assert!(bucket.compare_and_swap("n", Some(b"2"), "3")?.is_done());
        bucket.set("other", "stays")?;
        testing::advance(second / 2);
        assert_eq!(bucket.keys().collect::<Result<Vec<_>, _>>()?, ["other"]);
        assert_eq!(bucket.increment("n", 1)?, 1);
        let error = bucket.set_with_ttl("n", "1", Duration::ZERO).expect_err("no time");
        assert!(crate::Failure::from(error).to_string().contains("at least a millisecond"));
        bucket.set_with_ttl("n", "1", Duration::from_nanos(1))?;
        assert!(bucket.exists("n")?, "rounded up");
        Ok(())
    }

    #[test]
    fn what_is_over_a_limit_is_not_tried_again() -> Result<(), Error> {
        let _kv = testing::with_kv();
        let bucket = open("limits")?;
        let fault = || Fault::Other("no".to_owned());
        assert!(bucket.key("read", &"k".repeat(KEY_BYTES_MAX + 1), fault()).is_terminal());
        assert!(!bucket.key("read", &"k".repeat(KEY_BYTES_MAX), fault()).is_terminal());
        assert!(bucket.set_with_ttl("k", "v", Duration::ZERO).expect_err("no time").is_terminal());
        let keys = vec!["k".to_owned(); BATCH_KEYS_MAX + 1];
        assert!(bucket.batch("read", keys.iter(), 0, fault()).is_terminal());
        assert!(!bucket.batch("read", keys[1..].iter(), VALUE_BYTES_MAX, fault()).is_terminal());
        assert!(bucket.batch("write", keys[1..].iter(), VALUE_BYTES_MAX + 1, fault()).is_terminal());
        Ok(())
    }

    #[test]
    fn an_error_names_bucket_and_key() -> Result<(), Error> {
        assert_eq!(
            crate::Failure::from(open("pages").expect_err("there is no host")).to_string(),
            "cannot open bucket `pages`: there is no host in a native test; \
             give one with `bireme_sdk::testing::with_kv`"
        );
        let _kv = testing::with_kv();
        let bucket = open("pages")?;
        bucket.set("a", "not JSON")?;
        let error = bucket.get_json::<u32>("a").expect_err("it is no number");
        assert!(error.is_terminal());
        assert_eq!(error.to_string(), "the value of key `a` in bucket `pages` is no such JSON");
        Ok(())
    }
}
