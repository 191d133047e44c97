//! Byte budget with shares, for memory that a host holds for its apps.
//!
//! A [`Reservation`] is the part that one owner holds for one holder, returned when it is dropped. The budget refuses,
//! it does not wait: a refused owner goes on when it has given something back itself, or when [`ByteBudget::freed`]
//! resolves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::{Holder, HolderCount, Shares};

/// Part of the budget that must be given back after a refusal before refused owners are woken, one in this many: they
/// are woken together, and not for every byte.
const WAKE_STEP: u64 = 16;
/// Part of the budget that one request may ask for and be sure of a wake-up: a refusal then means that more than half
/// of the budget is in use.
const REQUEST_PART: u64 = 8;
/// Part of the budget by which owners that must not wait may exceed it.
pub(super) const EXCESS_PART: u64 = 2;

/// Budget of bytes, shared by the holders of a host. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: u64,
    holders: HolderCount,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    shares: Shares<Holder>,
    /// Largest usage at a refusal since the last wake-up.
    refused_at: Option<u64>,
}

impl ByteBudget {
    pub(crate) fn new(bytes_max: u64, holders: HolderCount) -> Self {
        let state = State { shares: Shares::new(bytes_max, holders.get()), refused_at: None };
        Self(Arc::new(Inner { bytes_max, holders, state: Mutex::new(state), freed: Notify::new() }))
    }

    /// A reservation of nothing, to grow later.
    pub(crate) fn reservation(&self, holder: Holder) -> Reservation {
        Reservation { budget: self.clone(), holder, scope: None, bytes: 0 }
    }

    fn room(&self, holder: &Holder) -> u64 {
        self.0.state.lock().shares.room(holder)
    }

    /// Returns the reserved bytes. They exceed the budget by what owners let pass.
    pub(crate) fn used(&self) -> u64 {
        self.0.state.lock().shares.used()
    }

    /// Largest reservation whose refusal is sure to be followed by a wake-up.
    pub(crate) fn request_max(&self) -> u64 {
        self.0.bytes_max / REQUEST_PART
    }

    /// Whether an owner that must not wait may go over the budget by `bytes`: all of them together by half of it.
    fn may_exceed(&self, bytes: u64) -> bool {
        let bytes_max = self.0.bytes_max.saturating_add(self.0.bytes_max / EXCESS_PART);
        self.used().saturating_add(bytes) <= bytes_max
    }

    /// Returns the bytes that a holder has.
    fn held(&self, holder: &Holder) -> u64 {
        self.0.state.lock().shares.held(holder)
    }

    /// Resolves when a sixteenth of the budget has been given back since a refusal. Enable it before you ask, or a
    /// wake-up is lost.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }

    fn take(&self, holder: &Holder, bytes: u64) {
        self.0.state.lock().shares.take(holder, bytes);
    }

    fn try_take(&self, holder: &Holder, bytes: u64) -> bool {
        let mut state = self.0.state.lock();
        state.shares.set_holders(self.0.holders.get());
        let has_room = state.shares.has_room(holder, bytes);
        if has_room {
            state.shares.take(holder, bytes);
        } else {
            state.refused_at = state.refused_at.max(Some(state.shares.used()));
        }
        has_room
    }

    fn give_back(&self, holder: &Holder, bytes: u64) {
        let mut state = self.0.state.lock();
        state.shares.give_back(holder, bytes);
        let wake_below = state.refused_at.map(|used| used - used.min(self.0.bytes_max / WAKE_STEP));
        if wake_below.is_some_and(|used| state.shares.used() <= used) {
            state.refused_at = None;
            // Under the lock: a waiter that enabled itself before it was refused is woken.
            self.0.freed.notify_waiters();
        }
    }
}

/// Bytes of a holder that are reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: ByteBudget,
    holder: Holder,
    scope: Option<Arc<Scope>>,
    bytes: u64,
}

/// Bound on several reservations together, within their budget: those of the maps of one call.
#[derive(Debug)]
pub(crate) struct Scope {
    bytes_max: u64,
    used: AtomicU64,
}

