//! Counters of calls: by app, function and outcome.
//!
//! A function's handle is looked up once, when its app is deployed; a call adds to it without a lock. Series of a
//! function are dropped when its app is retired or a version without it is deployed; calls that still run then add to
//! counters that nobody reads.

use std::array;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::families::{Families, Source};
use super::histogram::{Histogram, Snapshot};
use super::shards::{Count, Shard, Sharded};
use crate::call::{FailureCode, Receipt};
use crate::ids::{AppName, FunctionName};
use crate::limits::{METRICS_APPS_MAX, METRICS_FUNCTIONS_MAX};

/// Name of the app and function that those without series of their own share; an app of this name shares them, too.
const OTHER: &str = "other";
/// Success, then the failure codes.
const OUTCOMES: usize = FailureCode::ALL.len() + 1;
const DONE: usize = 0;
const CANCELLED: usize = FailureCode::Cancelled as usize + 1;

/// Counters of every deployed function.
#[derive(Debug, Default)]
pub struct CallCounters {
    deployed: Mutex<Deployed>,
    other: Arc<FunctionCounters>,
}

#[derive(Debug, Default)]
struct Deployed {
    apps: BTreeMap<AppName, App>,
    /// Functions of all apps.
    functions: usize,
}

#[derive(Debug, Default)]
struct App {
    counters: Arc<AppCounters>,
    functions: BTreeMap<FunctionName, Arc<FunctionCounters>>,
}

/// Counters of one function.
#[derive(Debug, Default)]
pub struct FunctionCounters {
    app: Arc<AppCounters>,
    shards: Sharded<FunctionShard>,
}

#[derive(Debug, Default)]
struct FunctionShard {
    outcomes: [Count; OUTCOMES],
    attempts: Count,
    retries: Count,
}

#[derive(Debug, Default)]
struct AppCounters {
    shards: Sharded<AppShard>,
}

#[derive(Debug, Default)]
struct AppShard {
    wall: Histogram,
    queue: Histogram,
    refused: Count,
    map_inputs: [Count; OUTCOMES],
}

impl CallCounters {
    /// Returns the counters of the functions of a version that is deployed, in their order. Those of a function that an
    /// earlier version had as well go on, those of one that it alone had are dropped.
    pub(crate) fn deploy<'n>(
        &self,
        app: &AppName,
        functions: impl IntoIterator<Item = &'n FunctionName>,
    ) -> Vec<Arc<FunctionCounters>> {
        let mut deployed = self.deployed.lock();
        let earlier = deployed.remove(app.as_str());
        let has_room = app.as_str() != OTHER && deployed.apps.len() < METRICS_APPS_MAX;
        let mut own = App { counters: earlier.counters, functions: BTreeMap::new() };
        let counters = functions.into_iter().map(|function| {
            if !has_room || deployed.functions == METRICS_FUNCTIONS_MAX {
                return self.other.clone();
            }
            let new = || Arc::new(FunctionCounters { app: own.counters.clone(), shards: Sharded::default() });
            let counters = earlier.functions.get(function).cloned().unwrap_or_else(new);
            if own.functions.insert(function.clone(), counters.clone()).is_none() {
                deployed.functions += 1;
            }
            counters
        });
        let counters = counters.collect();
        if !own.functions.is_empty() {
            deployed.apps.insert(app.clone(), own);
        }
        counters
    }

    /// Drops the series of an app.
    pub(crate) fn retire(&self, app: &str) {
        self.deployed.lock().remove(app);
    }

    /// Returns the counters of calls whose function is not deployed, or has none of its own.
    pub(crate) fn other(&self) -> &Arc<FunctionCounters> {
        &self.other
    }

    /// Returns each function's counters with the names of app and function.
    fn functions(&self) -> Vec<(String, String, Arc<FunctionCounters>)> {
        let deployed = self.deployed.lock();
        let own = deployed.apps.iter().flat_map(|(app, App { functions, .. })| {
            functions.iter().map(|(function, counters)| (app.to_string(), function.to_string(), counters.clone()))
        });
        own.chain([(OTHER.to_owned(), OTHER.to_owned(), self.other.clone())]).collect()
    }

    fn apps(&self) -> Vec<(String, Arc<AppCounters>)> {
        let deployed = self.deployed.lock();
        let own = deployed.apps.iter().map(|(app, App { counters, .. })| (app.to_string(), counters.clone()));
        own.chain([(OTHER.to_owned(), self.other.app.clone())]).collect()
    }
}

