//! Calls that wait for the time of their next attempt. Only the soonest are in memory.
//!
//! The journal's open calls are in the order of their ids, so finding the soonest of those that are not in memory takes
//! a scan over all of them. One scan fills the memory, so scans are as rare as the bound is large.

use std::collections::{BTreeMap, BTreeSet};

use super::lane::LaneKey;
use crate::ids::CallId;

/// Time of a call's next attempt, in milliseconds since 1970, and the call.
pub(crate) type RetryKey = (u64, CallId);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    soonest: BTreeSet<RetryKey>,
    /// Retries from this one on are in the journal only.
    beyond: Option<RetryKey>,
    scan: Option<RetryScan>,
}

/// The soonest retries of a scan under way.
#[derive(Debug)]
struct RetryScan {
    found: BTreeMap<RetryKey, LaneKey>,
    found_max: usize,
    /// The soonest retry that was found and did not fit.
    beyond: Option<RetryKey>,
}

impl Retries {
    /// Takes a retry in. Returns false if it stays in the journal: sooner ones are there, too.
    pub(crate) fn insert(&mut self, key: RetryKey, lane: &LaneKey) -> bool {
        if self.is_beyond(key) {
            self.offer(key, lane);
            return false;
        }
        self.soonest.insert(key)
    }

    /// Drops the latest retry from memory and returns it; the journal has it.
    pub(crate) fn evict(&mut self) -> Option<RetryKey> {
        let evicted = self.soonest.pop_last()?;
        self.beyond = Some(evicted);
        Some(evicted)
    }

    pub(crate) fn remove(&mut self, key: RetryKey) {
        self.soonest.remove(&key);
    }

    /// Takes the soonest retry out if its time has come.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<CallId> {
        let is_due = self.soonest.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms);
        if is_due { self.soonest.pop_first().map(|(_, call)| call) } else { None }
    }

    /// Returns when the soonest retry is due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.soonest.first().map(|(at_ms, _)| *at_ms)
    }

    pub(crate) fn len(&self) -> usize {
        self.soonest.len()
    }

    /// Whether a retry is in the journal only.
    pub(crate) fn is_beyond(&self, key: RetryKey) -> bool {
        self.beyond.is_some_and(|beyond| key >= beyond)
    }

    /// Whether retries are in the journal only, and `len_max` or fewer in memory.
    pub(crate) fn is_hungry(&self, len_max: usize) -> bool {
        self.scan.is_none() && self.beyond.is_some() && self.soonest.len() <= len_max
    }

    pub(crate) fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Begins a scan over all open calls, for the soonest retries that are in the journal only.
    pub(crate) fn begin_scan(&mut self, found_max: usize) {
        self.scan = Some(RetryScan { found: BTreeMap::new(), found_max, beyond: None });
    }

    /// Tells a scan under way of a retry that is in the journal only.
    pub(crate) fn offer(&mut self, key: RetryKey, lane: &LaneKey) {
        let Some(scan) = &mut self.scan else { return };
        scan.found.insert(key, lane.clone());
        if scan.found.len() > scan.found_max
            && let Some((dropped, _)) = scan.found.pop_last()
        {
            scan.beyond = Some(scan.beyond.map_or(dropped, |beyond| beyond.min(dropped)));
        }
    }

    /// Ends a scan whose next page could not be read.
    pub(crate) fn abort_scan(&mut self) {
        self.scan = None;
    }

    /// Ends a scan that has seen all open calls. Returns the retries that are to be taken in.
    pub(crate) fn end_scan(&mut self) -> BTreeMap<RetryKey, LaneKey> {
        let Some(scan) = self.scan.take() else { return BTreeMap::new() };
        self.beyond = scan.beyond;
        scan.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Priority;
    use crate::ids::{AppName, FunctionId, FunctionName};

    fn key(at_ms: u64) -> RetryKey {
        (at_ms, CallId::from_bytes([at_ms as u8; 16]))
    }

    fn lane() -> LaneKey {
        let function = FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new("f").unwrap() };
        LaneKey { function, priority: Priority::Normal }
    }

    fn of(times: &[u64]) -> Retries {
        let mut retries = Retries::default();
        for at_ms in times {
            assert!(retries.insert(key(*at_ms), &lane()));
        }
        retries
    }

    #[test]
    fn the_latest_leave_memory_and_no_later_one_enters_it() {
        let mut retries = of(&[3, 1, 2]);
        assert_eq!(retries.evict(), Some(key(3)));
        assert!(!retries.insert(key(4), &lane()));
        assert!(retries.insert(key(0), &lane()));
        assert_eq!((retries.len(), retries.next_ms()), (3, Some(0)));
        assert_eq!(
            (retries.pop_due(1), retries.pop_due(1), retries.pop_due(1)),
            (Some(key(0).1), Some(key(1).1), None)
        );
    }

    #[test]
    fn a_scan_keeps_the_soonest_and_those_that_come_while_it_runs() {
        let mut retries = of(&[1, 2]);
        retries.evict();
        retries.begin_scan(2);
        for at_ms in [9, 2, 7] {
            retries.offer(key(at_ms), &lane());
        }
        assert!(!retries.insert(key(3), &lane()));
        let found: Vec<_> = retries.end_scan().into_keys().collect();
        assert_eq!(found, [key(2), key(3)]);
        assert!(retries.is_beyond(key(7)) && !retries.is_beyond(key(6)));
    }

    #[test]
    fn a_scan_that_finds_room_for_all_leaves_nothing_behind() {
        let mut retries = of(&[1]);
        retries.evict();
        retries.begin_scan(2);
        retries.offer(key(1), &lane());
        assert_eq!(retries.end_scan().len(), 1);
        assert!(!retries.is_beyond(key(99)) && !retries.is_hungry(9));
    }
}
