//! Key-value data of apps. Values themselves are the bodies of requests and answers, as raw bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Page of the buckets of an app, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BucketList {
    pub buckets: Vec<String>,
    /// `after` of the next page; null on the last.
    pub next: Option<String>,
}

/// Page of the keys of a bucket, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct KeyList {
    pub keys: Vec<String>,
    /// `after` of the next page; null on the last. A page before the last may be empty.
    pub next: Option<String>,
}

/// A value that was set or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ValueChanged {
    pub bucket: String,
    pub key: String,
    /// Bytes of the new value; null for one that was deleted.
    pub bytes: Option<u64>,
}
