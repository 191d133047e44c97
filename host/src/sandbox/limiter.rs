//! Memory limit of one call, within the host's budget of memory for sandboxes.

use wasmtime::ResourceLimiter;

use crate::budgets::Reservation;
use crate::limits::TABLE_ELEMENTS_MAX;

/// Bytes by which a reservation grows, so that most calls ask the shared budget once.
const RESERVATION_STEP_BYTES: u64 = 2 << 20;

/// The limit that stopped a guest. Travels inside the trap's error, so that the cause is known and not guessed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitExceeded {
    #[error("asked for {asked} bytes of memory, over the limit of {limit}")]
    Memory { asked: u64, limit: u64 },
    #[error("asked for {asked} bytes of memory, and the host has no more for its app")]
    HostMemory { asked: u64 },
    #[error("asked for a table of {asked} elements, over the limit of {TABLE_ELEMENTS_MAX}")]
    Table { asked: usize },
    #[error("the deadline passed")]
    Deadline,
}

/// Sum of one instance's linear memories, its tables, and the bytes that the host holds for it.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit: u64,
    allocated: u64,
    /// Part of the host's memory; none for a guest that runs before its app is known.
    reserved: Option<Reservation>,
    /// Largest sum so far, in bytes.
    pub peak: u64,
}

impl MemoryLimiter {
    /// Makes a limiter of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, allocated: 0, reserved: None, peak: 0 }
    }

    /// Makes a limiter of `limit` bytes that takes them from the host's budget as well.
    pub(crate) fn within(reserved: Reservation, limit: u64) -> Self {
        Self { reserved: Some(reserved), ..Self::new(limit) }
    }

    /// Ends the limit, once the guest's own code has run.
    pub(crate) fn lift(&mut self) {
        self.limit = u64::MAX;
    }

    /// Counts bytes that the host holds on the guest's behalf; an error if they are over the limit.
    pub(crate) fn hold(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.grow(0, bytes).map(drop)
    }

    /// Uncounts bytes that `hold` counted.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.allocated = self.allocated.saturating_sub(bytes as u64);
    }

    fn grow(&mut self, current: usize, desired: usize) -> wasmtime::Result<bool> {
        let asked = self.allocated + desired.saturating_sub(current) as u64;
        if asked > self.limit {
            // An error rather than `false`, which a guest would turn into an abort without a reason.
            return Err(LimitExceeded::Memory { asked, limit: self.limit }.into());
        }
        if !self.reserve(asked) {
            return Err(LimitExceeded::HostMemory { asked }.into());
        }
        self.allocated = asked;
        self.peak = self.peak.max(asked);
        Ok(true)
    }
}

impl MemoryLimiter {
    fn reserve(&mut self, bytes: u64) -> bool {
        let Some(reserved) = &mut self.reserved else { return true };
        bytes <= reserved.bytes()
            || reserved.try_set(bytes.next_multiple_of(RESERVATION_STEP_BYTES))
            || reserved.try_set(bytes)
    }
}

/// Bytes of one table element on the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(current, desired)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            return Err(LimitExceeded::Table { asked: desired }.into());
        }
        // Tables are host memory, so they count as well.
        self.grow(current * TABLE_ELEMENT_BYTES, desired * TABLE_ELEMENT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budgets::{ByteBudget, Holder, HolderCount};

    #[test]
    fn memories_count_together() {
        let mut limiter = MemoryLimiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 30, None).unwrap());
        assert!(limiter.memory_growing(30, 40, None).unwrap());
        let refused = limiter.memory_growing(60, 61, None).unwrap_err();
        assert!(matches!(refused.downcast_ref(), Some(LimitExceeded::Memory { asked: 101, limit: 100 })));
        assert_eq!(limiter.peak, 100);
    }

    #[test]
    fn a_call_takes_memory_that_the_host_has_and_gives_it_back() {
        let budget = ByteBudget::new(10 << 20, HolderCount::single());
        let mut first = MemoryLimiter::within(budget.reservation(Holder::Host), 1 << 30);
        let mut second = MemoryLimiter::within(budget.reservation(Holder::Host), 1 << 30);
        assert!(first.memory_growing(0, (6 << 20) + 1, None).unwrap());
        assert_eq!(budget.used(), 8 << 20);
        assert!(second.memory_growing(0, 1, None).unwrap());
        let refused = second.memory_growing(1, 3 << 20, None).unwrap_err();
        assert!(matches!(refused.downcast_ref(), Some(LimitExceeded::HostMemory { asked: 3_145_728 })));
        drop(first);
        assert!(second.memory_growing(1, 3 << 20, None).unwrap());
        drop(second);
        assert_eq!(budget.used(), 0);
    }
}
