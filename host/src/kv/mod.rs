//! Guests' key-value data: buckets of an app, on `store`.
//!
//! Not here: the WIT interfaces (`sandbox::imports::keyvalue`).
//!
//! Invariants: an app reads and writes its own buckets only (its name is the first part of every key); a `set` that
//! returned is on disk. The database opens at the first use, so an app without data needs no data directory.

mod atomics;
mod bucket;

pub use self::atomics::{Cas, Number, Swap};
pub use self::bucket::{Bucket, KeyValue, KeyValueError, Keys};
