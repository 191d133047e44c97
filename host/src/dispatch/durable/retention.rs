//! Retention: how long ended calls and maps are kept, and their deletion in small steps beside everything else.
//! Key-value data that has expired is deleted in the same sweeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::trusted_clock::{Reading, TrustedClock};
use crate::ids::AppName;
use crate::storage::StorageError;

/// Pause between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Time after which the trusted time is kept again: far below the jump that is trusted.
const KEEP_EVERY: Duration = Duration::from_secs(3_600);
/// Pause between two steps, so that deleting takes a small part of the writer's time.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// How long calls and maps are kept after they have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Time for all apps that are not in `by_app`; 7 days by default.
    pub keep: Duration,
    /// Of apps with a time of their own.
    pub by_app: BTreeMap<AppName, Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: Duration::from_secs(7 * 86_400), by_app: BTreeMap::new() }
    }
}

impl Retention {
    /// Returns the time before which calls and maps of an app must have ended to be deleted, in milliseconds since
    /// 1970.
    fn cutoff_ms(&self, app: &AppName, now_ms: u64) -> u64 {
        let keep = self.by_app.get(app).copied().unwrap_or(self.keep);
        now_ms.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Deletes ended calls and maps once they are older than the retention allows, and values that have expired.
pub(crate) struct Sweeper {
    pub core: Arc<Core>,
    pub retention: Retention,
}

impl Sweeper {
    /// Sweeps every minute until the host stops.
    pub(crate) async fn run(self) {
        let mut clock = Clock::start(&self.core).await;
        if let Err(error) = self.core.journal.sweep().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "unreferenced files could not be removed");
        }
        loop {
            let is_trusted = clock.look(&self.core).await;
            if let Err(error) = self.sweep(clock.trusted.now_ms()).await {
                // A full disk or a damaged row; old rows stay a while longer.
                tracing::warn!(error = &error as &dyn std::error::Error, "old calls and maps could not be deleted");
            }
            // The time to live of a value is over by the engine's clock alone, so its row waits until that is trusted.
            if is_trusted && let Err(error) = self.sweep_values().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "values that expired could not be deleted");
            }
            tokio::select! {
                () = self.core.lifecycle.stopped() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    async fn sweep(&self, now_ms: u64) -> Result<(), StorageError> {
        let Core { journal, lifecycle, .. } = &*self.core;
        for app in journal.apps_with_ended().await? {
            let until_ms = self.retention.cutoff_ms(&app, now_ms);
            while !lifecycle.is_stopped() && journal.expire(&app, until_ms).await? {
                tokio::time::sleep(STEP_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn sweep_values(&self) -> Result<(), StorageError> {
        let Core { key_value, lifecycle, .. } = &*self.core;
        while !lifecycle.is_stopped() && key_value.expire().await? {
            tokio::time::sleep(STEP_PAUSE).await;
        }
        Ok(())
    }
}

/// The trusted clock, kept by the engine.
struct Clock {
    trusted: TrustedClock,
    looked: Instant,
    kept: Option<Instant>,
    is_held: bool,
}

impl Clock {
    async fn start(core: &Core) -> Self {
        let mark = core.journal.clock().await.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last time of this directory cannot be read");
            None
        });
        let trusted = TrustedClock::new(mark, core.now_ms());
        Self { trusted, looked: Instant::now(), kept: None, is_held: false }
    }

    /// Looks at the engine's clock, says if it has jumped or is trusted again, and keeps what the next host must know.
    /// Returns whether it is trusted.
    async fn look(&mut self, core: &Core) -> bool {
        let now = Instant::now();
        let reading = self.trusted.look(core.now_ms(), now - std::mem::replace(&mut self.looked, now));
        let was_held = self.is_held;
        self.is_held = reading != Reading::Trusted;
        let ahead = match reading {
            Reading::Trusted => {
                if was_held {
                    tracing::info!("the clock is trusted again, and old calls and maps are deleted by it");
                }
                Duration::ZERO
            }
            Reading::Held { ahead, left } => {
                if !was_held {
                    tracing::warn!(
                        ?ahead,
                        ?left,
                        "the clock has jumped ahead; until it is set right, or this host has run for `left`, calls and \
                         maps are kept as if it had not"
                    );
                }
                ahead
            }
        };
        core.clock_ahead_ms.store(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if was_held != self.is_held || self.kept.is_none_or(|at| now - at >= KEEP_EVERY) {
            self.kept = Some(now);
            if let Err(error) = core.journal.keep_clock(self.trusted.mark()).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the time of this directory cannot be kept");
            }
        }
        !self.is_held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_can_have_a_retention_of_its_own_and_forever_is_one() {
        let [short, forever, other] = ["short", "forever", "other"].map(|name| AppName::new(name).unwrap());
        let by_app = BTreeMap::from([(short.clone(), Duration::from_secs(1)), (forever.clone(), Duration::MAX)]);
        let retention = Retention { keep: Duration::from_secs(10), by_app };
        assert_eq!(retention.cutoff_ms(&short, 20_000), 19_000);
        assert_eq!(retention.cutoff_ms(&forever, 20_000), 0);
        assert_eq!(retention.cutoff_ms(&other, 20_000), 10_000);
    }
}
