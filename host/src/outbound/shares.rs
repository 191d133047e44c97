//! Shares of apps in places of the host: connections, and threads of look-ups.
//!
//! Invariants: places that are free are anyone's, but the last eighth is for apps that hold less than an eighth of
//! all: no app keeps every other one out. A place counts to its app until it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Part of the places that is kept for apps with less than as many.
const RESERVE: usize = 8;

/// Places, and the apps that hold them.
#[derive(Debug)]
pub(super) struct Shares {
    max: usize,
    held: Mutex<Held>,
    /// Notified when a place is given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_app: HashMap<Arc<str>, usize>,
}

/// One place of an app, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    app: Arc<str>,
}

impl Shares {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::default(), freed: Notify::new() })
    }

    /// Takes a place, if the app may have another now.
    pub(super) fn try_take(self: &Arc<Self>, app: &Arc<str>) -> Option<Share> {
        let mut held = self.held.lock();
        let reserve = self.reserve();
        let own = held.by_app.get(app).copied().unwrap_or(0);
        let max = if own < reserve { self.max } else { self.max - reserve };
        if held.total >= max {
            return None;
        }
        held.total += 1;
        *held.by_app.entry(app.clone()).or_default() += 1;
        Some(Share { shares: self.clone(), app: app.clone() })
    }

    /// Waits for a place.
    pub(super) async fn take(self: &Arc<Self>, app: &Arc<str>) -> Share {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Listens first, so that nothing falls between.
            freed.as_mut().enable();
            if let Some(share) = self.try_take(app) {
                return share;
            }
            freed.await;
        }
    }

    /// Whether the app holds its part of the reserve, so that only places of all are left for it.
    pub(super) fn is_over_share(&self, app: &str) -> bool {
        self.held.lock().by_app.get(app).is_some_and(|own| *own >= self.reserve())
    }

    /// At least one place, unless there is none to spare.
    fn reserve(&self) -> usize {
        self.max.div_ceil(RESERVE).min(self.max.saturating_sub(1))
    }
}

impl Share {
    /// Returns the app that holds it.
    pub(super) fn app(&self) -> &Arc<str> {
        &self.app
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock();
        held.total -= 1;
        if let Some(own) = held.by_app.get_mut(&self.app) {
            *own -= 1;
            if *own == 0 {
                held.by_app.remove(&self.app);
            }
        }
        drop(held);
        self.shares.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn app(name: &str) -> Arc<str> {
        name.into()
    }

    fn fill(shares: &Arc<Shares>, name: &str) -> Vec<Share> {
        std::iter::from_fn(|| shares.try_take(&app(name))).collect()
    }

    #[test]
    fn an_app_that_takes_all_it_can_leaves_places_for_others() {
        let shares = Shares::new(64);
        let greedy = fill(&shares, "greedy");
        assert_eq!(greedy.len(), 56);
        let second = fill(&shares, "second");
        assert_eq!(second.len(), 8);
        assert!(shares.try_take(&app("third")).is_none());
        drop(greedy);
        // What is free is anyone's.
        assert_eq!(fill(&shares, "second").len(), 48);
        assert_eq!(Shares::new(1).reserve(), 0);
        assert_eq!(fill(&Shares::new(1), "only").len(), 1);
    }

    #[test]
    fn a_place_that_is_given_back_wakes_an_app_that_waits() {
        let shares = Shares::new(2);
        let held = fill(&shares, "one");
        assert_eq!(held.len(), 1);
        assert!(shares.is_over_share("one") && !shares.is_over_share("two"));
        let one = app("one");
        let mut waiting = std::pin::pin!(shares.take(&one));
        assert!(waiting.as_mut().now_or_never().is_none());
        let other = shares.try_take(&app("two")).unwrap();
        drop(held);
        // The other app holds one of two, and the last is not for an app with one.
        assert!(waiting.as_mut().now_or_never().is_some());
        drop(other);
        assert!(shares.held.lock().by_app.is_empty());
    }

    proptest! {
        /// Whatever the others do, an app without a place gets one while fewer than an eighth of the apps wait for it.
        #[test]
        fn places_are_counted_and_the_reserve_is_kept(max in 2usize..70, steps in prop::collection::vec((0usize..4, any::<bool>()), 0..400)) {
            let shares = Shares::new(max);
            let mut held: [Vec<Share>; 4] = Default::default();
            for (who, takes) in steps {
                let name = app(&who.to_string());
                if takes {
                    held[who].extend(shares.try_take(&name));
                } else {
                    held[who].pop();
                }
                let counts = held.each_ref().map(Vec::len);
                let total: usize = counts.iter().sum();
                prop_assert!(total <= max);
                prop_assert_eq!(shares.held.lock().total, total);
                let reserve = shares.reserve();
                // Places beyond those of all are held by apps within their share.
                let within: usize = counts.iter().map(|own| (*own).min(reserve)).sum();
                prop_assert!(total <= max - reserve || within >= total - (max - reserve));
            }
        }
    }
}
