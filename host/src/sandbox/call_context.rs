//! Context of one attempt: identity, limits and counters that its imports and its log share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::boundary::Boundary;
use super::log::CallLog;
use super::program::FunctionRef;
use super::services::Services;
use crate::call::{InferenceReceipt, Principal, Priority};
use crate::ids::CallId;
use crate::limits::{MAPS_PER_CALL_MAX, SPAWNS_PER_CALL_MAX};
use crate::outbound::CallBudget;

/// One attempt. Shared by the store and by tasks that run on the call's behalf; dropped with the last of them.
pub struct CallContext {
    pub id: CallId,
    pub function: FunctionRef,
    /// Inherited by the calls and maps that it makes.
    pub principal: Principal,
    /// 1 for the first.
    pub attempt: u32,
    /// 0 for a call from outside.
    pub depth: u32,
    pub started: Instant,
    pub deadline: Instant,
    /// Order of the app's requests for inference; children are as urgent.
    pub priority: Priority,
    /// Parent of the calls and maps that it spawns: itself, or the call from outside that it is part of.
    pub spawner: CallId,
    /// The other calls of its map, if it is one of a map's.
    pub siblings: Option<Arc<Siblings>>,
    pub log: Arc<CallLog>,
    pub services: Arc<Services>,
    pub boundary: Boundary,
    pub budget: CallBudget,
    pub usage: CallUsage,
}

/// Counters of one attempt.
#[derive(Default)]
pub struct CallUsage {
    inference: Mutex<InferenceReceipt>,
    /// Reason of the last refused request, for the failure that follows from it.
    denial: Mutex<Option<String>>,
    maps_open: AtomicUsize,
    readers_open: AtomicUsize,
    /// Calls and maps that it has spawned.
    spawned: AtomicUsize,
}

/// Running calls of one map. The count of those that wait for a model tells the batcher how many requests may follow.
#[derive(Debug, Default)]
pub struct Siblings {
    running: AtomicUsize,
    asking: AtomicUsize,
}

impl Siblings {
    /// Counts one in until the result is dropped.
    pub fn run(&self) -> impl Drop {
        Counted::new(&self.running)
    }

    fn ask(&self) -> (Counted<'_>, usize) {
        let counted = Counted::new(&self.asking);
        let asking = self.asking.load(Ordering::Relaxed);
        (counted, self.running.load(Ordering::Relaxed).saturating_sub(asking))
    }
}

pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CallContext {
    /// Counts it as waiting for a model until the first result is dropped. The second is the number of siblings that
    /// may ask as well, if it has siblings.
    pub(super) fn ask(&self) -> (Option<Counted<'_>>, Option<usize>) {
        match &self.siblings {
            Some(siblings) => {
                let (counted, following) = siblings.ask();
                (Some(counted), Some(following))
            }
            None => (None, None),
        }
    }

    /// Adds one request's share to the call's receipt.
    pub(super) fn add_inference(&self, share: &InferenceReceipt) {
        self.usage.inference.lock().unwrap_or_else(PoisonError::into_inner).add(share);
    }

    /// Takes the inference part of the receipt.
    pub(super) fn take_inference(&self) -> InferenceReceipt {
        std::mem::take(&mut *self.usage.inference.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes why a request was refused.
    pub(super) fn note_denial(&self, message: String) {
        *self.usage.denial.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }

    /// Takes the reason of the last refusal.
    pub(super) fn take_denial(&self) -> Option<String> {
        self.usage.denial.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the tokens that models took for this attempt so far.
    pub(super) fn tokens_used(&self) -> u64 {
        self.usage.inference.lock().unwrap_or_else(PoisonError::into_inner).tokens
    }

    /// Takes one of the call's open maps, unless all are open.
    pub(super) fn open_map(&self) -> bool {
        count_below(&self.usage.maps_open, MAPS_PER_CALL_MAX)
    }

    /// Takes one of the readers of outcomes that the call may have, unless all are open.
    pub(super) fn open_reader(&self) -> bool {
        count_below(&self.usage.readers_open, MAPS_PER_CALL_MAX)
    }

    /// Gives one back.
    pub(super) fn close_reader(&self) {
        self.usage.readers_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes one of the calls and maps that it may spawn, unless there are none left.
    pub(super) fn spawn(&self) -> bool {
        count_below(&self.usage.spawned, SPAWNS_PER_CALL_MAX)
    }

    /// Whether it has maps open.
    pub fn has_open_maps(&self) -> bool {
        self.usage.maps_open.load(Ordering::Relaxed) > 0
    }

    /// Gives one back.
    pub(super) fn close_map(&self) {
        self.usage.maps_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one more, unless there are `max`.
fn count_below(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1)).is_ok()
}
