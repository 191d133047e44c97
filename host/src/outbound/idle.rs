//! Idle connections: choice of the one to reuse, and of the one to close.
//!
//! A plain value: the time goes in, connections come out. The newest connection of a key is taken first, because its
//! server is the least likely to have closed it.
//!
//! Invariants: no key holds more than `per_key_max`, all together no more than `total_max`; nothing older than
//! `age_max` is taken.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Idle connections of type `C`, by keys of type `K`.
#[derive(Debug)]
pub(super) struct IdleConnections<K, C> {
    /// Oldest first under each key; no key is empty.
    by_key: HashMap<K, VecDeque<(Instant, C)>>,
    len: usize,
    per_key_max: usize,
    total_max: usize,
    age_max: Duration,
}

impl<K: Clone + Eq + Hash, C> IdleConnections<K, C> {
    /// Makes an empty set with these bounds.
    pub(super) fn new(per_key_max: usize, total_max: usize, age_max: Duration) -> Self {
        Self { by_key: HashMap::new(), len: 0, per_key_max, total_max, age_max }
    }

    /// Keeps `connection`, and returns the one displaced by it, possibly itself.
    pub(super) fn put(&mut self, key: K, connection: C, now: Instant) -> Option<C> {
        if self.per_key_max == 0 || self.total_max == 0 {
            return Some(connection);
        }
        let displaced = if self.by_key.get(&key).map_or(0, VecDeque::len) >= self.per_key_max {
            self.pop_oldest(&key)
        } else if self.len >= self.total_max {
            self.evict_oldest()
        } else {
            None
        };
        self.by_key.entry(key).or_default().push_back((now, connection));
        self.len += 1;
        displaced
    }

    /// Takes the newest connection under `key`.
    pub(super) fn take(&mut self, key: &K, now: Instant) -> Option<C> {
        let queue = self.by_key.get_mut(key)?;
        let (since, _) = queue.back()?;
        if *since + self.age_max <= now {
            // So are the older ones; `expire` removes them.
            return None;
        }
        let (_, connection) = queue.pop_back()?;
        self.len -= 1;
        if queue.is_empty() {
            self.by_key.remove(key);
        }
        Some(connection)
    }

    /// Takes the oldest connection of all, to make room for another.
    fn evict_oldest(&mut self) -> Option<C> {
        self.evict_oldest_where(|_| true)
    }

    /// Takes the oldest connection under keys that `may_go`, to make room for another.
    pub(super) fn evict_oldest_where(&mut self, may_go: impl Fn(&K) -> bool) -> Option<C> {
        let keys = self.by_key.iter().filter(|(key, _)| may_go(key));
        let fronts = keys.filter_map(|(key, queue)| Some((key, queue.front()?.0)));
        let key = fronts.min_by_key(|(_, since)| *since)?.0.clone();
        self.pop_oldest(&key)
    }

    /// Removes and returns connections older than `age_max` at `now`.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<C> {
        let mut expired = Vec::new();
        for queue in self.by_key.values_mut() {
            while queue.front().is_some_and(|(since, _)| *since + self.age_max <= now) {
                expired.extend(queue.pop_front().map(|(_, connection)| connection));
            }
        }
        self.by_key.retain(|_, queue| !queue.is_empty());
        self.len -= expired.len();
        expired
    }

    /// Returns the time at which `expire` next has something to remove.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let fronts = self.by_key.values().filter_map(VecDeque::front);
        fronts.map(|(since, _)| *since + self.age_max).min()
    }

    fn pop_oldest(&mut self, key: &K) -> Option<C> {
        let queue = self.by_key.get_mut(key)?;
        let (_, connection) = queue.pop_front()?;
        self.len -= 1;
        if queue.is_empty() {
            self.by_key.remove(key);
        }
        Some(connection)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGE: Duration = Duration::from_secs(30);

    fn idle() -> (IdleConnections<&'static str, u32>, Instant) {
        (IdleConnections::new(2, 3, AGE), Instant::now())
    }

    #[test]
    fn the_newest_is_taken_first_and_only_under_its_own_key() {
        let (mut idle, t) = idle();
        idle.put("a", 1, t);
        idle.put("a", 2, t);
        assert_eq!(idle.take(&"b", t), None);
        assert_eq!(idle.take(&"a", t), Some(2));
        assert_eq!(idle.take(&"a", t), Some(1));
        assert_eq!(idle.take(&"a", t), None);
    }

    #[test]
    fn a_full_key_and_a_full_set_lose_their_oldest() {
        let (mut idle, t) = idle();
        let at = |s| t + Duration::from_secs(s);
        assert_eq!(idle.put("a", 1, at(0)), None);
        assert_eq!(idle.put("a", 2, at(1)), None);
        assert_eq!(idle.put("a", 3, at(2)), Some(1));
        assert_eq!(idle.put("b", 4, at(3)), None);
        assert_eq!(idle.put("c", 5, at(4)), Some(2));
        assert_eq!(idle.evict_oldest_where(|key| *key == "z"), None);
        assert_eq!(idle.evict_oldest_where(|key| *key == "a"), Some(3));
        assert_eq!(idle.evict_oldest(), Some(4));
        assert_eq!(idle.evict_oldest(), Some(5));
        assert_eq!(idle.evict_oldest(), None);
    }

    #[test]
    fn what_is_too_old_is_not_taken_and_expires() {
        let (mut idle, t) = idle();
        idle.put("a", 1, t);
        idle.put("a", 2, t + AGE / 2);
        assert_eq!(idle.next_expiry(), Some(t + AGE));
        assert_eq!(idle.expire(t + AGE), vec![1]);
        assert_eq!(idle.next_expiry(), Some(t + AGE + AGE / 2));
        assert_eq!(idle.take(&"a", t + AGE * 2), None);
        assert_eq!(idle.expire(t + AGE * 2), vec![2]);
        assert_eq!(idle.next_expiry(), None);
    }

    #[test]
    fn bounds_of_zero_keep_nothing() {
        let now = Instant::now();
        assert_eq!(IdleConnections::new(0, 9, AGE).put("a", 1, now), Some(1));
        assert_eq!(IdleConnections::new(9, 0, AGE).put("a", 1, now), Some(1));
    }

    proptest! {
        /// Each step is a key, an operation, and the seconds that pass.
        #[test]
        fn no_bound_is_ever_passed(steps in prop::collection::vec((0..4u8, 0..4u8, 0..20u64), 0..200)) {
            let mut now = Instant::now();
            let mut idle = IdleConnections::new(2, 3, AGE);
            let mut kept = 0;
            for (key, step, seconds) in steps {
                now += Duration::from_secs(seconds);
                match step {
                    0 | 1 => kept += 1 - usize::from(idle.put(key, now, now).is_some()),
                    2 => {
                        let taken = idle.take(&key, now);
                        prop_assert!(taken.is_none_or(|since| now < since + AGE));
                        kept -= usize::from(taken.is_some());
                    }
                    _ => kept -= idle.expire(now).len(),
                }
                prop_assert_eq!(idle.len, kept);
                prop_assert_eq!(idle.by_key.values().map(VecDeque::len).sum::<usize>(), kept);
                prop_assert!(kept <= 3 && idle.by_key.values().all(|queue| (1..=2).contains(&queue.len())));
                prop_assert_eq!(idle.next_expiry().is_some(), kept > 0);
            }
        }
    }
}
