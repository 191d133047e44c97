//! Queue bounded in bytes, between producers that never wait and one consumer thread.
//!
//! Invariants: all waiting items together take at most `bytes_max`; one source takes at most as many bytes as stay
//! free, so a flood of one source leaves room for the others; an item that does not fit is counted as dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Items of several sources, oldest first.
pub(crate) struct ByteQueue<T> {
    bytes_max: usize,
    state: Mutex<QueueState<T>>,
    /// Notified when an item is added, or the queue is closed.
    filled: Condvar,
    /// Notified when the consumer is done with an item.
    consumed: Condvar,
}

struct QueueState<T> {
    items: VecDeque<Item<T>>,
    /// Bytes by source; a source without items has no entry.
    sources: HashMap<Arc<str>, usize>,
    bytes: usize,
    /// The item that the consumer works on, which still counts.
    in_use: Option<Charge>,
    dropped: DropCount,
    is_closed: bool,
    is_consumer_waiting: bool,
}

struct Charge {
    source: Arc<str>,
    bytes: usize,
}

struct Item<T> {
    charge: Charge,
    value: T,
}

/// Count of dropped items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DropCount {
    pub items: u64,
    pub bytes: u64,
}

impl<T> ByteQueue<T> {
    /// Makes a queue of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = QueueState {
            items: VecDeque::new(),
            sources: HashMap::new(),
            bytes: 0,
            in_use: None,
            dropped: DropCount::default(),
            is_closed: false,
            is_consumer_waiting: false,
        };
        Self { bytes_max, state: Mutex::new(state), filled: Condvar::new(), consumed: Condvar::new() }
    }

    /// Adds an item of `bytes` bytes unless its source or the queue is full. Never waits.
    pub(crate) fn offer(&self, source: &str, bytes: usize, value: T) -> bool {
        let mut state = self.state.lock();
        let free = self.bytes_max - state.bytes;
        let (source, used) = match state.sources.get_key_value(source) {
            Some((source, used)) => (source.clone(), *used),
            None => (source.into(), 0),
        };
        if state.is_closed || bytes > free || used + bytes > free - bytes {
            state.dropped.items += 1;
            state.dropped.bytes += bytes as u64;
            return false;
        }
        state.bytes += bytes;
        state.sources.insert(source.clone(), used + bytes);
        state.items.push_back(Item { charge: Charge { source, bytes }, value });
        let is_consumer_waiting = state.is_consumer_waiting;
        drop(state);
        if is_consumer_waiting {
            self.filled.notify_one();
        }
        true
    }

    /// Takes the next item, blocking until there is one; `None` once the queue is closed and empty. Frees the bytes of
    /// the item before it.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(value) = self.next(&mut state) {
                return Some(value);
            }
            if state.is_closed {
                return None;
            }
            state.is_consumer_waiting = true;
            self.filled.wait(&mut state);
            state.is_consumer_waiting = false;
        }
    }

    /// Takes the next item if there is one, like `take`.
    pub(crate) fn try_take(&self) -> Option<T> {
        self.next(&mut self.state.lock())
    }

    fn next(&self, state: &mut QueueState<T>) -> Option<T> {
        if let Some(Charge { source, bytes }) = state.in_use.take() {
            state.bytes -= bytes;
            if let Some(used) = state.sources.get_mut(&source) {
                *used -= bytes;
                if *used == 0 {
                    state.sources.remove(&source);
                }
            }
            self.consumed.notify_all();
        }
        let Item { charge, value } = state.items.pop_front()?;
        state.in_use = Some(charge);
        Some(value)
    }

    /// Returns the count of items dropped since the last call.
    pub(crate) fn take_dropped(&self) -> DropCount {
        std::mem::take(&mut self.state.lock().dropped)
    }

    /// Refuses further items. The consumer still gets the waiting ones.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.filled.notify_all();
    }

    /// Blocks until the consumer is done with every item, at most `patience`; returns whether it is done.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let is_busy = |state: &mut QueueState<T>| !state.items.is_empty() || state.in_use.is_some();
        let mut state = self.state.lock();
        self.consumed.wait_while_for(&mut state, is_busy, patience);
        !is_busy(&mut state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn items_come_in_order_and_end_with_the_queue() {
        let queue = ByteQueue::new(100);
        assert!(queue.offer("a", 1, 1) && queue.offer("b", 1, 2));
        queue.close();
        assert!(!queue.offer("a", 1, 3));
        assert_eq!([queue.take(), queue.take(), queue.take()], [Some(1), Some(2), None]);
        assert_eq!(queue.take_dropped(), DropCount { items: 1, bytes: 1 });
        assert_eq!(queue.take_dropped(), DropCount::default());
    }

    #[test]
    fn a_flood_leaves_room_for_another_source() {
        let queue = ByteQueue::new(100);
        let taken = (0..100).filter(|item| queue.offer("loud", 1, *item)).count();
        assert_eq!(taken, 50);
        assert_eq!((0..100).filter(|item| queue.offer("quiet", 1, *item)).count(), 25);
        assert!(queue.offer("third", 10, 0));
    }

    #[test]
    fn an_item_in_use_takes_its_room_until_the_next_one_is_taken() {
        let queue = ByteQueue::new(10);
        assert!(queue.offer("a", 5, 1));
        assert_eq!(queue.take(), Some(1));
        assert!(!queue.offer("a", 5, 2));
        assert_eq!(queue.try_take(), None);
        assert!(queue.offer("a", 5, 2));
    }

    #[test]
    fn flushing_gives_a_stuck_consumer_up() {
        let queue = ByteQueue::new(10);
        assert!(queue.flush(Duration::from_secs(60)));
        queue.offer("a", 1, 1);
        assert!(!queue.flush(Duration::from_millis(1)));
        assert_eq!(queue.take(), Some(1));
    }

    proptest! {
        #[test]
        fn bytes_are_bounded_and_all_given_back(steps in prop::collection::vec((0..4_u8, 0..60_usize), 0..200)) {
            let queue = ByteQueue::new(100);
            for (source, bytes) in steps {
                match source {
                    3 => drop(queue.try_take()),
                    _ => drop(queue.offer(["a", "b", "c"][source as usize], bytes, ())),
                }
                let state = queue.state.lock();
                let waiting: usize = state.items.iter().map(|item| item.charge.bytes).sum();
                let in_use = state.in_use.as_ref().map_or(0, |charge| charge.bytes);
                prop_assert_eq!(state.bytes, waiting + in_use);
                prop_assert_eq!(state.bytes, state.sources.values().sum::<usize>());
                prop_assert!(state.bytes <= 100);
                drop(state);
            }
            queue.close();
            while queue.take().is_some() {}
            prop_assert_eq!(queue.state.lock().bytes, 0);
            prop_assert!(queue.state.lock().sources.is_empty());
        }
    }
}
