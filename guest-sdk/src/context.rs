//! Context of the running call: its identity, its remaining time.

use std::time::Duration;

use crate::host;

/// Identity of a call.
///
/// ```
/// use bireme_sdk::context::{self, Call};
///
/// let Call { function, attempt, .. } = context::current();
/// assert_eq!((function.as_str(), attempt), ("", 1)); // outside of any call
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The app's name.
    pub app: String,
    /// The function's name.
    pub function: String,
    /// Version of the deployed app: the first 12 hex digits of its component's SHA-256.
    pub version: String,
    /// Unique on its host, sortable by time (UUID version 7).
    pub call_id: String,
    /// 1 for the first attempt.
    pub attempt: u32,
}

/// Returns the identity of the running call. In a native test, outside of any call, the function is empty.
///
/// ```
/// let call = bireme_sdk::context::current();
/// assert_eq!(call.attempt, 1);
/// ```
pub fn current() -> Call {
    host::current()
}

/// Returns the time until the call's deadline; zero once it has passed. A native test has no deadline.
///
/// ```
/// if bireme_sdk::context::remaining() < std::time::Duration::from_millis(50) {
///     // too late to begin another page
/// }
/// ```
pub fn remaining() -> Duration {
    host::remaining()
}
