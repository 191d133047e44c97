//! Members: the hosts of an engine, each start with an epoch of its own.

use super::{Answer, LeaseHolder};

/// Answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Time of the engine, in milliseconds since 1970.
    pub now_ms: u64,
}

/// Hosts of an engine.
pub(crate) trait Members: Send + Sync {
    /// Joins the engine, before anything is leased: leases of the starts before this one count as lost, and their
    /// writes are refused ([`super::ErrorKind::Fenced`]). A second call returns the same.
    fn join(&self) -> Answer<'_, LeaseHolder>;

    /// Says that this host lives. Refused as fenced once another start has taken its place.
    fn beat(&self) -> Answer<'_, Beat>;
}
