//! Which durable call begins next. A plain decider: it knows ids, not calls, so that a million of them wait in a few megabytes.

use std::collections::{BTreeMap, VecDeque};

use crate::call::Priority;
use crate::ids::{CallId, FunctionId};

/// The calls that wait, by function.
#[derive(Debug, Default)]
pub struct Lines {
    lines: BTreeMap<FunctionId, Line>,
    /// Calls that wait for their next attempt, the earliest first.
    later: BTreeMap<(u64, CallId), (FunctionId, Priority)>,
    /// The function that had the last turn.
    last: Option<FunctionId>,
}

#[derive(Debug, Default)]
struct Line {
    /// By priority, the most urgent first; each in order.
    ready: [VecDeque<CallId>; Priority::ALL.len()],
    active: usize,
}

impl Line {
    fn is_ready(&self) -> bool {
        self.ready.iter().any(|ready| !ready.is_empty())
    }
}

impl Lines {
    /// A call may begin.
    pub fn push(&mut self, function: &FunctionId, priority: Priority, call: CallId) {
        self.line(function).ready[priority as usize].push_back(call);
    }

    /// A call may begin at `at_ms`.
    pub fn push_later(&mut self, function: FunctionId, priority: Priority, call: CallId, at_ms: u64) {
        self.later.insert((at_ms, call), (function, priority));
    }

    /// A call that waits for `at_ms` will not begin.
    pub fn forget_later(&mut self, call: CallId, at_ms: u64) {
        self.later.remove(&(at_ms, call));
    }

    /// Takes the next call to begin: functions take turns. `calls_max` says how many of a function may be under way, or that none
    /// can be.
    pub fn next(
        &mut self,
        now_ms: u64,
        calls_max: impl Fn(&FunctionId) -> Option<usize>,
    ) -> Option<(FunctionId, Priority, CallId)> {
        while self.later.first_key_value().is_some_and(|((at_ms, _), _)| *at_ms <= now_ms) {
            if let Some(((_, call), (function, priority))) = self.later.pop_first() {
                self.push(&function, priority, call);
            }
        }
        let has_room = |(function, line): (&FunctionId, &Line)| {
            (line.is_ready() && calls_max(function).is_some_and(|max| line.active < max)).then(|| function.clone())
        };
        let behind =
            self.last.as_ref().map(|last| (std::ops::Bound::Excluded(last.clone()), std::ops::Bound::Unbounded));
        let found = behind.and_then(|behind| self.lines.range(behind).find_map(has_room));
        let function = found.or_else(|| self.lines.iter().find_map(has_room))?;
        let line = self.line(&function);
        let (priority, call) = Priority::ALL
            .iter()
            .find_map(|priority| line.ready[*priority as usize].pop_front().map(|call| (*priority, call)))?;
        line.active += 1;
        self.last = Some(function.clone());
        Some((function, priority, call))
    }

    /// Takes a place for a call that begins without having waited, if nobody waits and there is one.
    pub fn begin(&mut self, function: &FunctionId, calls_max: usize) -> bool {
        let line = self.line(function);
        let has_room = !line.is_ready() && line.active < calls_max;
        line.active += usize::from(has_room);
        has_room
    }

    /// A call that had begun gives its place back.
    pub fn end(&mut self, function: &FunctionId) {
        let line = self.line(function);
        line.active -= 1;
        if line.active == 0 && !line.is_ready() {
            self.lines.remove(function);
        }
    }

    /// A call that had given its place back goes on, whether there is a place or not.
    pub fn go_on(&mut self, function: &FunctionId) {
        self.line(function).active += 1;
    }

