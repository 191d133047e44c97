//! Limits of outbound requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Upper bound of every timeout of a request. A function may ask for any number.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The host's limits for all functions together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboundLimits {
    /// Bytes of one response body. 64 MiB.
    pub body_bytes_max: u64,
    /// Headers of one response. 100.
    pub headers_max: usize,
    /// Bytes of one response's head. 64 KiB; at least 8 KiB, the size of the read buffer.
    pub head_bytes_max: usize,
    /// Time for name resolution, TCP and TLS together. 5 s.
    pub connect_max: Duration,
    /// Connections of the host, idle ones included. 1,024.
    pub connections_max: usize,
    /// Idle connections of one app to one origin. 16.
    pub idle_per_origin_max: usize,
    /// Idle connections in all. 256.
    pub idle_total_max: usize,
    /// Idle time of a connection. 30 s.
    pub idle_max: Duration,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            headers_max: 100,
            head_bytes_max: 64 << 10,
            connect_max: Duration::from_secs(5),
            connections_max: 1_024,
            idle_per_origin_max: 16,
            idle_total_max: 256,
            idle_max: Duration::from_secs(30),
        }
    }
}

/// Timeouts of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// For name resolution, TCP and TLS together; the host's `connect_max` bounds it further.
    pub connect: Duration,
    /// From the start of the request, its body included, until the response's head.
    pub first_byte: Duration,
    /// Between two pieces of the response's body, while a reader waits.
    pub between_bytes: Duration,
}

impl Default for Timeouts {
    /// 5 s, 30 s, 30 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            between_bytes: Duration::from_secs(30),
        }
    }
}

impl Timeouts {
    /// Returns the timeouts, bounded by the host's limits and by `TIMEOUT_MAX`.
    pub(super) fn within(self, limits: &OutboundLimits) -> Self {
        Self {
            connect: self.connect.min(limits.connect_max).min(TIMEOUT_MAX),
            first_byte: self.first_byte.min(TIMEOUT_MAX),
            between_bytes: self.between_bytes.min(TIMEOUT_MAX),
        }
    }
}

/// Concurrent connections of one call, 16 by default; clones share them.
///
/// A request over the budget waits, without a timeout of its own, until another of the same call ends or the call's
/// deadline drops it: the call competes with itself alone.
#[derive(Clone, Debug)]
pub(crate) struct CallBudget {
    connections: Arc<Semaphore>,
}

impl CallBudget {
    /// Creates the budget of one call.
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { connections: Arc::new(Semaphore::new(connections_max)) }
    }

    /// Waits for one connection of the budget.
    pub(super) async fn acquire(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }
}

impl Default for CallBudget {
    fn default() -> Self {
        Self::new(16)
    }
}
