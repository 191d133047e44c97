//! A size-class allocator for device memory: free pieces by size, under a budget. Decides; `memory` acts.
//!
//! Invariants: pieces in use and free pieces together never exceed the budget; a piece is given out once.

use std::collections::BTreeMap;

/// The pieces of one device.
#[derive(Debug)]
pub(super) struct SizeClassAllocator {
    budget: usize,
    in_use: usize,
    free_bytes: usize,
    /// Addresses by the size of their piece.
    free: BTreeMap<usize, Vec<u64>>,
}

/// The way to a piece of memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// A free piece, with its size.
    Reuse { address: u64, bytes: usize },
    /// A new piece of this size; `SizeClassAllocator::add` when it is there. Free pieces of `release` bytes must go
    /// first.
    Allocate { bytes: usize, release: usize },
    /// More than the budget, even if all free pieces are released.
    Full,
}

/// Alignment of a driver, and the smallest piece.
const PIECE_BYTES_MIN: usize = 512;

/// Sizes between a power of two and the next, so that a piece wastes an eighth at most.
const STEPS: usize = 8;

impl SizeClassAllocator {
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, in_use: 0, free_bytes: 0, free: BTreeMap::new() }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Placement {
        let Some(bytes) = piece(bytes).filter(|&bytes| bytes <= self.budget) else {
            return Placement::Full;
        };
        // A piece up to twice as large serves as well: lengths vary from batch to batch.
        let fits = self.free.range(bytes..=bytes.saturating_mul(2)).next().map(|(&bytes, _)| bytes);
        if let Some(bytes) = fits {
            let address = self.pop(bytes);
            self.in_use += bytes;
            return Placement::Reuse { address, bytes };
        }
        if self.in_use + bytes > self.budget {
            return Placement::Full;
        }
        Placement::Allocate { bytes, release: (self.in_use + self.free_bytes + bytes).saturating_sub(self.budget) }
    }

    /// Records a new piece that is in use.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.in_use += bytes;
    }

    /// Takes a piece back for reuse.
    pub(crate) fn give(&mut self, address: u64, bytes: usize) {
        self.in_use -= bytes;
        self.free_bytes += bytes;
        self.free.entry(bytes).or_default().push(address);
    }

    /// Removes free pieces of at least `bytes` together, the largest first, and returns their addresses.
    pub(crate) fn release(&mut self, bytes: usize) -> Vec<u64> {
        let (mut released, mut addresses) = (0, Vec::new());
        while released < bytes
            && let Some(&largest) = self.free.keys().next_back()
        {
            addresses.push(self.pop(largest));
            released += largest;
        }
        addresses
    }

    fn pop(&mut self, bytes: usize) -> u64 {
        let pieces = self.free.get_mut(&bytes).expect("a size that is listed");
        let address = pieces.pop().expect("a size is listed while it has pieces");
        if pieces.is_empty() {
            self.free.remove(&bytes);
        }
        self.free_bytes -= bytes;
        address
    }

    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Returns the bytes of free pieces.
    pub(crate) fn free_bytes(&self) -> usize {
        self.free_bytes
    }
}

/// Returns the size class that holds `bytes`; none on overflow.
fn piece(bytes: usize) -> Option<usize> {
    let step = (bytes.max(1).checked_next_power_of_two()? / (2 * STEPS)).max(PIECE_BYTES_MIN);
    bytes.max(1).checked_next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_piece_wastes_an_eighth_at_most() {
        for bytes in (1..1 << 20).step_by(997) {
            let piece = piece(bytes).unwrap();
            assert!(
                piece >= bytes && (piece - bytes <= bytes / 8 || piece - bytes < PIECE_BYTES_MIN),
                "{bytes}: {piece}"
            );
        }
        assert_eq!(piece(0), Some(512));
        assert_eq!(piece(usize::MAX), None);
    }

    #[test]
    fn what_is_given_back_is_given_out_again() {
        let mut allocator = SizeClassAllocator::new(1 << 20);
        assert_eq!(allocator.take(1000), Placement::Allocate { bytes: 1024, release: 0 });
        allocator.add(1024);
        allocator.give(7, 1024);
        // Twice as much as needed is fine, more is waste.
        assert_eq!(allocator.take(400), Placement::Reuse { address: 7, bytes: 1024 });
        allocator.give(7, 1024);
        assert_eq!(allocator.take(1025), Placement::Allocate { bytes: 1536, release: 0 });
    }

    #[test]
    fn a_full_budget_first_releases_what_is_free() {
        let mut allocator = SizeClassAllocator::new(4096);
        for address in 0..4 {
            allocator.add(1024);
            if address > 1 {
                allocator.give(address, 1024);
            }
        }
        assert_eq!(allocator.take(2048), Placement::Allocate { bytes: 2048, release: 2048 });
        assert_eq!(allocator.release(2048), [3, 2]);
        allocator.add(2048);
        assert_eq!((allocator.in_use(), allocator.free_bytes()), (4096, 0));
        assert_eq!(allocator.take(1), Placement::Full);
        assert_eq!(allocator.take(usize::MAX), Placement::Full);
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_no_piece_is_given_out_twice(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..20_000), 1..200),
        ) {
            let mut allocator = SizeClassAllocator::new(64 << 10);
            let mut held: HashMap<u64, usize> = HashMap::new();
            let mut driver: HashMap<u64, usize> = HashMap::new();
            let mut next = 0;
            for (takes, size) in steps {
                if !takes {
                    if let Some(address) = held.keys().copied().min_by_key(|address| (address ^ size as u64, *address)) {
                        allocator.give(address, held.remove(&address).unwrap());
                    }
                    continue;
                }
                let (address, bytes) = match allocator.take(size) {
                    Placement::Reuse { address, bytes } => (address, bytes),
                    Placement::Allocate { bytes, release } => {
                        for address in allocator.release(release) {
                            prop_assert!(driver.remove(&address).is_some() && !held.contains_key(&address));
                        }
                        allocator.add(bytes);
                        next += 1;
                        driver.insert(next, bytes);
                        (next, bytes)
                    }
                    Placement::Full => {
                        prop_assert!(allocator.in_use() + size > allocator.budget() - allocator.budget() / 8);
                        continue;
                    }
                };
                prop_assert!(bytes >= size);
                prop_assert_eq!(driver.get(&address), Some(&bytes));
                prop_assert!(held.insert(address, bytes).is_none());
                prop_assert!(driver.values().sum::<usize>() <= allocator.budget());
                prop_assert_eq!(held.values().sum::<usize>(), allocator.in_use());
            }
        }
    }
}
