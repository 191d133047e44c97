//! Keeps the client and the killer in step: one kill for each round of the client.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Rounds that the client may begin, has begun and has ended.
    allowed: u64,
    begun: u64,
    ended: u64,
    kills: u64,
    began: Option<Instant>,
    took: Duration,
    /// The client has ended, one way or the other.
    is_over: bool,
}

impl Gate {
    /// The client begins a round, as soon as it may.
    pub(crate) fn enter(&self, round: u64) {
        let mut state = self.state();
        while state.allowed <= round {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.begun = round + 1;
        state.began = Some(Instant::now());
        self.changed.notify_all();
    }

    /// The client has ended a round.
    pub(crate) fn leave(&self, round: u64) {
        let mut state = self.state();
        state.ended = round + 1;
        state.took = state.began.map(|began| began.elapsed()).unwrap_or_default();
        self.changed.notify_all();
    }

    /// The client has ended.
    pub(crate) fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    /// The killer lets the client begin a round.
    pub(crate) fn open(&self, round: u64) {
        self.state().allowed = round + 1;
        self.changed.notify_all();
    }

    /// The killer waits until the client has begun a round.
    pub(crate) fn wait_for(&self, round: u64) {
        let mut state = self.state();
        while state.begun <= round && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn is_in(&self, round: u64) -> bool {
        let state = self.state();
        state.ended <= round && !state.is_over
    }

    /// Returns the time of the last round.
    pub(crate) fn round_took(&self) -> Duration {
        self.state().took
    }

    pub(crate) fn kill(&self) {
        self.state().kills += 1;
    }

    pub(crate) fn kills(&self) -> u64 {
        self.state().kills
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