    /// Returns when the next of those that wait for a time may begin.
    pub fn next_ms(&self) -> Option<u64> {
        self.later.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Returns how many wait.
    pub fn waiting(&self) -> usize {
        let ready = self.lines.values().flat_map(|line| &line.ready).map(VecDeque::len).sum::<usize>();
        ready + self.later.len()
    }

    fn line(&mut self, function: &FunctionId) -> &mut Line {
        if !self.lines.contains_key(function) {
            self.lines.insert(function.clone(), Line::default());
        }
        self.lines.get_mut(function).expect("inserted")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{AppName, FunctionName};

    fn function(name: &str) -> FunctionId {
        FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new(name).unwrap() }
    }

    fn call(n: u8) -> CallId {
        CallId::from_bytes([n; 16])
    }

    #[test]
    fn functions_take_turns_and_urgent_calls_go_first() {
        let (f, g) = (function("f"), function("g"));
        let mut lines = Lines::default();
        lines.push(&f, Priority::Low, call(1));
        lines.push(&f, Priority::Normal, call(2));
        lines.push(&f, Priority::High, call(3));
        lines.push(&g, Priority::Low, call(4));
        let order: Vec<_> = std::iter::from_fn(|| lines.next(0, |_| Some(9))).map(|(.., call)| call).collect();
        assert_eq!(order, [call(3), call(4), call(2), call(1)]);
        assert_eq!(lines.waiting(), 0);
    }

    #[test]
    fn a_function_that_is_full_or_gone_keeps_its_calls() {
        let f = function("f");
        let mut lines = Lines::default();
        assert!(lines.begin(&f, 1));
        lines.push(&f, Priority::Normal, call(1));
        assert_eq!(lines.next(0, |_| Some(1)), None);
        lines.end(&f);
        assert_eq!(lines.next(0, |_| None), None);
        // Who waits goes before who comes.
        assert!(!lines.begin(&f, 1));
        assert_eq!(lines.next(0, |_| Some(1)).map(|(.., call)| call), Some(call(1)));
        lines.end(&f);
        assert!(lines.lines.is_empty());
    }

    #[test]
    fn a_call_that_goes_on_has_its_place_at_once() {
        let f = function("f");
        let mut lines = Lines::default();
        assert!(lines.begin(&f, 1));
        lines.end(&f);
        assert!(lines.begin(&f, 1));
        lines.go_on(&f);
        lines.push(&f, Priority::Normal, call(1));
        lines.end(&f);
        assert_eq!(lines.next(0, |_| Some(1)), None);
        lines.end(&f);
        assert!(lines.next(0, |_| Some(1)).is_some());
    }

    #[test]
    fn a_later_call_begins_when_it_is_time() {
        let mut lines = Lines::default();
        lines.push_later(function("f"), Priority::Normal, call(1), 100);
        assert_eq!(lines.next_ms(), Some(100));
        assert_eq!(lines.next(99, |_| Some(9)), None);
        assert!(lines.next(100, |_| Some(9)).is_some());
    }

    proptest! {
        /// Every call comes out once, no function goes over its bound, and each function's calls of one priority keep their order.
        #[test]
        fn every_call_begins_once(steps in proptest::collection::vec((0_u8..4, 0_usize..3, 0_u64..50), 1..300)) {
            let functions = [function("f"), function("g"), function("h")];
            let mut lines = Lines::default();
            let (mut pushed, mut begun, mut now) = (0_u64, Vec::new(), 0);
            let mut active: BTreeMap<FunctionId, usize> = BTreeMap::new();
            let id = |n: u64| CallId::from_bytes([[0; 8], n.to_be_bytes()].concat().try_into().unwrap());
            for (what, which, number) in steps {
                let f = &functions[which];
                match what {
                    0 => { lines.push(f, Priority::Normal, id(pushed)); pushed += 1; }
                    1 => { lines.push_later(f.clone(), Priority::Normal, id(pushed), now + number); pushed += 1; }
                    2 => {
                        now += number;
                        if let Some((f, _, call)) = lines.next(now, |_| Some(2)) {
                            begun.push(call);
                            *active.entry(f.clone()).or_default() += 1;
                            prop_assert!(active[&f] <= 2);
                        }
                    }
                    _ => if let Some(count) = active.get_mut(f).filter(|count| **count > 0) {
                        *count -= 1;
                        lines.end(f);
                    }
                }
            }
            while let Some((.., call)) = lines.next(u64::MAX, |_| Some(usize::MAX)) {
                begun.push(call);
            }
            begun.sort_unstable();
            prop_assert_eq!(begun, (0..pushed).map(id).collect::<Vec<_>>());
        }
    }
}
