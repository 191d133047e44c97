//! Who gets a slot, who waits, who is refused. A plain decider.
//!
//! A parent keeps its slot while it waits for its children, so slots are kept back for the deeper levels: a call at depth
//! `d` is admitted only while it leaves one slot for each level below it. Then some call can always go on: at the deepest
//! level that waits, the calls at or above it never hold the slots that were kept back for the next one.
//!
//! A function may limit its own calls at a time. A call gets its slot and its place among those in one step or waits with
//! neither, so that the limits of functions that do not call themselves, in a circle or directly, add no deadlock: whoever
//! holds a place also holds a slot, and waits only for functions further down. In a circle a call waits for a place that its
//! caller holds, until the caller's deadline ends both.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::ids::FunctionId;
use crate::limits::DEPTH_MAX;

/// One waiting call. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What happens to a call that comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Run,
    Wait(Ticket),
    /// The line is full.
    Refuse {
        waiting: usize,
    },
}

/// A function that limits its calls at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub function: FunctionId,
    pub calls_max: u32,
}

/// The slots and the line in front of them.
#[derive(Debug)]
pub struct Admission {
    slots_max: usize,
    slots_used: usize,
    waiting_max: usize,
    waiting: [Line; DEPTH_MAX as usize + 1],
    /// Functions with a limit that run or wait.
    limited: HashMap<FunctionId, Gate>,
    next_ticket: u64,
}

/// The calls of one depth that wait, first in, first out for each limited function and for all others together.
#[derive(Debug, Default)]
struct Line {
    free: VecDeque<Ticket>,
    limited: BTreeMap<FunctionId, VecDeque<Ticket>>,
}

#[derive(Debug)]
struct Gate {
    /// As the newest call has it: a new version of the app may bring another.
    calls_max: u32,
    running: u32,
    waiting: usize,
}

impl Admission {
    /// `slots_max` below the number of levels counts as that number.
    pub fn new(slots_max: usize, waiting_max: usize) -> Self {
        let levels = DEPTH_MAX as usize + 1;
        Self {
            slots_max: slots_max.max(levels),
            slots_used: 0,
            waiting_max,
            waiting: Default::default(),
            limited: HashMap::new(),
            next_ticket: 0,
        }
    }

