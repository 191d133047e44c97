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
pub(crate) trait KeyValue: Send + Sync {
    fn get<'a>(&'a self, place: Place<'a>) -> Answer<'a, Option<Bytes>>;

    fn exists<'a>(&'a self, place: Place<'a>) -> Answer<'a, bool>;

    fn set<'a>(&'a self, place: Place<'a>, value: Bytes) -> Answer<'a, ()>;

    /// Removes a value. One that is not there is no error.
    fn delete<'a>(&'a self, place: Place<'a>) -> Answer<'a, ()>;

    /// Returns up to `limit` keys of a bucket in byte order, those behind `after`.
    fn keys<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Vec<String>>;

    /// Replaces the value if it is `expected` (none: absent). Returns whether it did.
    fn swap<'a>(&'a self, place: Place<'a>, expected: Option<Bytes>, value: Bytes) -> Answer<'a, bool>;

    /// Adds to a number.
    fn increment<'a>(&'a self, place: Place<'a>, increment: Increment) -> Answer<'a, Incremented>;
}
