//! How long what has ended is kept, and its deletion in small steps beside everything else.

use std::collections::BTreeMap;

use super::*;

/// How often it is looked for what is old enough.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Pause between two steps, so that deleting takes a small part of the writer's time.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// How long calls and maps are kept after they have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
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
    fn of(&self, app: &AppName) -> Duration {
        self.by_app.get(app).copied().unwrap_or(self.keep)
    }
}

impl Durable {
    pub(super) async fn sweep(self: &Arc<Self>, retention: Retention) {
        let mut stopped = self.stopped.subscribe();
        if let Err(error) = self.journal.sweep().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "files that nothing refers to could not be removed"
            );
        }
        loop {
            if let Err(error) = self.sweep_once(&retention).await {
                // A full disk or a damaged row; what is old stays a while longer.
                tracing::warn!(error = &error as &dyn std::error::Error, "old calls and maps could not be deleted");
            }
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    async fn sweep_once(&self, retention: &Retention) -> Result<(), JournalError> {
        for app in self.journal.apps_with_ended().await? {
            let keep = u64::try_from(retention.of(&app).as_millis()).unwrap_or(u64::MAX);
            let until_ms = unix_ms().saturating_sub(keep);
            while !self.is_stopped() && self.journal.expire(&app, until_ms).await? {
                tokio::time::sleep(STEP_PAUSE).await;
            }
        }
        Ok(())
    }
}
