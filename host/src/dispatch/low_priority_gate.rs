//! Low-priority gate: a bound on the tasks of batch work that are polled at a time. A plain decider.
//!
//! A guest that computes is polled for a tick at a time, and a map has dozens of them: in the runtime's own queue,
//! first in, first out, everybody else would wait behind all. So they wait here, in their order, and as many are
//! polled as the runtime has threads; one fewer while others are active, so that there is a thread that is free,
//! which also keeps an eye on the sockets. One is always polled, so nobody starves, and whoever leaves lets the next
//! ones in: there is no timer.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Others count as active for so long after they were last polled. Longer: more of their calls find a free thread.
/// Shorter: batch work has all threads again sooner.
const ACTIVE_FOR: Duration = Duration::from_millis(50);

/// A task of batch work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskId(u64);

/// The tasks that are polled, and those that wait for it. `W` is what wakes one.
#[derive(Debug)]
pub(crate) struct LowPriorityGate<W> {
    threads: usize,
    /// Those that may be polled: they are, or have been told and come.
    inside: HashSet<TaskId>,
    /// By when they came.
    waiting: BTreeMap<u64, (TaskId, W)>,
    /// Where each stands in `waiting`.
    places: std::collections::HashMap<TaskId, u64>,
    next: u64,
}

impl<W> LowPriorityGate<W> {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
            inside: HashSet::new(),
            waiting: BTreeMap::new(),
            places: Default::default(),
            next: 0,
        }
    }

    /// Names a task.
    pub(crate) fn name(&mut self) -> TaskId {
        self.next += 1;
        TaskId(self.next)
    }

    /// A task is about to be polled; `idle` is how long ago others were last active. Returns whether it may; if not,
    /// it waits in line, and `wake` is returned by a later `leave`.
    pub(crate) fn enter(&mut self, task: TaskId, idle: Duration, wake: impl FnOnce() -> W) -> bool {
        if self.inside.contains(&task) {
            return true;
        }
        if let Some(place) = self.places.get(&task) {
            // It was polled for another reason, perhaps by another waker.
            self.waiting.insert(*place, (task, wake()));
            return false;
        }
        if self.waiting.is_empty() && self.inside.len() < self.room(idle) {
            return self.inside.insert(task);
        }
        self.next += 1;
        self.places.insert(task, self.next);
        self.waiting.insert(self.next, (task, wake()));
        false
    }

    /// A task was polled, or is gone, wherever it stood. Returns those that are to be woken: they may be polled now.
    pub(crate) fn leave(&mut self, task: TaskId, idle: Duration) -> Vec<W> {
        self.inside.remove(&task);
        if let Some(place) = self.places.remove(&task) {
            self.waiting.remove(&place);
        }
        let mut woken = Vec::new();
        while self.inside.len() < self.room(idle) {
            let Some((_, (task, wake))) = self.waiting.pop_first() else { break };
            self.places.remove(&task);
            self.inside.insert(task);
            woken.push(wake);
        }
        woken
    }

    /// How many may be polled at a time.
    fn room(&self, idle: Duration) -> usize {
        let kept_free = usize::from(idle < ACTIVE_FOR);
        (self.threads - kept_free).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_secs(1);
    const ACTIVE: Duration = Duration::ZERO;

    fn tasks<const N: usize>(gate: &mut LowPriorityGate<usize>) -> [TaskId; N] {
        std::array::from_fn(|_| gate.name())
    }

    #[test]
    fn as_many_are_polled_as_there_are_threads_and_the_others_in_their_order() {
        let mut gate = LowPriorityGate::new(2);
        let [a, b, c, d] = tasks(&mut gate);
        assert!(gate.enter(a, IDLE, || 0));
        assert!(gate.enter(b, IDLE, || 1));
        assert!(!gate.enter(c, IDLE, || 2));
        assert!(!gate.enter(d, IDLE, || 3));
        assert_eq!(gate.leave(b, IDLE), [2]);
        // It has been told, and may be polled whenever it comes.
        assert!(gate.enter(c, IDLE, || 2));
        assert!(!gate.enter(b, IDLE, || 1));
        assert_eq!(gate.leave(a, IDLE), [3]);
        assert_eq!(gate.leave(d, IDLE), [1]);
    }

    #[test]
    fn a_thread_is_kept_free_while_others_are_active() {
        let mut gate = LowPriorityGate::new(2);
        let [a, b, c] = tasks(&mut gate);
        assert!(gate.enter(a, ACTIVE, || 0));
        assert!(!gate.enter(b, ACTIVE, || 1));
        assert!(!gate.enter(c, ACTIVE, || 2));
        assert_eq!(gate.leave(a, ACTIVE), [1]);
        assert_eq!(gate.leave(b, IDLE), [2]);
        // Both threads again.
        assert!(gate.enter(a, IDLE, || 0));
        assert_eq!(gate.leave(c, ACTIVE), [0; 0]);
        // What is being polled when others come is not cut off.
        assert!(gate.enter(a, ACTIVE, || 0));
    }

    #[test]
    fn one_is_polled_on_a_single_thread() {
        let mut gate = LowPriorityGate::new(1);
        let [a, b] = tasks(&mut gate);
        assert!(gate.enter(a, ACTIVE, || 0));
        assert!(!gate.enter(b, ACTIVE, || 1));
        assert_eq!(gate.leave(a, ACTIVE), [1]);
    }

    #[test]
    fn a_task_that_is_dropped_after_it_was_told_lets_the_next_one_in() {
        let mut gate = LowPriorityGate::new(1);
        let [a, b, c, d] = tasks(&mut gate);
        assert!(gate.enter(a, IDLE, || 0));
        for (task, wake) in [(b, 1), (c, 2), (d, 3)] {
            assert!(!gate.enter(task, IDLE, || wake));
        }
        assert_eq!(gate.leave(c, IDLE), [0; 0]);
        assert_eq!(gate.leave(a, IDLE), [1]);
        assert_eq!(gate.leave(b, IDLE), [3]);
        // The newest waker of a task that waits is the one that counts.
        assert!(!gate.enter(a, IDLE, || 0));
        assert!(!gate.enter(a, IDLE, || 9));
        assert_eq!(gate.leave(d, IDLE), [9]);
    }

    proptest! {
        /// Tasks come, are polled, and are dropped at any time: never more than allowed, all that wait are told in
        /// the end, and nothing is left behind.
        #[test]
        fn nobody_waits_while_nobody_is_polled(threads in 1usize..5, steps in proptest::collection::vec((0usize..8, any::<bool>(), any::<bool>()), 1..200)) {
            let mut gate = LowPriorityGate::new(threads);
            let names: [TaskId; 8] = tasks(&mut gate);
            let mut waiting: Vec<usize> = Vec::new();
            for (task, is_active, leaves) in steps {
                let idle = if is_active { ACTIVE } else { IDLE };
                if leaves {
                    waiting.retain(|other| *other != task);
                    for woken in gate.leave(names[task], idle) {
                        prop_assert_eq!(waiting.remove(0), woken);
                    }
                } else if !gate.enter(names[task], idle, || task) && !waiting.contains(&task) {
                    waiting.push(task);
                }
                prop_assert!(gate.inside.len() <= threads);
                prop_assert!(waiting.is_empty() || !gate.inside.is_empty());
            }
            for task in names {
                gate.leave(task, IDLE);
            }
            prop_assert!(gate.inside.is_empty() && gate.waiting.is_empty() && gate.places.is_empty());
        }
    }
}
