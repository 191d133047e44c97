//! Compares what the host has in the end with what the client wrote down. A plain value: lines and rows in,
//! violations out.
//!
//! - I1: every acknowledged input reaches a terminal state, the one that its function gives it.
//! - I2: exactly one result for each (map, index), and one that was read never changes.
//! - I3: attempts are at most the first, the retries, and the kills in its life.
//! - I4: no result for what was never accepted.
//! - I5: the counts shown are the counts stored.

mod expected;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use bireme::ids::{CallId, MapId};

pub(crate) use self::expected::Expected;
use self::expected::{Call, Map};
use super::found::{Found, FoundCall, FoundMap};
use super::function::Outcome;
use super::log::Line;

/// Broken promise, with the expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

#[derive(Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, invariant: &'static str, what: String) {
        self.0.push(Violation { invariant, what });
    }

    fn unless(&mut self, holds: bool, invariant: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.add(invariant, what());
        }
    }
}

/// Returns everything that does not hold.
pub(crate) fn check(lines: &[Line], found: &Found) -> Vec<Violation> {
    let mut violations = Violations::default();
    let expected = Expected::read(lines, &mut violations);
    for (id, call) in &expected.calls {
        match found.calls.get(id) {
            Some(stored) => check_call(*id, call, stored, found, &expected, &mut violations),
            None => violations.add("I1", format!("call {id} was acknowledged and is not there")),
        }
    }
    for (id, map) in &expected.maps {
        match found.maps.get(id) {
            Some(stored) => check_map(*id, map, stored, found, &expected, &mut violations),
            None => violations.add("I1", format!("map {id} was acknowledged and is not there")),
        }
    }
    check_strangers(&expected, found, &mut violations);
    let Found { live, waiting, open_maps, .. } = found;
    violations.unless((*live, *waiting, *open_maps) == (0, 0, 0), "I1", || {
        format!("expected nothing under way at the end, found {live} live, {waiting} waiting, {open_maps} maps")
    });
    violations.0
}

fn check_call(
    id: CallId,
    call: &Call,
    stored: &FoundCall,
    found: &Found,
    expected: &Expected,
    violations: &mut Violations,
) {
    let FoundCall { outcome, attempts, document } = stored;
    let natural = call.function.expected(call.n);
    let is_cancelled = outcome.state == "cancelled";
    let may_be = if is_cancelled { call.is_cancel_asked } else { *outcome == natural };
    violations.unless(may_be, "I1", || {
        let or = if call.is_cancel_asked { " or cancelled" } else { "" };
        format!("call {id} of {}({}): expected {natural}{or}, found {outcome}", call.function.name(), call.n)
    });
    for seen in &call.seen {
        violations.unless(
            seen.state == outcome.state && seen.output.is_none_or(|n| Some(n) == outcome.output),
            "I2",
            || format!("call {id}: was read as {seen}, then as {outcome}"),
        );
    }
    let max = 1 + call.function.retries() + expected.kills.saturating_sub(call.kills);
    let executions = found.executions.get(&id.to_string()).copied().unwrap_or(0);
    for (what, attempts) in [("attempts", *attempts), ("executions", executions)] {
        violations
            .unless(attempts <= max, "I3", || format!("call {id}: expected at most {max} {what}, found {attempts}"));
    }
    violations.unless(is_cancelled || executions > 0, "I4", || format!("call {id} has a result and never ran"));
    let listed = found.listed.get(&id.to_string());
    violations.unless(listed == Some(document), "I5", || {
        format!("call {id}: expected {document} in the list, found {listed:?}")
    });
}

