//! Spawn gate: a cancelled parent's children are looked for only once every spawn under way is on disk, so none is missed.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// See the module.
#[derive(Debug, Default)]
pub struct SpawnGate {
    lock: Arc<RwLock<()>>,
}

/// Held by one spawn until its call or map is on disk.
pub type SpawnPermit = OwnedRwLockReadGuard<()>;

impl SpawnGate {
    /// Begins a spawn.
    pub async fn enter(&self) -> SpawnPermit {
        self.lock.clone().read_owned().await
    }

    /// Waits until the spawns that have begun are on disk. Spawns that begin later belong to parents that still run.
    pub async fn settled(&self) {
        drop(self.lock.write().await);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_cancel_waits_for_the_spawns_that_have_begun_and_not_for_later_ones() {
        let gate = SpawnGate::default();
        let first = gate.enter().await;
        let second = gate.enter().await;
        let mut settled = pin!(gate.settled());
        assert!(settled.as_mut().now_or_never().is_none());
        let mut later = pin!(gate.enter());
        assert!(later.as_mut().now_or_never().is_none());
        drop((first, second));
        settled.await;
        later.await;
    }
}
