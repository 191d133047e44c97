//! Retention: how long ended calls and maps are kept, and their deletion in small steps beside everything else.
//! Key-value data that has expired is deleted in the same sweeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::ids::AppName;
use crate::storage::StorageError;

/// Pause between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
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
        if let Err(error) = self.core.journal.sweep().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "unreferenced files could not be removed");
        }
        loop {
            if let Err(error) = self.sweep().await {
                // A full disk or a damaged row; old rows stay a while longer.
                tracing::warn!(error = &error as &dyn std::error::Error, "old calls and maps could not be deleted");
            }
            if let Err(error) = self.sweep_values().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "values that expired could not be deleted");
            }
            tokio::select! {
                () = self.core.lifecycle.stopped() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    async fn sweep(&self) -> Result<(), StorageError> {
        let Core { journal, lifecycle, .. } = &*self.core;
        for app in journal.apps_with_ended().await? {
            let until_ms = self.retention.cutoff_ms(&app, journal.now_ms());
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