impl Deployed {
    fn remove(&mut self, app: &str) -> App {
        let removed = self.apps.remove(app).unwrap_or_default();
        self.functions -= removed.functions.len();
        removed
    }
}

impl FunctionCounters {
    /// Counts a call from its beginning on. Dropped before its end, it was cancelled.
    pub fn begin(&self) -> RunningCall<'_> {
        RunningCall { counters: self, is_ended: false }
    }

    /// Counts an attempt that begins to run; its number is from 1.
    pub fn count_attempt(&self, attempt: u32) {
        let shard = Shard::here();
        let counts = self.shards.at(shard);
        counts.attempts.add(shard, 1);
        if attempt > 1 {
            counts.retries.add(shard, 1);
        }
    }

    /// Counts a call that has ended, with its failure if it has one.
    pub(crate) fn count_end(&self, failure: Option<FailureCode>, receipt: &Receipt) {
        let shard = Shard::here();
        self.shards.at(shard).outcomes[outcome(failure)].add(shard, 1);
        let app = self.app.shards.at(shard);
        if receipt.attempts > 0 {
            app.wall.observe_us(shard, receipt.wall_us);
            app.queue.observe_us(shard, receipt.queue_us);
        } else if failure == Some(FailureCode::Overloaded) {
            app.refused.add(shard, 1);
        }
    }

    /// Counts an input of a map that has ended, and the call that it is.
    pub(crate) fn count_map_input(&self, failure: Option<FailureCode>, receipt: &Receipt) {
        self.count_end(failure, receipt);
        let shard = Shard::here();
        self.app.shards.at(shard).map_inputs[outcome(failure)].add(shard, 1);
    }
}

/// Call that is counted when it ends.
#[must_use = "a call that is dropped counts as cancelled"]
#[derive(Debug)]
pub struct RunningCall<'a> {
    counters: &'a FunctionCounters,
    is_ended: bool,
}

impl RunningCall<'_> {
    /// Counts the end.
    pub fn end(mut self, failure: Option<FailureCode>, receipt: &Receipt) {
        self.is_ended = true;
        self.counters.count_end(failure, receipt);
    }
}

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.counters.count_end(Some(FailureCode::Cancelled), &Receipt::default());
        }
    }
}

fn outcome(failure: Option<FailureCode>) -> usize {
    failure.map_or(DONE, |code| code as usize + 1)
}

fn outcome_name(outcome: usize) -> &'static str {
    outcome.checked_sub(1).map_or("done", |code| FailureCode::ALL[code].as_str())
}

/// Returns the counts that are worth a series: `done` always, failures once they occurred.
fn outcomes(count: impl Fn(usize) -> u64) -> impl Iterator<Item = (&'static str, u64)> {
    let counts: [u64; OUTCOMES] = array::from_fn(count);
    let shown = (0..OUTCOMES).filter(move |outcome| *outcome == DONE || counts[*outcome] > 0);
    shown.map(move |outcome| (outcome_name(outcome), counts[outcome]))
}

impl AppCounters {
    fn histogram(&self, histogram: impl Fn(&AppShard) -> &Histogram) -> Snapshot {
        let mut sum = Snapshot::default();
        self.shards.iter().for_each(|shard| sum.add(&histogram(shard).snapshot()));
        sum
    }
}

impl Source for CallCounters {
    fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        let (functions, apps) = (self.functions(), self.apps());
        families.counters(
            "calls",
            "Calls that ended, by outcome: done or the code of the failure",
            functions.iter().flat_map(|(app, function, counters)| {
                let counts = outcomes(|outcome| counters.shards.sum(|shard| &shard.outcomes[outcome]));
                counts.map(move |(outcome, count)| {
                    ([("app", app.as_str()), ("function", function.as_str()), ("outcome", outcome)], count)
                })
            }),
        )?;
        let by_function = |count: fn(&FunctionShard) -> &Count| {
            functions.iter().map(move |(app, function, counters)| {
                ([("app", app.as_str()), ("function", function.as_str())], counters.shards.sum(count))
            })
        };
        families.counters(
            "call_attempts",
            "Attempts at calls that began to run",
            by_function(|shard| &shard.attempts),
        )?;
        families.counters(
            "call_retries",
            "Attempts at calls after their first",
            by_function(|shard| &shard.retries),
        )?;
        families.counters(
            "calls_refused",
            "Calls that ended as overloaded before they got a slot",
            apps.iter().map(|(app, counters)| ([("app", app.as_str())], counters.shards.sum(|shard| &shard.refused))),
        )?;
        let by_app = |histogram: fn(&AppShard) -> &Histogram| {
            apps.iter().map(move |(app, counters)| ([("app", app.as_str())], counters.histogram(histogram)))
        };
        families.histograms(
            "call_duration_seconds",
            "Wall-clock time of calls that ran, without their wait for a slot",
            by_app(|shard| &shard.wall),
        )?;
        families.histograms("call_queue_seconds", "Wait for a slot of calls that ran", by_app(|shard| &shard.queue))?;
        families.counters(
            "map_inputs",
            "Inputs of maps that ended, by outcome: done or the code of the failure",
            apps.iter().flat_map(|(app, counters)| {
                let counts = outcomes(|outcome| counters.shards.sum(|shard| &shard.map_inputs[outcome]));
                counts.map(move |(outcome, count)| ([("app", app.as_str()), ("outcome", outcome)], count))
            }),
        )
    }
}

