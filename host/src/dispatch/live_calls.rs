//! Calls under way, and the wait for their end.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::Notify;

use super::call::{LiveCall, Origin};
use crate::ids::{CallId, FunctionId};

/// The calls that have begun and not ended.
#[derive(Default)]
pub(super) struct LiveCalls {
    calls: DashMap<CallId, LiveCall>,
    /// Set by `drain`, once and for all.
    is_draining: AtomicBool,
    /// Notified when the last call ends, once `is_draining` is set.
    idle: Notify,
}

impl LiveCalls {
    /// Lists a call until the answer is dropped.
    pub(crate) fn enter(&self, id: CallId, function: FunctionId, origin: &Origin) -> Entered<'_> {
        let (principal, depth) = (origin.principal.clone(), origin.depth);
        self.calls.insert(id, LiveCall { function, principal, depth, since: Instant::now() });
        Entered { live: self, id }
    }

    /// Returns the calls, oldest first.
    pub(crate) fn list(&self) -> Vec<(CallId, LiveCall)> {
        let mut live: Vec<_> = self.calls.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        live.sort_by_key(|(_, call)| call.since);
        live
    }

    /// Waits until none is left.
    pub(crate) async fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        // Pairs with the one in `Entered::drop`: a call that ends now sees the flag, or is seen to be gone below.
        fence(Ordering::SeqCst);
        loop {
            let idle = self.idle.notified();
            if self.calls.is_empty() {
                return;
            }
            idle.await;
        }
    }
}

/// A call among those under way.
pub(super) struct Entered<'a> {
    live: &'a LiveCalls,
    id: CallId,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.live.calls.remove(&self.id);
        // Looking whether others live visits every shard of the map, which is worth it on the way down only.
        fence(Ordering::SeqCst);
        if self.live.is_draining.load(Ordering::Relaxed) && self.live.calls.is_empty() {
            self.live.idle.notify_waiters();
        }
    }
}
