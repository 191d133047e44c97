//! Time measured by the worker itself, in the unit of the wire.

use std::time::Instant;

/// Nanoseconds since `started`.
pub(super) fn nanoseconds_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