const _: () = assert!(CANCELLED < OUTCOMES);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    fn functions(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<FunctionName> {
        names.into_iter().map(|name| FunctionName::new(name.as_ref()).unwrap()).collect()
    }

    fn series(calls: &CallCounters) -> Vec<String> {
        calls.functions().into_iter().map(|(app, function, _)| format!("{app}::{function}")).collect()
    }

    #[test]
    fn the_outcomes_are_in_the_order_of_the_codes() {
        for code in FailureCode::ALL {
            assert_eq!(outcome_name(outcome(Some(code))), code.as_str());
        }
        assert_eq!(outcome_name(outcome(None)), "done");
    }

    #[test]
    fn series_of_a_function_last_as_long_as_it_is_deployed() {
        let calls = CallCounters::default();
        let first = calls.deploy(&name("a"), &functions(["f", "g"]));
        first[0].count_end(None, &Receipt::default());
        let second = calls.deploy(&name("a"), &functions(["f", "h"]));
        assert!(Arc::ptr_eq(&first[0], &second[0]), "a new version counts on");
        assert_eq!(series(&calls), ["a::f", "a::h", "other::other"]);
        calls.retire("a");
        assert_eq!(series(&calls), ["other::other"]);
        assert_eq!(calls.deployed.lock().functions, 0);
        calls.retire("a");
        let again = calls.deploy(&name("a"), &functions(["f"]));
        assert_eq!(again[0].shards.sum(|shard| &shard.outcomes[DONE]), 0);
    }

    #[test]
    fn functions_over_the_bound_share_one_series() {
        let calls = CallCounters::default();
        let many = functions((0..METRICS_FUNCTIONS_MAX - 1).map(|number| format!("f{number}")));
        let own = calls.deploy(&name("many"), &many);
        assert!(own.iter().all(|counters| !Arc::ptr_eq(counters, calls.other())));
        let last = calls.deploy(&name("last"), &functions(["f", "g"]));
        assert!(!Arc::ptr_eq(&last[0], calls.other()) && Arc::ptr_eq(&last[1], calls.other()));
        assert_eq!(series(&calls).len(), METRICS_FUNCTIONS_MAX + 1);
        calls.retire("many");
        assert!(!Arc::ptr_eq(&calls.deploy(&name("last"), &functions(["f", "g"]))[1], calls.other()));
    }

    #[test]
    fn apps_over_the_bound_share_one_series() {
        let calls = CallCounters::default();
        for number in 0..METRICS_APPS_MAX {
            calls.deploy(&name(&format!("a{number}")), &functions(["f"]));
        }
        assert!(Arc::ptr_eq(&calls.deploy(&name("more"), &functions(["f"]))[0], calls.other()));
        assert_eq!(series(&calls).len(), METRICS_APPS_MAX + 1);
        assert!(!Arc::ptr_eq(&calls.deploy(&name("a7"), &functions(["f"]))[0], calls.other()), "it has its place");
    }

    #[test]
    fn an_app_named_other_shares_the_series_of_that_name() {
        let calls = CallCounters::default();
        assert!(Arc::ptr_eq(&calls.deploy(&name("other"), &functions(["other"]))[0], calls.other()));
        assert_eq!(series(&calls), ["other::other"]);
        calls.retire("other");
        assert_eq!(series(&calls), ["other::other"]);
    }

    #[test]
    fn a_call_that_is_dropped_counts_as_cancelled() {
        let counters = FunctionCounters::default();
        drop(counters.begin());
        counters.begin().end(None, &Receipt::default());
        let sum = |outcome: usize| counters.shards.sum(|shard| &shard.outcomes[outcome]);
        assert_eq!((sum(DONE), sum(CANCELLED)), (1, 1));
    }
}
