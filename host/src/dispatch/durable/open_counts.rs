//! Open calls and maps of each app: counted when accepted, released when they end, refused over a bound.

use std::collections::HashMap;

use super::error::DurableError;
use crate::ids::AppName;
use crate::limits::{OPEN_CALLS_PER_APP_MAX, OPEN_MAPS_PER_APP_MAX};
use crate::storage::Kind;
use parking_lot::{Mutex, MutexGuard};

/// See the module.
#[derive(Debug, Default)]
pub struct OpenCounts {
    by_app: Mutex<HashMap<AppName, Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    maps: usize,
}

impl Counts {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Call => &mut self.calls,
            Kind::Map => &mut self.maps,
        }
    }
}

impl OpenCounts {
    /// Counts one more, or refuses it. The count is given back when the reservation is dropped, unless it was kept.
    pub fn reserve<'a>(&'a self, app: &'a AppName, kind: Kind) -> Result<Reservation<'a>, DurableError> {
        let (max, what) = match kind {
            Kind::Call => (OPEN_CALLS_PER_APP_MAX, "durable calls"),
            Kind::Map => (OPEN_MAPS_PER_APP_MAX, "durable maps"),
        };
        let mut by_app = self.lock();
        let count = by_app.entry(app.clone()).or_default().of(kind);
        if *count >= max {
            return Err(DurableError::TooMany { app: app.clone(), open: *count, what });
        }
        *count += 1;
        drop(by_app);
        Ok(Reservation { counts: self, app, kind, is_kept: false })
    }

    /// Counts one that was accepted by an earlier host, over the bound if need be.
    pub fn recover(&self, app: &AppName, kind: Kind) {
        *self.lock().entry(app.clone()).or_default().of(kind) += 1;
    }

    /// Counts one less: it has ended.
    pub fn release(&self, app: &AppName, kind: Kind) {
        let mut by_app = self.lock();
        let Some(counts) = by_app.get_mut(app) else { return };
        let count = counts.of(kind);
        *count = count.saturating_sub(1);
        if counts.calls == 0 && counts.maps == 0 {
            by_app.remove(app);
        }
    }

    /// Returns how many calls are open, over all apps.
    pub fn calls(&self) -> usize {
        self.lock().values().map(|counts| counts.calls).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, Counts>> {
        self.by_app.lock()
    }
}

/// A count that is given back when dropped, unless `keep` was called.
#[derive(Debug)]
pub struct Reservation<'a> {
    counts: &'a OpenCounts,
    app: &'a AppName,
    kind: Kind,
    is_kept: bool,
}

impl Reservation<'_> {
    /// The call or map is on disk; `OpenCounts::release` gives its count back.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.counts.release(self.app, self.kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    #[test]
    fn an_app_at_its_bound_is_refused_until_one_ends_and_others_are_not() {
        let (counts, full, other) = (OpenCounts::default(), app("full"), app("other"));
        for _ in 0..OPEN_MAPS_PER_APP_MAX {
            counts.reserve(&full, Kind::Map).unwrap().keep();
        }
        let refused = counts.reserve(&full, Kind::Map).unwrap_err().to_string();
        assert_eq!(
            refused,
            "`full` has 1000 durable maps that have not ended, as many as may; try again when some have"
        );
        assert!(counts.reserve(&full, Kind::Call).is_ok());
        assert!(counts.reserve(&other, Kind::Map).is_ok());
        counts.release(&full, Kind::Map);
        assert!(counts.reserve(&full, Kind::Map).is_ok());
    }

    #[test]
    fn a_dropped_reservation_and_an_ended_call_leave_nothing() {
        let (counts, app) = (OpenCounts::default(), app("a"));
        drop(counts.reserve(&app, Kind::Call).unwrap());
        assert!(counts.lock().is_empty());
        counts.reserve(&app, Kind::Call).unwrap().keep();
        counts.recover(&app, Kind::Map);
        assert_eq!(counts.calls(), 1);
        counts.release(&app, Kind::Call);
        counts.release(&app, Kind::Map);
        counts.release(&app, Kind::Map);
        assert!(counts.lock().is_empty());
    }
}
