//! Admission: a slot for a call, a place in the queue, or a refusal. A plain decider.
//!
//! A parent keeps its slot while it waits for its children, so slots are kept back for the deeper levels: a call at
//! depth `d` is admitted only while it leaves one slot for each level below it. Then some call can always go on: at
//! the deepest level that waits, the calls at or above it never hold the slots that were kept back for the next one.
//! Batch work has a share of the slots and no more, and the same holds within that share.
//!
//! A function may limit its own calls at a time. A call gets its slot and its place among those in one step or waits
//! with neither, so that the limits of functions that do not call themselves, in a circle or directly, add no
//! deadlock: whoever holds a place also holds a slot, and waits only for functions further down. In a circle a call
//! waits for a place that its caller holds, until the caller's deadline ends both.
//!
//! A quarter of the slots, and of the places in line, is reserved for apps below their share (`budgets`). So an app may
//! use what is idle, but calls that run for an hour never hold every slot. A child of an app over its share waits for
//! the app's own calls at its depth or deeper; where none runs it goes, so shares add no deadlock either.
//!
//! Who is next: the deepest first, then by priority, but a priority that was passed over `PASSES_MAX` times has a
//! turn; within one, by the running time of the apps (`fair_queue`). A call that finds a slot free takes it and is
//! charged to nobody.

mod fair_queue;

use std::collections::{HashMap, HashSet};

use self::fair_queue::FairQueue;
pub(crate) use self::fair_queue::Ticket;
use self::fair_queue::Turn;
use crate::budgets::Shares;
use crate::call::Priority;
use crate::ids::{AppName, FunctionId, FunctionName};
use crate::limits::DEPTH_MAX;

const LEVELS: usize = DEPTH_MAX as usize + 1;
const PRIORITIES: usize = Priority::ALL.len();

/// Times that calls of a priority may be passed over, at one depth, by more urgent ones that go.
const PASSES_MAX: u32 = 15;
/// The slots that batch work may hold: three in four, so that others find one free.
const LOW_SLOTS: (usize, usize) = (3, 4);
/// Of the calls that may wait, those that may be batch work: one in two.
const LOW_WAITING: u64 = 2;

/// A slot that a call has. It goes back through `release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Microseconds that the app was charged beforehand, if the call waited.
    charged_us: Option<u64>,
}

/// What happens to a call that comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Run(Grant),
    Wait(Ticket),
    /// The line is full, or has as many calls of this app as it may.
    Refuse {
        waiting: usize,
        waiting_of_app: u64,
    },
}

/// A function that limits its calls at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    pub function: FunctionName,
    pub calls_max: u32,
}

/// What is asked for; the same for each step of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// At most `DEPTH_MAX`.
    pub depth: u32,
    pub priority: Priority,
    pub app: AppName,
    /// The function, if it limits its calls at a time.
    pub limited: Option<Limited>,
    /// Whether it is never refused and not counted among the calls that may wait: durable work, whose owner bounds it.
    pub is_durable: bool,
}

/// The slots and the lines in front of them.
#[derive(Debug)]
pub(crate) struct Admission {
    slots_max: usize,
    slots_used: usize,
    /// Slots of each app, those of its children included.
    slots: Shares<AppName>,
    /// Slots of each app by depth, from 1.
    child_slots: HashMap<AppName, [u32; LEVELS]>,
    /// Of the slots, those that batch work may hold, and those that it does.
    low_max: usize,
    low_used: usize,
    /// Places in line, of calls that are not durable.
    places: Shares<AppName>,
    /// Of calls that are not durable.
    waiting: [usize; PRIORITIES],
    durable_waiting: HashSet<Ticket>,
    /// Of these, those of each app that has any.
    durable_of_app: HashMap<AppName, usize>,
    lines: [[FairQueue; PRIORITIES]; LEVELS],
    /// Times that each line was passed over by a more urgent one since its last turn.
    passes: [[u32; PRIORITIES]; LEVELS],
    /// Functions with a limit that run or wait.
    gates: HashMap<FunctionId, Gate>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Gate {
    /// As the newest call has it: a new version of the app may bring another.
    calls_max: u32,
    running: u32,
    waiting: usize,
}

impl Admission {
    /// `slots_max` below the number of levels counts as that number. Before [`set_holders`](Self::set_holders), there
    /// are no shares.
    pub(crate) fn new(slots_max: usize, waiting_max: usize) -> Self {
        let slots_max = slots_max.max(LEVELS);
        Self {
            slots_max,
            slots_used: 0,
            slots: Shares::new((slots_max - DEPTH_MAX as usize) as u64, 1),
            child_slots: HashMap::new(),
            low_max: (slots_max * LOW_SLOTS.0 / LOW_SLOTS.1).max(LEVELS),
            low_used: 0,
            places: Shares::new(waiting_max as u64, 1),
            waiting: Default::default(),
            durable_waiting: HashSet::new(),
            durable_of_app: HashMap::new(),
            lines: Default::default(),
            passes: Default::default(),
            gates: HashMap::new(),
            next_ticket: 0,
        }
    }

