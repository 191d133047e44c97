//! Runners of a map: tasks that run inputs until none can begin.
//!
//! An idle map holds no task and no timer. [`Runners::start`] starts runners again; it is called by the reader of a map
//! in memory, and by a task of its own where inputs come from the journal.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::engine::{Backing, Engine, State};
use crate::tasks;

/// Wait of a runner after a panic. The input is the next again, and may meet the same bug.
const PANIC_WAIT: Duration = Duration::from_secs(1);

/// Runners of one map. Dropping it aborts them, and with them their calls.
pub(crate) struct Runners<B: Backing> {
    engine: Arc<Engine<B>>,
    tasks: JoinSet<()>,
}

impl<B: Backing> Runners<B> {
    pub(crate) fn new(engine: Arc<Engine<B>>) -> Self {
        Self { engine, tasks: JoinSet::new() }
    }

    /// Starts runners for the inputs that can begin.
    pub(crate) fn start(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let start = {
            let engine = &self.engine;
            let mut state = engine.lock();
            let State { window, backing, runners } = &mut *state;
            let startable = if backing.is_open() { window.startable(|| backing.now_ms()) } else { 0 };
            // A runner that has no input yet will take one.
            let mut start = match (window.running() + startable).saturating_sub(*runners).min(startable) {
                0 => 0,
                unattended => unattended.min(engine.concurrency().saturating_sub(*runners)),
            };
            // Each waiting call takes memory, and a map goes on with one.
            if engine.origin.is_durable && start > 1 && engine.runner.has_enough_waiting(engine.app()) {
                start = 1_usize.saturating_sub(*runners);
            }
            *runners += start;
            start
        };
        for _ in 0..start {
            let place = Place(self.engine.clone());
            self.tasks.spawn(async move {
                let engine = &place.0;
                let run = engine.runner.throttle().task(engine.origin.priority, engine.run());
                if let Err(panic) = tasks::caught(run).await {
                    tracing::error!(panic, "the host met a bug of its own while it ran a map");
                    tokio::time::sleep(PANIC_WAIT).await;
                }
            });
        }
    }

    /// Waits until all runners have left.
    pub(crate) async fn join(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Aborts all runners, and waits until their calls are gone.
    pub(crate) async fn abort(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// A runner's place among those of its map.
struct Place<B: Backing>(Arc<Engine<B>>);

impl<B: Backing> Drop for Place<B> {
    fn drop(&mut self) {
        self.0.lock().runners -= 1;
        // Inputs may have come after the runner looked, or there is nothing to wait for any more.
        self.0.wake.notify_one();
    }
}
