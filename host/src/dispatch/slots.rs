//! Slots of the host: drives `admission`, wakes the calls that it admits, and refuses calls once the host is closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::admission::{Admission, Decision, Grant, Request, Ticket};
use super::call::shutting_down;
use crate::budgets::HolderCount;
use crate::call::{Failure, FailureCode, micros};
use crate::ids::AppName;

/// The slots and the queue in front of them.
pub(super) struct Slots {
    total: usize,
    holders: HolderCount,
    queue: Mutex<Queue>,
    /// Set by `close` under the lock of `queue`, once and for all.
    closed: AtomicBool,
    /// Notified when `closed` is set.
    closing: Notify,
}

struct Queue {
    admission: Admission,
    wakers: HashMap<Ticket, oneshot::Sender<Grant>>,
}

impl Slots {
    pub(crate) fn new(slots_max: usize, waiting_max: usize, holders: HolderCount) -> Self {
        let admission = Admission::new(slots_max, waiting_max);
        let total = admission.slots_max();
        let queue = Mutex::new(Queue { admission, wakers: HashMap::new() });
        Self { total, holders, queue, closed: AtomicBool::new(false), closing: Notify::new() }
    }

    /// Refuses calls from outside from now on, those that wait included.
    pub(crate) fn close(&self) {
        {
            let _queue = self.lock();
            self.closed.store(true, Ordering::Relaxed);
        }
        self.closing.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until `close`.
    pub(crate) async fn closing(&self) {
        let mut closing = std::pin::pin!(self.closing.notified());
        // Listens first, so that nothing falls between.
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// Returns the number of slots.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Counts the slots in use and the calls that wait for one.
    pub(crate) fn load(&self) -> (usize, usize) {
        let queue = self.lock();
        (queue.admission.slots_used(), queue.admission.waiting())
    }

    /// Returns the durable calls of an app that wait.
    pub(crate) fn durable_waiting_of(&self, app: &AppName) -> usize {
        self.lock().admission.durable_waiting_of(app)
    }

    /// Waits for a slot.
    pub(crate) async fn acquire(&self, request: Request) -> Result<Slot<'_>, Failure> {
        // A child goes on: its parent holds a slot until it has ended.
        let ends_with_host = request.depth == 0 || request.is_durable;
        let (ticket, admitted) = {
            let mut queue = self.lock();
            if ends_with_host && self.is_closed() {
                return Err(shutting_down());
            }
            queue.admission.set_holders(self.holders.get());
            match queue.admission.request(&request) {
                Decision::Run(grant) => return Ok(Slot::new(self, request, grant)),
                Decision::Refuse { waiting, waiting_of_app } => {
                    let message = format!(
                        "{waiting} calls wait for a slot, {waiting_of_app} of them of `{}`; no more may; try again later",
                        request.app
                    );
                    return Err(Failure::new(FailureCode::Overloaded, message));
                }
                Decision::Wait(ticket) => {
                    let (waker, admitted) = oneshot::channel();
                    queue.wakers.insert(ticket, waker);
                    (ticket, admitted)
                }
            }
        };
        let mut waiting = Waiting { slots: self, request: Some(request), ticket, admitted };
        let grant = tokio::select! {
            biased;
            grant = &mut waiting.admitted => grant,
            () = self.closing(), if ends_with_host => return Err(shutting_down()),
        };
        let grant = grant.expect("a waker is dropped only after it was used, or by `Waiting`");
        let request = waiting.request.take().expect("it is taken once");
        Ok(Slot::new(self, request, grant))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}

impl Queue {
    fn release(&mut self, request: &Request, grant: Grant, ran_us: Option<u64>) {
        for (ticket, grant) in self.admission.release(request, grant, ran_us) {
            if let Some(waker) = self.wakers.remove(&ticket) {
                // A receiver that is gone is one whose `Waiting` is about to give the slot back.
                let _ = waker.send(grant);
            }
        }
    }
}

/// A slot, given back when dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    request: Request,
    grant: Grant,
    since: Instant,
}

impl<'a> Slot<'a> {
    fn new(slots: &'a Slots, request: Request, grant: Grant) -> Self {
        Self { slots, request, grant, since: Instant::now() }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let ran_us = micros(self.since.elapsed());
        self.slots.lock().release(&self.request, self.grant, Some(ran_us));
    }
}

/// A place in the queue, given up when dropped before its turn came.
struct Waiting<'a> {
    slots: &'a Slots,
    /// Taken when its turn has come.
    request: Option<Request>,
    ticket: Ticket,
    admitted: oneshot::Receiver<Grant>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(request) = &self.request else { return };
        let mut queue = self.slots.lock();
        queue.wakers.remove(&self.ticket);
        if !queue.admission.abandon(request, self.ticket)
            // Its turn had come, unseen: grants are sent under the lock.
            && let Ok(grant) = self.admitted.try_recv()
        {
            queue.release(request, grant, None);
        }
    }
}