    /// Sets the number of apps that have shares.
    pub(crate) fn set_holders(&mut self, holders: usize) {
        self.slots.set_holders(holders);
        self.places.set_holders(holders);
    }

    /// A call comes.
    pub(crate) fn request(&mut self, request: &Request) -> Decision {
        let gate_has_room = self.enter_gate(request);
        let Request { depth, priority, app, is_durable, .. } = request;
        let function = request.function();
        let is_behind = self.line(*depth, *priority).holds(app, function);
        let has_room = self.has_room(*depth, *priority) && self.app_has_room(*depth, app);
        if gate_has_room && !is_behind && has_room {
            self.take(*depth, *priority, app, function);
            return Decision::Run(Grant { charged_us: None });
        }
        // The line is for calls from outside. A child's parent is inside already and waits with a slot in its hand.
        let low_waiting_max = (self.places.capacity() / LOW_WAITING).max(1);
        let is_over_share =
            *priority == Priority::Low && self.waiting[Priority::Low as usize] as u64 >= low_waiting_max;
        if *depth == 0 && !is_durable && (is_over_share || !self.places.has_room(app, 1)) {
            self.forget(app, function);
            let waiting = self.waiting.iter().sum();
            return Decision::Refuse { waiting, waiting_of_app: self.places.held(app) };
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        if *is_durable {
            self.durable_waiting.insert(ticket);
            *self.durable_of_app.entry(app.clone()).or_default() += 1;
        } else {
            self.waiting[*priority as usize] += 1;
            self.places.take(app, 1);
        }
        if let Some(gate) = self.gate(app, function) {
            gate.waiting += 1;
        }
        self.line(*depth, *priority).push(ticket, app, function, gate_has_room);
        Decision::Wait(ticket)
    }

    /// A call ended that ran for `ran_us` microseconds, or did not run though it might. Returns who runs now.
    pub(crate) fn release(&mut self, request: &Request, grant: Grant, ran_us: Option<u64>) -> Vec<(Ticket, Grant)> {
        let Request { depth, priority, app, .. } = request;
        let function = request.function();
        self.slots_used -= 1;
        self.slots.give_back(app, 1);
        if *depth > 0
            && let Some(slots) = self.child_slots.get_mut(app)
        {
            slots[*depth as usize] -= 1;
            if *slots == [0; LEVELS] {
                self.child_slots.remove(app);
            }
        }
        self.low_used -= usize::from(*priority == Priority::Low);
        if let Some(charged_us) = grant.charged_us {
            self.line(*depth, *priority).settle(app, charged_us, ran_us);
        }
        if let Some(gate) = self.gate(app, function) {
            let had_room = gate.has_room();
            gate.running -= 1;
            if gate.has_room() != had_room {
                self.set_room(app, function, true);
            }
            self.forget(app, function);
        }
        let mut admitted = Vec::new();
        // The deepest first: they let their parents go on.
        for depth in (0..=DEPTH_MAX).rev() {
            while let Some((priority, turn)) = self.turn(depth) {
                let taken = self.line(depth, priority).take(turn);
                self.waits_no_more(&taken.app, priority, taken.ticket);
                if let Some(gate) = self.gate(&taken.app, taken.function.as_ref()) {
                    gate.waiting -= 1;
                }
                self.take(depth, priority, &taken.app, taken.function.as_ref());
                admitted.push((taken.ticket, Grant { charged_us: Some(taken.charged_us) }));
            }
        }
        admitted
    }

    /// A waiting call gives up. Returns false if it was admitted already and must release instead.
    pub(crate) fn abandon(&mut self, request: &Request, ticket: Ticket) -> bool {
        let Request { depth, priority, app, .. } = request;
        let function = request.function();
        if !self.line(*depth, *priority).remove(ticket, app, function) {
            return false;
        }
        self.waits_no_more(app, *priority, ticket);
        if let Some(gate) = self.gate(app, function) {
            gate.waiting -= 1;
            self.forget(app, function);
        }
        true
    }

    /// Counts the calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().sum::<usize>() + self.durable_waiting.len()
    }

    /// Returns the number of slots.
    pub(crate) fn slots_max(&self) -> usize {
        self.slots_max
    }

    /// Counts the slots in use.
    pub(crate) fn slots_used(&self) -> usize {
        self.slots_used
    }

