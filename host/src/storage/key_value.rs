//! Key-value data of apps: buckets of byte strings.

use bytes::Bytes;

use super::Answer;
use crate::ids::AppName;

/// Place of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub app: &'a AppName,
    /// Name of the bucket, without NUL.
    pub bucket: &'a str,
    pub key: &'a str,
}

/// Request for a page of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyQuery<'a> {
    pub app: &'a AppName,
    pub bucket: &'a str,
    /// Start of each key.
    pub prefix: &'a str,
    /// Only keys behind this one, which need not exist.
    pub after: Option<&'a str>,
    pub len_max: usize,
    /// Bytes of the keys together; one key is always within.
    pub bytes_max: usize,
}

/// Page of keys, or of names of buckets, in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyPage {
    pub keys: Vec<String>,
    /// `after` of the next page; `None` on the last. A page before the last may be empty.
    pub next: Option<String>,
}

/// Addition to a number in decimal text; an absent value counts as 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Increment {
    pub delta: i128,
    /// Bounds of the sum, both included.
    pub min: i128,
    pub max: i128,
}

/// Result of an increment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incremented {
    Sum(i128),
    /// The value is no whole number in decimal text; nothing was changed.
    NotANumber,
    /// The sum is out of bounds; nothing was changed.
    Overflow {
        value: i128,
    },
}

/// Key-value data of an engine.
///
/// A value whose time to live is over is absent for each method, from that millisecond of the engine's clock on;
/// `expire` removes it later.
pub(crate) trait KeyValue: Send + Sync {
    /// Returns the time of the engine, in milliseconds since 1970.
    fn now_ms(&self) -> u64;

    fn get<'a>(&'a self, place: Place<'a>) -> Answer<'a, Option<Bytes>>;

    fn exists<'a>(&'a self, place: Place<'a>) -> Answer<'a, bool>;

    /// Returns the values of several keys of a bucket at one moment; `None` over `bytes_max` of values.
    fn get_many<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        keys: &'a [String],
        bytes_max: usize,
    ) -> Answer<'a, Option<Vec<Option<Bytes>>>>;

    /// Sets a value, which expires at `expires_ms` of the engine's clock; without one, never.
    fn set<'a>(&'a self, place: Place<'a>, value: Bytes, expires_ms: Option<u64>) -> Answer<'a, ()>;

    /// Sets values of a bucket that never expire. The last of two values for one key holds.
    fn set_many<'a>(&'a self, app: &'a AppName, bucket: &'a str, values: Vec<(String, Bytes)>) -> Answer<'a, ()>;

    /// Removes a value. One that is not there is no error.
    fn delete<'a>(&'a self, place: Place<'a>) -> Answer<'a, ()>;

    fn delete_many<'a>(&'a self, app: &'a AppName, bucket: &'a str, keys: &'a [String]) -> Answer<'a, ()>;

    /// Returns a page of the keys of a bucket.
    fn keys<'a>(&'a self, query: KeyQuery<'a>) -> Answer<'a, KeyPage>;

    /// Returns a page of the buckets of an app that have a key, up to `len_max` names behind `after`. A bucket whose
    /// values have all expired may still be among them.
    fn buckets<'a>(&'a self, app: &'a AppName, after: Option<&'a str>, len_max: usize) -> Answer<'a, KeyPage>;

    /// Replaces the value if it is `expected` (none: absent); its time to live goes on. Returns whether it did.
    fn swap<'a>(&'a self, place: Place<'a>, expected: Option<Bytes>, value: Bytes) -> Answer<'a, bool>;

    /// Adds to a number, whose time to live goes on.
    fn increment<'a>(&'a self, place: Place<'a>, increment: Increment) -> Answer<'a, Incremented>;

    /// Removes a step of the values that have expired. Returns whether there may be more.
    fn expire(&self) -> Answer<'_, bool>;
}