fn check_map(id: MapId, map: &Map, stored: &FoundMap, found: &Found, expected: &Expected, violations: &mut Violations) {
    let accepted = map.inputs.len() as u64;
    let state = stored.state.as_str();
    let is_cancelled = state == "cancelled";
    let may_be = match &map.cancelled {
        Some(acknowledged) => acknowledged == state,
        None => state == "done" || (is_cancelled && map.is_cancel_asked),
    };
    violations.unless(may_be, "I1", || {
        format!("map {id}: expected {}, found {state}", map.cancelled.as_deref().unwrap_or("done"))
    });

    let mut results = BTreeMap::new();
    for (index, outcome, attempt) in &stored.by_input {
        let earlier = results.insert(*index, (outcome, *attempt));
        violations.unless(earlier.is_none(), "I2", || format!("map {id}: input {index} has two results, expected one"));
    }
    let mut completed = BTreeSet::new();
    for (index, outcome, _) in &stored.by_completion {
        violations.unless(completed.insert(*index), "I2", || {
            format!("map {id}: input {index} has two results in the order of completion, expected one")
        });
        let in_order = results.get(index).map(|(outcome, _)| *outcome);
        violations.unless(in_order == Some(outcome), "I2", || {
            format!("map {id}: input {index} is {outcome} in one order and {in_order:?} in the other")
        });
    }
    violations.unless(completed.len() == results.len(), "I2", || {
        format!("map {id}: {} results in one order, {} in the other", results.len(), completed.len())
    });

    for (index, (n, kills)) in (0..).zip(&map.inputs) {
        let natural = map.function.expected(*n);
        let call = id.call(index);
        let executions = found.executions.get(&call.to_string()).copied().unwrap_or(0);
        let max = (1 + map.function.retries() + expected.kills.saturating_sub(*kills)) * (1 + map.retries_asked);
        violations.unless(executions <= max, "I3", || {
            format!("map {id}: expected at most {max} executions of input {index}, found {executions}")
        });
        let Some((outcome, attempt)) = results.get(&index) else {
            violations.unless(is_cancelled && !map.is_retried, "I1", || {
                format!("map {id}: expected {natural} for input {index}, found none")
            });
            continue;
        };
        violations.unless(**outcome == natural, "I1", || {
            format!("map {id}: expected {natural} for input {index}, {}({n}), found {outcome}", map.function.name())
        });
        violations.unless(*attempt <= max, "I3", || {
            format!("map {id}: expected at most {max} attempts at input {index}, found {attempt}")
        });
        violations.unless(executions > 0, "I4", || format!("map {id}: input {index} has a result and never ran"));
    }
    for index in results.keys().filter(|index| **index >= accepted) {
        violations.add("I4", format!("map {id}: a result for input {index}, expected none: {accepted} were accepted"));
    }
    for (index, seen) in &map.seen {
        let now = results.get(index).map(|(outcome, _)| *outcome);
        violations
            .unless(now == Some(seen), "I2", || format!("map {id}: input {index} was read as {seen}, then as {now:?}"));
    }

    let counted = |state: &str| results.values().filter(|(outcome, _)| outcome.state == state).count() as u64;
    let mut counts = ["done", "failed", "dead"].map(|state| (state, counted(state))).to_vec();
    counts.push(("accepted", accepted));
    counts.push(("cancelled", if is_cancelled { accepted.saturating_sub(results.len() as u64) } else { 0 }));
    for (name, count) in counts {
        let shown = stored.count(name);
        violations.unless(shown == count, "I5", || format!("map {id}: expected {count} {name}, found {shown}"));
    }
    let listed = found.listed.get(&id.to_string());
    violations.unless(listed == Some(&stored.document), "I5", || {
        format!("map {id}: expected {} in the list, found {listed:?}", stored.document)
    });
}

/// Finds calls and runs that nobody asked for.
fn check_strangers(expected: &Expected, found: &Found, violations: &mut Violations) {
    let mut known: HashSet<String> = expected.calls.keys().map(CallId::to_string).collect();
    known.extend(expected.maps.keys().map(MapId::to_string));
    for id in found.listed.keys().filter(|id| !known.contains(*id)) {
        violations.add("I4", format!("{id} is in the list and was never acknowledged"));
    }
    for (id, map) in &expected.maps {
        known.extend((0..map.inputs.len() as u64).map(|index| id.call(index).to_string()));
    }
    for id in found.executions.keys().filter(|id| !known.contains(*id)) {
        violations.add("I4", format!("{id} ran and was never accepted"));
    }
}

/// Returns true if an outcome that was read may give way to another: only a failure that the client asked to run again.
fn may_change(outcome: &Outcome) -> bool {
    matches!(outcome.state.as_str(), "failed" | "dead")
}