    /// A call comes. `depth` is at most `DEPTH_MAX`.
    pub fn request(&mut self, depth: u32, limited: Option<&Limited>) -> Decision {
        let has_place = match limited {
            None => self.waiting[depth as usize].free.is_empty(),
            Some(limited) => {
                let gate = self.limited.entry(limited.function.clone()).or_insert(Gate {
                    calls_max: limited.calls_max,
                    running: 0,
                    waiting: 0,
                });
                gate.calls_max = limited.calls_max;
                gate.has_room() && !self.waiting[depth as usize].limited.contains_key(&limited.function)
            }
        };
        if has_place && self.has_room(depth) {
            self.take(limited.map(|limited| &limited.function));
            return Decision::Run;
        }
        let waiting = self.waiting();
        // The line is for calls from outside. A child's parent is inside already and waits with a slot in its hand.
        if depth == 0 && waiting >= self.waiting_max {
            if let Some(limited) = limited {
                self.forget(&limited.function);
            }
            return Decision::Refuse { waiting };
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting[depth as usize].push(ticket, limited.map(|limited| &limited.function));
        if let Some(gate) = limited.and_then(|limited| self.limited.get_mut(&limited.function)) {
            gate.waiting += 1;
        }
        Decision::Wait(ticket)
    }

    /// A call ended; `limited` is the function that it was, if that has a limit. Returns who runs now.
    pub fn release(&mut self, limited: Option<&FunctionId>) -> Vec<Ticket> {
        self.slots_used -= 1;
        if let Some(function) = limited {
            if let Some(gate) = self.limited.get_mut(function) {
                gate.running -= 1;
            }
            self.forget(function);
        }
        let mut admitted = Vec::new();
        // The deepest first: they let their parents go on.
        for depth in (0..=DEPTH_MAX).rev() {
            while self.has_room(depth) {
                let Some((ticket, function)) = self.waiting[depth as usize].pop(&self.limited) else {
                    break;
                };
                if let Some(gate) = function.as_ref().and_then(|function| self.limited.get_mut(function)) {
                    gate.waiting -= 1;
                }
                self.take(function.as_ref());
                admitted.push(ticket);
            }
        }
        admitted
    }

    /// A waiting call gives up. Returns false if it was admitted already and must release instead.
    pub fn abandon(&mut self, ticket: Ticket, limited: Option<&FunctionId>) -> bool {
        if !self.waiting.iter_mut().any(|line| line.remove(ticket, limited)) {
            return false;
        }
        if let Some(function) = limited {
            if let Some(gate) = self.limited.get_mut(function) {
                gate.waiting -= 1;
            }
            self.forget(function);
        }
        true
    }

    /// Returns how many wait.
    pub fn waiting(&self) -> usize {
        let limited: usize = self.limited.values().map(|gate| gate.waiting).sum();
        limited + self.waiting.iter().map(|line| line.free.len()).sum::<usize>()
    }

    /// Returns how many slots are taken.
    pub fn slots_used(&self) -> usize {
        self.slots_used
    }

    fn take(&mut self, limited: Option<&FunctionId>) {
        self.slots_used += 1;
        if let Some(gate) = limited.and_then(|function| self.limited.get_mut(function)) {
            gate.running += 1;
        }
    }

    /// Drops what is known of a function that neither runs nor waits.
    fn forget(&mut self, function: &FunctionId) {
        if self.limited.get(function).is_some_and(|gate| gate.running == 0 && gate.waiting == 0) {
            self.limited.remove(function);
        }
    }

    fn has_room(&self, depth: u32) -> bool {
        self.slots_used + ((DEPTH_MAX - depth) as usize) < self.slots_max
    }
}

impl Gate {
    fn has_room(&self) -> bool {
        self.running < self.calls_max
    }
}

impl Line {
    fn push(&mut self, ticket: Ticket, limited: Option<&FunctionId>) {
        match limited {
            None => self.free.push_back(ticket),
            Some(function) => self.limited.entry(function.clone()).or_default().push_back(ticket),
        }
    }

    /// Takes the one that waits longest, of those whose function has room.
    fn pop(&mut self, gates: &HashMap<FunctionId, Gate>) -> Option<(Ticket, Option<FunctionId>)> {
        let has_room = |function: &FunctionId| gates.get(function).is_some_and(Gate::has_room);
        let limited = self.limited.iter().filter(|(function, _)| has_room(function));
        let limited = limited.filter_map(|(function, line)| Some((*line.front()?, function))).min();
        match (self.free.front().copied(), limited) {
            (Some(free), first) if first.is_none_or(|(ticket, _)| free < ticket) => {
                self.free.pop_front();
                Some((free, None))
            }
            (_, Some((ticket, function))) => {
                let function = function.clone();
                self.remove(ticket, Some(&function));
                Some((ticket, Some(function)))
            }
            (_, None) => None,
        }
    }

    fn remove(&mut self, ticket: Ticket, limited: Option<&FunctionId>) -> bool {
        let Some(function) = limited else { return remove(&mut self.free, ticket) };
        let Some(line) = self.limited.get_mut(function) else { return false };
        let is_removed = remove(line, ticket);
        if line.is_empty() {
            self.limited.remove(function);
        }
        is_removed
    }
}

/// Tickets stand in their order.
fn remove(line: &mut VecDeque<Ticket>, ticket: Ticket) -> bool {
    line.binary_search(&ticket).is_ok_and(|position| line.remove(position).is_some())
}

#[cfg(test)]
mod tests;
