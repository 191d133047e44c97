//! Context of one attempt: identity, services, log and counters, shared by its imports.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use parking_lot::Mutex;

use super::boundary::Boundary;
use super::call_identity::CallIdentity;
use super::log::CallLog;
use super::services::Services;
use crate::call::InferenceReceipt;
use crate::limits::{MAPS_PER_CALL_MAX, SPAWNS_PER_CALL_MAX};
use crate::outbound::CallBudget;

/// Context of one attempt. Shared by the store and by tasks that run on the call's behalf; dropped with the last of
/// them.
pub(crate) struct CallContext {
    pub identity: CallIdentity,
    /// The other calls of its map, if it is one of a map's.
    pub siblings: Option<Arc<Siblings>>,
    pub log: Arc<CallLog>,
    pub services: Arc<Services>,
    pub boundary: Boundary,
    pub budget: CallBudget,
    pub usage: CallUsage,
}

impl Deref for CallContext {
    type Target = CallIdentity;

    fn deref(&self) -> &CallIdentity {
        &self.identity
    }
}

/// Waker of the guest, which costs no allocation.
impl Wake for CallContext {
    fn wake(self: Arc<Self>) {
        self.boundary.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.boundary.wake();
    }
}

/// Counters of one attempt.
#[derive(Default)]
pub(crate) struct CallUsage {
    inference: Mutex<InferenceReceipt>,
    /// Reason of the last refused request, for the failure that follows from it.
    denial: Mutex<Option<String>>,
    maps_open: AtomicUsize,
    readers_open: AtomicUsize,
    /// Calls and maps spawned so far.
    spawned: AtomicUsize,
}

/// Running calls of one map. The count of those that wait for a model tells the batcher how many requests may follow.
#[derive(Debug, Default)]
pub struct Siblings {
    running: AtomicUsize,
    awaiting_model: AtomicUsize,
}

impl Siblings {
    /// Counts one running call until the result is dropped.
    pub(crate) fn run(&self) -> impl Drop {
        CountGuard::new(&self.running)
    }

    fn await_model(&self) -> (CountGuard<'_>, usize) {
        let guard = CountGuard::new(&self.awaiting_model);
        let awaiting = self.awaiting_model.load(Ordering::Relaxed);
        (guard, self.running.load(Ordering::Relaxed).saturating_sub(awaiting))
    }
}

/// One unit of a count, given back on drop.
pub(super) struct CountGuard<'a>(&'a AtomicUsize);

impl<'a> CountGuard<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CallContext {
    /// Counts the call as waiting for a model until the guard is dropped. Also returns the number of siblings that may
    /// yet wait, if the call has siblings.
    pub(super) fn await_model(&self) -> (Option<CountGuard<'_>>, Option<usize>) {
        match &self.siblings {
            Some(siblings) => {
                let (guard, following) = siblings.await_model();
                (Some(guard), Some(following))
            }
            None => (None, None),
        }
    }

    /// Adds one request's costs to the call's receipt.
    pub(super) fn add_inference(&self, share: &InferenceReceipt) {
        self.usage.inference.lock().add(share);
    }

    /// Takes the inference part of the receipt.
    pub(super) fn take_inference(&self) -> InferenceReceipt {
        std::mem::take(&mut *self.usage.inference.lock())
    }

    /// Keeps the reason of a refused request.
    pub(super) fn note_denial(&self, message: String) {
        *self.usage.denial.lock() = Some(message);
    }

    /// Takes the reason of the last refusal.
    pub(super) fn take_denial(&self) -> Option<String> {
        self.usage.denial.lock().take()
    }

    /// Returns the model tokens of this attempt so far.
    pub(super) fn tokens_used(&self) -> u64 {
        self.usage.inference.lock().tokens
    }

    /// Counts one more open map; false if the call holds its maximum.
    pub(super) fn open_map(&self) -> bool {
        count_below(&self.usage.maps_open, MAPS_PER_CALL_MAX)
    }

    /// Counts one more open reader of outcomes; false if the call holds its maximum.
    pub(super) fn open_reader(&self) -> bool {
        count_below(&self.usage.readers_open, MAPS_PER_CALL_MAX)
    }

    /// Uncounts an open reader.
    pub(super) fn close_reader(&self) {
        self.usage.readers_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more spawned call or map; false if the call has spawned its maximum.
    pub(super) fn spawn(&self) -> bool {
        count_below(&self.usage.spawned, SPAWNS_PER_CALL_MAX)
    }

    /// Whether the call has open maps.
    pub(crate) fn has_open_maps(&self) -> bool {
        self.usage.maps_open.load(Ordering::Relaxed) > 0
    }

    /// Uncounts an open map.
    pub(super) fn close_map(&self) {
        self.usage.maps_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Increments `count`, unless it is `max` already.
fn count_below(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1)).is_ok()
}
