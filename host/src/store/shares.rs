//! Shares of apps in the writes that wait: one app's flood waits in its own line, not in front of everybody's.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one app's writes among those that wait: two of the largest, a quarter of all.
pub(super) const WRITES_WAITING_APP_BYTES_MAX: usize = 16 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<Box<str>, Arc<Semaphore>>>);

impl Shares {
    /// Waits for room in the share of an app, in the order of those who wait for it.
    pub(super) async fn take(&self, app: &str, bytes: u32) -> OwnedSemaphorePermit {
        let bytes = bytes.min(WRITES_WAITING_APP_BYTES_MAX as u32);
        let share = {
            let mut shares = self.0.lock();
            // An app without a write has its whole share, and need not be remembered.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
            match shares.get(app) {
                Some(share) => share.clone(),
                None => {
                    let share = Arc::new(Semaphore::new(WRITES_WAITING_APP_BYTES_MAX));
                    shares.insert(app.into(), share.clone());
                    share
                }
            }
        };
        share.acquire_many_owned(bytes).await.expect("nobody closes it")
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn an_app_at_its_share_waits_and_another_does_not() {
        let shares = Shares::default();
        let first = shares.take("flood", 8 << 20).await;
        let _second = shares.take("flood", 8 << 20).await;
        let mut third = Box::pin(shares.take("flood", 1));
        assert!(std::future::poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await);
        drop(shares.take("calm", 64 << 10).await);
        drop(first);
        drop(third.await);
        // A write larger than the share takes all of it.
        drop(shares.take("large", u32::MAX).await);
        assert_eq!(shares.0.lock().len(), 2, "`calm` is forgotten: {shares:?}");
    }
}
