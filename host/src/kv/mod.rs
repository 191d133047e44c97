//! Guests' key-value data: buckets of an app, on an engine of `storage`.
//!
//! Not here: the WIT interfaces (`sandbox::imports::keyvalue`).
//!
//! Invariants: an app reads and writes its own buckets only (its name is the first part of every key); a `set` that
//! returned is durable.

mod atomics;
mod bucket;

#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub use self::atomics::Cas;
pub(crate) use self::atomics::Swap;
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub use self::bucket::Bucket;
pub(crate) use self::bucket::{Buckets, KeyValueError};
