//! Open calls and maps of each app, in memory: counted from the index when a host joins, reserved by an accept,
//! released when one ends.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::AppName;
use crate::storage::{Counts, Kind};

/// Counts of what is open, by app.
#[derive(Debug, Default)]
pub(crate) struct OpenCounts {
    by_app: Mutex<HashMap<AppName, Counts>>,
}

/// Newest id among the calls and maps of the database. Ids are in the order of time, so a newer one is not there yet.
#[derive(Debug)]
pub(crate) struct NewestId(Mutex<u128>);

impl Default for NewestId {
    /// No id is newer, until the host has joined.
    fn default() -> Self {
        Self(Mutex::new(u128::MAX))
    }
}

impl NewestId {
    pub(crate) fn replace(&self, id: u128) {
        *self.0.lock() = id;
    }

    /// Takes an id in. Returns whether it is newer than all before.
    pub(crate) fn passes(&self, id: [u8; 16]) -> bool {
        let (id, mut newest) = (u128::from_be_bytes(id), self.0.lock());
        let is_newer = id > *newest;
        if is_newer {
            *newest = id;
        }
        is_newer
    }
}

/// Count of a call or map that may be accepted; given back when dropped, unless it was kept.
#[derive(Debug)]
pub(crate) struct Reservation {
    counts: Arc<OpenCounts>,
    app: AppName,
    kind: Kind,
    is_kept: bool,
}

fn of(counts: &mut Counts, kind: Kind) -> &mut usize {
    match kind {
        Kind::Call => &mut counts.calls,
        Kind::Map => &mut counts.maps,
    }
}

impl OpenCounts {
    /// Counts one more; with `max` already open, returns how many there are.
    pub(crate) fn reserve(self: &Arc<Self>, app: &AppName, kind: Kind, max: usize) -> Result<Reservation, usize> {
        let mut by_app = self.by_app.lock();
        let open = by_app.get_mut(app).map_or(0, |counts| *of(counts, kind));
        if open >= max {
            return Err(open);
        }
        *of(by_app.entry(app.clone()).or_default(), kind) += 1;
        drop(by_app);
        Ok(Reservation { counts: self.clone(), app: app.clone(), kind, is_kept: false })
    }

    /// Counts one that is open already, over any bound.
    pub(crate) fn recover(&self, app: &AppName, kind: Kind) {
        *of(self.by_app.lock().entry(app.clone()).or_default(), kind) += 1;
    }

    /// Counts one less: it has ended.
    pub(crate) fn release(&self, app: &AppName, kind: Kind) {
        let mut by_app = self.by_app.lock();
        let Some(counts) = by_app.get_mut(app) else { return };
        let count = of(counts, kind);
        *count = count.saturating_sub(1);
        if *counts == Counts::default() {
            by_app.remove(app);
        }
    }

    /// Puts the counts of all apps in the place of those from before.
    pub(crate) fn replace(&self, by_app: HashMap<AppName, Counts>) {
        *self.by_app.lock() = by_app;
    }

    /// Returns how much is open, over all apps.
    pub(crate) fn total(&self) -> Counts {
        self.by_app.lock().values().fold(Counts::default(), |total, counts| Counts {
            calls: total.calls + counts.calls,
            maps: total.maps + counts.maps,
        })
    }
}

impl Reservation {
    /// Keeps the count: the call or map is on disk, and `OpenCounts::release` gives it back.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_kept {
            self.counts.release(&self.app, self.kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_at_its_bound_is_refused_until_one_ends_and_others_are_not() {
        let (counts, full, other) = (Arc::<OpenCounts>::default(), "full".parse().unwrap(), "other".parse().unwrap());
        for _ in 0..3 {
            counts.reserve(&full, Kind::Map, 3).unwrap().keep();
        }
        assert_eq!(counts.reserve(&full, Kind::Map, 3).unwrap_err(), 3);
        assert!(counts.reserve(&full, Kind::Call, 1).is_ok());
        assert!(counts.reserve(&other, Kind::Map, 1).is_ok());
        counts.release(&full, Kind::Map);
        assert!(counts.reserve(&full, Kind::Map, 3).is_ok());
    }

    #[test]
    fn a_dropped_reservation_and_an_ended_call_leave_nothing() {
        let (counts, app) = (Arc::<OpenCounts>::default(), "a".parse().unwrap());
        drop(counts.reserve(&app, Kind::Call, 1).unwrap());
        assert_eq!(counts.reserve(&app, Kind::Call, 0).unwrap_err(), 0);
        assert!(counts.by_app.lock().is_empty());
        counts.reserve(&app, Kind::Call, 1).unwrap().keep();
        counts.recover(&app, Kind::Map);
        assert_eq!(counts.total(), Counts { calls: 1, maps: 1 });
        counts.release(&app, Kind::Call);
        counts.release(&app, Kind::Map);
        counts.release(&app, Kind::Map);
        assert!(counts.by_app.lock().is_empty());
    }
}
