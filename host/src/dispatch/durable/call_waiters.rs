//! Waiters for calls: woken whenever the owner of a call releases it, which it does after each attempt and at the end.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::ids::CallId;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct CallWaiters {
    calls: DashMap<CallId, Arc<Notify>>,
}

impl CallWaiters {
    /// Registers a waiter until it is dropped.
    pub(crate) fn watch(&self, call: CallId) -> Waiter<'_> {
        let released = self.calls.entry(call).or_default().clone();
        Waiter { waiters: self, call, released: Some(released) }
    }

    /// Wakes the waiters for a call.
    pub(crate) fn wake(&self, call: CallId) {
        if let Some(released) = self.calls.get(&call) {
            released.notify_waiters();
        }
    }
}

/// A waiter for one call.
pub(crate) struct Waiter<'a> {
    waiters: &'a CallWaiters,
    call: CallId,
    released: Option<Arc<Notify>>,
}

impl Waiter<'_> {
    /// Waits until the call is released. To miss nothing, enable the future before the call's record is read.
    pub(crate) fn released(&self) -> Notified<'_> {
        self.released.as_ref().expect("it is taken in `drop` only").notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.released = None;
        self.waiters.calls.remove_if(&self.call, |_, released| Arc::strong_count(released) == 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn every_waiter_is_woken_each_time_and_the_last_one_leaves_nothing() {
        let (waiters, call) = (CallWaiters::default(), CallId::from_bytes([1; 16]));
        waiters.wake(call);
        let (first, second) = (waiters.watch(call), waiters.watch(call));
        for _ in 0..2 {
            let (mut one, mut other) = (pin!(first.released()), pin!(second.released()));
            assert!(!one.as_mut().enable() && !other.as_mut().enable());
            waiters.wake(call);
            one.await;
            other.await;
        }
        assert!(first.released().now_or_never().is_none());
        drop(first);
        assert_eq!(waiters.calls.len(), 1);
        drop(second);
        assert!(waiters.calls.is_empty());
    }
}
