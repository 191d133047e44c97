//! Readers of components, metadata and schedules, for the targets in `fuzz/`.

use jiff::Timestamp;

use super::ComponentBytes;
use super::footprint::Footprint;
use super::metadata::{CronSchedule, Metadata, Schedule};
use super::route::{self, Route, RouteMatch};
use super::timetable::Timetable;
use crate::limits::Ceilings;

/// Checks a component's bytes.
pub fn component(bytes: &[u8]) -> Result<ComponentBytes, String> {
    ComponentBytes::new(bytes.to_vec()).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// Returns the component without attached metadata.
pub fn code(component: &ComponentBytes) -> &[u8] {
    component.code()
}

/// Returns the component with `metadata` attached to its code.
pub fn with_metadata(component: &ComponentBytes, metadata: &Metadata) -> Result<ComponentBytes, String> {
    component.with_metadata(metadata).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// Counts core instances, memories and tables; the error says that they do not fit a slot.
pub fn footprint(component: &[u8]) -> ([u64; 3], Result<(), String>) {
    let footprint = Footprint::of(component);
    let Footprint { core_instances, memories, tables } = footprint;
    ([core_instances, memories, tables], footprint.check().map_err(|error| error.to_string()))
}

/// Parses a metadata document.
pub fn metadata(json: &[u8]) -> Result<Metadata, String> {
    Metadata::parse(json).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// Returns why functions of a document are over this host's ceilings.
pub fn over_ceilings(metadata: &Metadata) -> Vec<String> {
    let limits = metadata.functions.iter().map(|function| function.limits(&Ceilings::default()));
    limits.filter_map(Result::err).map(|error| format!("{:#}", anyhow::Error::from(error))).collect()
}

/// Due times of a cron pattern.
pub struct Times(Timetable);

/// Parses a cron pattern and the name of a time zone.
pub fn schedule(cron: &str, tz: &str) -> Result<Times, String> {
    let (missed, overlap) = Default::default();
    let schedule = CronSchedule { cron: cron.to_owned(), tz: tz.to_owned(), missed, overlap };
    Timetable::parse(&Schedule::Cron(schedule)).map(Times)
}

impl Times {
    /// Returns the first due time after `now`.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.next_after(now, now)
    }

    /// Returns the latest due time between `first`, itself one, and `now`, and the number of due times.
    pub fn until(&self, first: Timestamp, now: Timestamp, count_max: u64) -> (Timestamp, u64) {
        self.0.until(first, now, count_max)
    }

    /// Whether the pattern matches the wall clock at `time`.
    pub fn matches(&self, time: Timestamp) -> bool {
        match &self.0 {
            Timetable::Cron { pattern, zone } => {
                pattern.is_time_matching(&time.to_zoned(zone.clone())).unwrap_or(false)
            }
            Timetable::Period(_) => false,
        }
    }

    /// Whether the clock jumped forward within `hours` before `time`: a time that was skipped is due after the gap.
    pub fn follows_gap(&self, time: Timestamp, hours: i64) -> bool {
        let Timetable::Cron { zone, .. } = &self.0 else { return false };
        let offset = |time: Timestamp| zone.to_offset(time).seconds();
        let before = time.checked_sub(jiff::SignedDuration::from_hours(hours)).unwrap_or(time);
        offset(before) < offset(time)
    }

    /// Returns the times in words.
    pub fn words(&self) -> String {
        self.0.words()
    }
}

/// Finds the route of a request: the place of its text among `routes`, or the methods that its path takes.
pub fn route(routes: &[Route], method: &str, path: &str) -> Result<Option<usize>, Vec<&'static str>> {
    let Some(segments) = route::segments(path) else { return Ok(None) };
    match route::find(routes.iter().enumerate(), method, &segments) {
        RouteMatch::To(place) => {
            assert!(routes[place].takes(method) && routes[place].fits(&segments), "a route that does not fit");
            Ok(Some(place))
        }
        RouteMatch::OtherMethods(methods) => Err(methods),
        RouteMatch::Nowhere => Ok(None),
    }
}

/// Parses a route.
pub fn parse_route(text: &str) -> Result<Route, String> {
    text.parse::<Route>().map_err(|error| error.to_string())
}
