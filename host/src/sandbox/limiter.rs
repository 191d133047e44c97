//! Memory limit of one call.

use wasmtime::ResourceLimiter;

use crate::limits::TABLE_ELEMENTS_MAX;

/// The limit that stopped a guest. Travels inside the trap's error, so that the cause is known and not guessed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitExceeded {
    #[error("asked for {asked} bytes of memory, over the limit of {limit}")]
    Memory { asked: u64, limit: u64 },
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
    /// Largest sum so far, in bytes.
    pub peak: u64,
}

impl MemoryLimiter {
    /// Makes a limiter of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, allocated: 0, peak: 0 }
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
        self.allocated = asked;
        self.peak = self.peak.max(asked);
        Ok(true)
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
}
