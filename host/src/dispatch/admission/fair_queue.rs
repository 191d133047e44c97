//! The calls of one depth and priority that wait: deficit round robin between apps, first in, first out within each
//! function.
//!
//! An app has its turns until the running time of its calls has used up the quantum of the round; then it waits for
//! the next round. What a call takes is known only when it ends, so an app is charged what its calls took lately when
//! one of them begins, and the difference afterwards: an app whose calls took longer than expected sits out as many
//! rounds.
//!
//! Rounds in which nobody could have a turn are never walked through: an account is the running time of an app since
//! the first round, which round that is in follows from it, and the app in the lowest round is next. Each operation
//! costs a search among the apps that wait, and one among the calls of a function.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::{AppName, FunctionName};

/// Microseconds of running time that an app may use in a round: long enough for some tiny calls in a row, and no longer
/// than one may run before it lets others run.
pub(super) const QUANTUM_US: u64 = 1_000;
/// What the newest call counts in the expectation of the next one's time: one part in so many.
const NEWEST: u64 = 4;

/// One waiting call. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(super) u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    apps: HashMap<AppName, App>,
    /// The apps that have a call which could go now.
    turns: BTreeMap<Turn, AppName>,
    /// The latest round in which an app had a turn. Who comes starts there.
    round: u64,
    turns_given: u64,
}

/// By round, then in the order in which apps came into the round.
pub(super) type Turn = (u64, u64);

/// An app that waits here, or runs calls that waited here.
#[derive(Debug)]
struct App {
    /// By function, where that limits its calls; all others wait together.
    lanes: HashMap<Option<FunctionName>, Lane>,
    /// Of the lanes that have room, the call that waits longest.
    heads: BTreeMap<Ticket, Option<FunctionName>>,
    turn: Option<Turn>,
    /// Running time that it was charged.
    used_us: u64,
    /// Expected of its next call.
    expected_us: u64,
    /// Calls that were charged and have not ended.
    running: usize,
}

#[derive(Debug)]
struct Lane {
    waiting: BTreeSet<Ticket>,
    /// Whether its function has a place free.
    has_room: bool,
}

/// A call whose turn it is.
#[derive(Debug)]
pub(super) struct Taken {
    pub ticket: Ticket,
    pub app: AppName,
    pub function: Option<FunctionName>,
    /// Microseconds that its app was charged beforehand.
    pub charged_us: u64,
}

impl FairQueue {
    /// Returns the turn of the first app that has a call which could go now, among those with room.
    pub(crate) fn next(&self, has_room: impl Fn(&AppName) -> bool) -> Option<Turn> {
        self.turns.iter().find(|(_, app)| has_room(app)).map(|(turn, _)| *turn)
    }

    /// Whether a call of this function, or of those of the app without a limit, waits.
    pub(crate) fn holds(&self, app: &AppName, function: Option<&FunctionName>) -> bool {
        self.apps.get(app).is_some_and(|app| app.lanes.contains_key(&function.cloned()))
    }

    /// A call waits from now on. Tickets come in their order.
    pub(crate) fn push(&mut self, ticket: Ticket, app: &AppName, function: Option<&FunctionName>, has_room: bool) {
        self.apps.entry(app.clone()).or_insert_with(App::new);
        self.change(app, function, |lanes, function| {
            let lane = lanes.entry(function).or_insert(Lane { waiting: BTreeSet::new(), has_room });
            lane.waiting.insert(ticket);
        });
    }

    /// Takes a call out that gives up; false if it does not wait here.
    pub(crate) fn remove(&mut self, ticket: Ticket, app: &AppName, function: Option<&FunctionName>) -> bool {
        let mut is_removed = false;
        self.change(app, function, |lanes, function| {
            is_removed = lanes.get_mut(&function).is_some_and(|lane| lane.waiting.remove(&ticket));
        });
        is_removed
    }

    /// A function has a place free from now on, or none.
    pub(crate) fn set_room(&mut self, app: &AppName, function: &FunctionName, has_room: bool) {
        self.change(app, Some(function), |lanes, function| {
            if let Some(lane) = lanes.get_mut(&function) {
                lane.has_room = has_room;
            }
        });
    }

    /// Takes the call of a turn, which [`next`](Self::next) returned, and charges its app what it will probably take.
    pub(crate) fn take(&mut self, turn: Turn) -> Taken {
        let name = self.turns.get(&turn).expect("a turn is there until it is taken").clone();
        self.round = self.round.max(turn.0);
        let app = self.apps.get_mut(&name).expect("an app with a turn is there");
        let (ticket, function) = app.heads.first_key_value().expect("an app with a turn has a call that could go");
        let (ticket, function) = (*ticket, function.clone());
        let charged_us = app.expected_us;
        app.used_us = app.used_us.saturating_add(charged_us);
        app.running += 1;
        self.remove(ticket, &name, function.as_ref());
        Taken { ticket, app: name, function, charged_us }
    }

    /// A call that was taken here has ended: its app is charged what it took; nothing if it did not run.
    pub(crate) fn settle(&mut self, name: &AppName, charged_us: u64, ran_us: Option<u64>) {
        let Some(app) = self.apps.get_mut(name) else { return };
        app.running -= 1;
        app.used_us = app.used_us.saturating_sub(charged_us).saturating_add(ran_us.unwrap_or(0));
        if let Some(ran_us) = ran_us {
            app.expected_us = (app.expected_us - app.expected_us / NEWEST + ran_us / NEWEST).max(1);
        }
        self.set_turn(name);
    }

    /// Changes the lanes of an app, then what follows from them.
    fn change(
        &mut self,
        name: &AppName,
        function: Option<&FunctionName>,
        change: impl FnOnce(&mut HashMap<Option<FunctionName>, Lane>, Option<FunctionName>),
    ) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let function = function.cloned();
        if let Some(head) = app.head(&function) {
            app.heads.remove(&head);
        }
        change(&mut app.lanes, function.clone());
        if app.lanes.get(&function).is_some_and(|lane| lane.waiting.is_empty()) {
            app.lanes.remove(&function);
        }
        if let Some(head) = app.head(&function) {
            app.heads.insert(head, function);
        }
        self.set_turn(name);
    }

    /// Gives an app the turn that it should have, and forgets one that neither waits nor runs.
    fn set_turn(&mut self, name: &AppName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if app.turn.is_none() && !app.heads.is_empty() {
            // Who had nothing to run brings no credit along, but what it owes.
            app.used_us = app.used_us.max(self.round.saturating_mul(QUANTUM_US));
        }
        let round = (!app.heads.is_empty()).then_some(app.used_us / QUANTUM_US);
        if round != app.turn.map(|(round, _)| round) {
            if let Some(turn) = app.turn.take() {
                self.turns.remove(&turn);
            }
            if let Some(round) = round {
                let turn = (round, self.turns_given);
                self.turns_given += 1;
                app.turn = Some(turn);
                self.turns.insert(turn, name.clone());
            }
        }
        if app.lanes.is_empty() && app.running == 0 {
            self.apps.remove(name);
        }
    }

    /// Whether nothing is known here.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.apps.is_empty() && self.turns.is_empty()
    }
}

impl App {
    fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            heads: BTreeMap::new(),
            turn: None,
            used_us: 0,
            expected_us: QUANTUM_US,
            running: 0,
        }
    }

    /// Returns the first call of a lane that has room.
    fn head(&self, function: &Option<FunctionName>) -> Option<Ticket> {
        self.lanes.get(function).filter(|lane| lane.has_room)?.waiting.first().copied()
    }
}