    /// Returns the durable calls of an app that wait.
    pub(crate) fn durable_waiting_of(&self, app: &AppName) -> usize {
        self.durable_of_app.get(app).copied().unwrap_or(0)
    }

    fn waits_no_more(&mut self, app: &AppName, priority: Priority, ticket: Ticket) {
        if !self.durable_waiting.remove(&ticket) {
            self.waiting[priority as usize] -= 1;
            self.places.give_back(app, 1);
        } else if let Some(waiting) = self.durable_of_app.get_mut(app) {
            *waiting -= 1;
            if *waiting == 0 {
                self.durable_of_app.remove(app);
            }
        }
    }

    /// Returns the priority and the app whose turn it is at a depth, if any can go.
    fn turn(&mut self, depth: u32) -> Option<(Priority, Turn)> {
        let next = Priority::ALL.map(|priority| {
            let line = &self.lines[depth as usize][priority as usize];
            line.next(|app| self.app_has_room(depth, app)).filter(|_| self.has_room(depth, priority))
        });
        let mut ready = next.map(|turn| turn.is_some());
        let first = ready.iter().position(|is_ready| *is_ready)?;
        ready[first] = false;
        let passes = &mut self.passes[depth as usize];
        let overdue = (0..PRIORITIES).find(|at| ready[*at] && passes[*at] >= PASSES_MAX);
        let chosen = overdue.unwrap_or(first);
        for (at, passes) in passes.iter_mut().enumerate() {
            *passes += u32::from(ready[at]);
        }
        passes[chosen] = 0;
        Some((Priority::ALL[chosen], next[chosen]?))
    }

    fn take(&mut self, depth: u32, priority: Priority, app: &AppName, function: Option<&FunctionName>) {
        self.slots_used += 1;
        self.slots.take(app, 1);
        if depth > 0 {
            self.child_slots.entry(app.clone()).or_default()[depth as usize] += 1;
        }
        self.low_used += usize::from(priority == Priority::Low);
        if let Some(gate) = self.gate(app, function) {
            gate.running += 1;
            if !gate.has_room() {
                self.set_room(app, function, false);
            }
        }
    }

    /// Takes in the limit that a call brings. Returns whether there is room among its function's calls.
    fn enter_gate(&mut self, request: &Request) -> bool {
        let Some(Limited { function, calls_max }) = &request.limited else { return true };
        let id = FunctionId { app: request.app.clone(), function: function.clone() };
        let gate = self.gates.entry(id).or_insert(Gate { calls_max: *calls_max, running: 0, waiting: 0 });
        let had_room = gate.has_room();
        gate.calls_max = *calls_max;
        let has_room = gate.has_room();
        if has_room != had_room {
            self.set_room(&request.app, Some(function), has_room);
        }
        has_room
    }

    /// Tells every line whether a function has a place free.
    fn set_room(&mut self, app: &AppName, function: Option<&FunctionName>, has_room: bool) {
        let Some(function) = function else { return };
        self.lines.iter_mut().flatten().for_each(|line| line.set_room(app, function, has_room));
    }

    /// Drops what is known of a function that neither runs nor waits.
    fn forget(&mut self, app: &AppName, function: Option<&FunctionName>) {
        if self.gate(app, function).is_some_and(|gate| gate.running == 0 && gate.waiting == 0)
            && let Some(function) = function
        {
            self.gates.remove(&FunctionId { app: app.clone(), function: function.clone() });
        }
    }

    fn gate(&mut self, app: &AppName, function: Option<&FunctionName>) -> Option<&mut Gate> {
        let function = function?.clone();
        self.gates.get_mut(&FunctionId { app: app.clone(), function })
    }

    fn line(&mut self, depth: u32, priority: Priority) -> &mut FairQueue {
        &mut self.lines[depth as usize][priority as usize]
    }

    fn has_room(&self, depth: u32, priority: Priority) -> bool {
        let kept_back = (DEPTH_MAX - depth) as usize;
        self.slots_used + kept_back < self.slots_max
            && (priority != Priority::Low || self.low_used + kept_back < self.low_max)
    }

    /// Whether an app may have another slot: within its share, from what is idle, or as the only one of its calls at
    /// this depth or deeper.
    fn app_has_room(&self, depth: u32, app: &AppName) -> bool {
        let is_only_child = || {
            let slots = self.child_slots.get(app);
            slots.is_none_or(|slots| slots[depth as usize..].iter().all(|slots| *slots == 0))
        };
        self.slots.has_room(app, 1) || (depth > 0 && is_only_child())
    }
}

impl Request {
    fn function(&self) -> Option<&FunctionName> {
        self.limited.as_ref().map(|limited| &limited.function)
    }
}

impl Gate {
    fn has_room(&self) -> bool {
        self.running < self.calls_max
    }
}

#[cfg(test)]
mod tests;
