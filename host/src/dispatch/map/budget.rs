//! Memory budget of all maps of a host, whether their inputs come from memory or from the journal.
//!
//! A [`Reservation`] is the part of the budget that one owner holds, and returns what it holds when it is dropped. The
//! budget refuses, it does not wait: a refused map goes on when its own inputs end, or when [`MapMemory::freed`]
//! resolves. The owner decides what passes regardless; `window` lets one input and one outcome of each map pass, so no
//! set of maps can block itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Byte budget that maps share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct MapMemory(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_max: u64,
    used: AtomicU64,
    /// Notified when usage falls below `low`.
    freed: Notify,
}

impl Budget {
    /// Usage below which refused maps are woken, together: once for each time that the budget fills up.
    fn low(&self) -> u64 {
        self.bytes_max - self.bytes_max / 8
    }
}

impl MapMemory {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Budget { bytes_max, used: AtomicU64::new(0), freed: Notify::new() }))
    }

    /// A reservation of nothing, to grow later.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }

    /// Returns the bytes that are not reserved.
    pub(crate) fn left(&self) -> u64 {
        self.0.bytes_max.saturating_sub(self.used())
    }

    /// Returns the reserved bytes. They exceed the budget by what owners let pass.
    pub(crate) fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Largest reservation whose refusal is sure to be followed by a wake-up.
    pub(crate) fn step_max(&self) -> u64 {
        self.0.bytes_max - self.0.low()
    }

    /// Resolves when usage falls below seven eighths of the budget. Enable it before you ask, or a wake-up is lost.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }

    fn add(&self, bytes: u64) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn try_add(&self, bytes: u64) -> bool {
        let grown = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.0.bytes_max);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    fn sub(&self, bytes: u64) {
        let before = self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        let low = self.0.low();
        if before >= low && before - bytes < low {
            // Its lock orders the subtraction before what a waiter reads that is enabled later.
            self.0.freed.notify_waiters();
        }
    }
}

/// Bytes that are reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: MapMemory,
    bytes: u64,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn memory(&self) -> &MapMemory {
        &self.memory
    }

    /// Makes it this large, whether there is room or not.
    pub(crate) fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.memory.add(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.memory.sub(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Makes it this large if there is room; returns whether it did.
    #[must_use]
    pub(crate) fn try_set(&mut self, bytes: u64) -> bool {
        let has_room = bytes <= self.bytes || self.memory.try_add(bytes - self.bytes);
        match has_room {
            true if bytes > self.bytes => self.bytes = bytes,
            true => self.set(bytes),
            false => {}
        }
        has_room
    }

    /// Takes over the bytes of another reservation of the same budget.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_budget_refuses_and_wakes_once_it_has_room_again() {
        let memory = MapMemory::new(80);
        let (mut first, mut second) = (memory.reservation(), memory.reservation());
        assert!(first.try_set(75));
        let mut freed = pin!(memory.freed());
        freed.as_mut().enable();
        assert!(!second.try_set(6));
        assert!(second.try_set(5));
        first.set(66);
        assert!(freed.as_mut().now_or_never().is_none(), "71 of 80 are used");
        first.set(64);
        assert!(freed.now_or_never().is_some());
        second.set(100);
        assert_eq!((memory.used(), memory.left()), (164, 0));
        first.merge(second);
        assert_eq!((first.bytes(), memory.used()), (164, 164));
        drop(first);
        assert_eq!((memory.used(), memory.left()), (0, 80));
    }

    proptest! {
        /// Whatever is reserved, refused and dropped: usage is the sum of the reservations, and requests that may be
        /// refused never take it over the budget.
        #[test]
        fn usage_is_the_sum_of_the_reservations(steps in proptest::collection::vec((0_usize..4, 0_u64..60), 0..100)) {
            let memory = MapMemory::new(100);
            let mut reservations: Vec<_> = (0..4).map(|_| memory.reservation()).collect();
            for (owner, bytes) in steps {
                if bytes == 0 {
                    reservations[owner] = memory.reservation();
                } else {
                    let before = reservations[owner].bytes();
                    let is_set = reservations[owner].try_set(bytes);
                    prop_assert_eq!(reservations[owner].bytes(), if is_set { bytes } else { before });
                }
                prop_assert_eq!(memory.used(), reservations.iter().map(Reservation::bytes).sum::<u64>());
                prop_assert!(memory.used() <= 100);
            }
            drop(reservations);
            prop_assert_eq!(memory.used(), 0);
        }
    }
}
