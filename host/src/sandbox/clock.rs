//! Clocks and random numbers of a guest, through the boundary.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::TryRng;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use super::boundary::Import;
use super::call_context::CallContext;

/// Resolution of a guest's clocks. Coarser clocks make timing attacks on neighbours harder.
const RESOLUTION: Duration = Duration::from_micros(1);

/// The clocks of one call.
pub(crate) struct BoundaryClock(pub Arc<CallContext>);

impl HostWallClock for BoundaryClock {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        self.0.boundary.cross(Import::Clock, || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Duration::from_micros(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
        })
    }
}

impl HostMonotonicClock for BoundaryClock {
    fn resolution(&self) -> u64 {
        RESOLUTION.as_nanos() as u64
    }

    fn now(&self) -> u64 {
        self.0.boundary.cross(Import::Clock, || {
            // Counted from the start of the call, which hides the host's uptime from the guest.
            let micros = Instant::now().saturating_duration_since(self.0.started).as_micros();
            u64::try_from(micros).unwrap_or(u64::MAX) * 1_000
        })
    }
}

/// A cryptographic generator seeded by the operating system, one per thread, so that a call seeds nothing.
pub(crate) struct BoundaryRandom(pub Arc<CallContext>);

impl TryRng for BoundaryRandom {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.0.boundary.cross(Import::Random, || rand::rng().try_next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0.boundary.cross(Import::Random, || rand::rng().try_next_u64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        self.0.boundary.cross(Import::Random, || rand::rng().try_fill_bytes(dst))
    }
}
