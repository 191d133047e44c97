//! Guests' key-value data: buckets of an app, on an engine of `storage`.
//!
//! Not here: the WIT interfaces (`sandbox::imports::keyvalue`).
//!
//! Invariants: an app reads and writes its own buckets only (its name is the first part of every key); a `set` that
//! returned is durable.

mod atomics;
mod bucket;

pub use self::atomics::{Cas, Number, Swap};
pub use self::bucket::{Bucket, Buckets, KeyValueError, Keys};