impl Scope {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes_max, used: AtomicU64::new(0) })
    }

    fn room(&self) -> u64 {
        self.bytes_max.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn try_take(&self, bytes: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

impl Reservation {
    /// Bounds a reservation of nothing, and those that are made of it, by a scope as well.
    pub(crate) fn scoped(self, scope: Arc<Scope>) -> Self {
        let mut scoped = self.another();
        scoped.scope = Some(scope);
        scoped
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes by which it may grow now.
    pub(crate) fn room(&self) -> u64 {
        let room = self.budget.room(&self.holder);
        self.scope.as_ref().map_or(room, |scope| scope.room().min(room))
    }

    /// Returns the bytes that all reservations of the holder have together.
    pub(crate) fn held(&self) -> u64 {
        self.budget.held(&self.holder)
    }

    /// Whether it may grow by `bytes` though it was refused, because its owner cannot go on otherwise.
    pub(crate) fn may_exceed(&self, bytes: u64) -> bool {
        self.budget.may_exceed(bytes)
    }

    /// A reservation of nothing, of the same budget, holder and scope.
    pub(crate) fn another(&self) -> Self {
        Self { budget: self.budget.clone(), holder: self.holder.clone(), scope: self.scope.clone(), bytes: 0 }
    }

    /// Makes it this large, whether there is room or not.
    pub(crate) fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            self.budget.take(&self.holder, more);
            self.scope.iter().for_each(|scope| scope.take(more));
        } else if bytes < self.bytes {
            let less = self.bytes - bytes;
            self.budget.give_back(&self.holder, less);
            self.scope.iter().for_each(|scope| scope.give_back(less));
        }
        self.bytes = bytes;
    }

    /// Makes it this large if there is room; returns whether it did.
    #[must_use]
    pub(crate) fn try_set(&mut self, bytes: u64) -> bool {
        if bytes <= self.bytes {
            self.set(bytes);
            return true;
        }
        let more = bytes - self.bytes;
        if self.scope.as_ref().is_some_and(|scope| !scope.try_take(more)) {
            return false;
        }
        let has_room = self.budget.try_take(&self.holder, more);
        if has_room {
            self.bytes = bytes;
        } else {
            self.scope.iter().for_each(|scope| scope.give_back(more));
        }
        has_room
    }

    /// Takes over the bytes of another reservation of the same budget, holder and scope.
    pub(crate) fn merge(&mut self, mut other: Self) {
        debug_assert_eq!(self.holder, other.holder);
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::AppName;

    fn app(name: &str) -> Holder {
        Holder::App(AppName::new(name).expect("a name"))
    }

    /// A budget with a single holder, who may have all of it but the shares of the host and of the next app.
    fn of_one_app(bytes_max: u64) -> ByteBudget {
        let holders = HolderCount::default();
        holders.set_apps(1);
        ByteBudget::new(bytes_max, holders)
    }

    #[test]
    fn a_full_budget_refuses_and_wakes_once_it_has_room_again() {
        let budget = of_one_app(480);
        let (mut first, mut second) = (budget.reservation(app("a")), budget.reservation(app("a")));
        assert!(first.try_set(395));
        let mut freed = pin!(budget.freed());
        freed.as_mut().enable();
        assert!(!second.try_set(6));
        assert!(second.try_set(5));
        // The refusal was at 395.
        first.set(361);
        assert!(freed.as_mut().now_or_never().is_none(), "366 are used");
        first.set(360);
        assert!(freed.now_or_never().is_some());
        second.set(500);
        assert_eq!((budget.used(), first.room()), (860, 0));
        first.merge(second);
        assert_eq!((first.bytes(), budget.used()), (860, 860));
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_holder_has_its_share_beside_one_that_took_the_rest() {
        let budget = of_one_app(480);
        let (mut flood, mut other) = (budget.reservation(app("a")), budget.reservation(Holder::Host));
        while flood.try_set(flood.bytes() + 1) {}
        assert_eq!(flood.bytes(), 400);
        assert!(other.try_set(40));
        assert!(!other.try_set(41));
    }

    #[test]
    fn reservations_of_one_scope_are_bounded_together() {
        let (budget, scope) = (of_one_app(480), Scope::new(100));
        let mut first = budget.reservation(app("a")).scoped(scope.clone());
        let mut second = first.another();
        assert!(first.try_set(70) && !second.try_set(31) && second.try_set(30));
        assert_eq!((first.room(), budget.used()), (0, 100));
        // An owner that lets one input pass goes over the bound.
        second.set(50);
        first.merge(second);
        assert_eq!((first.bytes(), scope.used.load(Ordering::Relaxed)), (120, 120));
        drop(first);
        assert_eq!((scope.room(), budget.used()), (100, 0));
    }

    proptest! {
        /// After any sequence of reservations, refusals and drops: usage is the sum of the reservations, and requests
        /// that may be refused never take it over the budget.
        #[test]
        fn usage_is_the_sum_of_the_reservations(steps in proptest::collection::vec((0_usize..4, 0_u64..60), 0..100)) {
            let budget = of_one_app(100);
            let of = |owner: usize| budget.reservation(if owner == 0 { Holder::Host } else { app("a") });
            let mut reservations: Vec<_> = (0..4).map(of).collect();
            for (owner, bytes) in steps {
                if bytes == 0 {
                    reservations[owner] = of(owner);
                } else {
                    let before = reservations[owner].bytes();
                    let is_set = reservations[owner].try_set(bytes);
                    prop_assert_eq!(reservations[owner].bytes(), if is_set { bytes } else { before });
                }
                prop_assert_eq!(budget.used(), reservations.iter().map(Reservation::bytes).sum::<u64>());
                prop_assert!(budget.used() <= 100);
            }
            drop(reservations);
            prop_assert_eq!(budget.used(), 0);
        }

        /// A refused request of at most an eighth of the budget is followed by a wake-up once the others have given
        /// back what they hold.
        #[test]
        fn a_refused_owner_is_woken(
            held in proptest::collection::vec((0_usize..3, 1_u64..200), 1..40),
            bytes in 1_u64..=100,
        ) {
            let budget = of_one_app(800);
            let holders = [Holder::Host, app("a"), app("b")];
            let mut others = Vec::new();
            for (holder, bytes) in held {
                let mut reservation = budget.reservation(holders[holder].clone());
                if reservation.try_set(bytes) {
                    others.push(reservation);
                }
            }
            let mut waiting = budget.reservation(app("a"));
            let mut freed = pin!(budget.freed());
            freed.as_mut().enable();
            if !waiting.try_set(bytes) {
                others.clear();
                prop_assert!(freed.now_or_never().is_some());
                prop_assert!(waiting.try_set(bytes));
            }
        }
    }
}
