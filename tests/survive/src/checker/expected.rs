//! State that the log demands.

use super::*;
use crate::function::Function;

#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub calls: BTreeMap<CallId, Call>,
    pub maps: BTreeMap<MapId, Map>,
    pub kills: u64,
    pub kills_by: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub function: Function,
    pub n: u64,
    /// Kills before it was first asked for.
    pub kills: u64,
    pub is_cancel_asked: bool,
    /// Outcomes read once it had ended, or acknowledged as its end.
    pub seen: Vec<Outcome>,
}

#[derive(Debug)]
pub(crate) struct Map {
    pub function: Function,
    /// Each number, with the kills before it was first asked for.
    pub inputs: Vec<(u64, u64)>,
    pub is_cancel_asked: bool,
    /// The state that a cancel was answered with.
    pub cancelled: Option<String>,
    /// Requests that may have taken its failures back.
    pub retries_asked: u64,
    /// One of them was acknowledged, so that every input must have a result.
    pub is_retried: bool,
    pub seen: BTreeMap<u64, Outcome>,
}

impl Expected {
    /// Reads the log. What contradicts itself there is a violation already.
    pub(crate) fn read(lines: &[Line], violations: &mut Violations) -> Self {
        let mut expected = Self::default();
        for line in lines {
            expected.take(line, violations);
        }
        expected
    }

    /// Returns how many inputs were acknowledged.
    pub(crate) fn inputs(&self) -> usize {
        self.calls.len() + self.maps.values().map(|map| map.inputs.len()).sum::<usize>()
    }

    fn take(&mut self, line: &Line, violations: &mut Violations) {
        match line {
            Line::Map { id, function } => {
                let (function, cancelled) = (*function, None);
                let (inputs, seen) = Default::default();
                let map = Map {
                    function,
                    inputs,
                    is_cancel_asked: false,
                    cancelled,
                    retries_asked: 0,
                    is_retried: false,
                    seen,
                };
                let earlier = self.maps.insert(*id, map);
                violations.unless(earlier.is_none(), "I2", || format!("map {id} was the answer to two keys"));
            }
            Line::Call { id, function, n, kills } => {
                let call = Call { function: *function, n: *n, kills: *kills, is_cancel_asked: false, seen: Vec::new() };
                let earlier = self.calls.insert(*id, call);
                violations.unless(earlier.is_none(), "I2", || format!("call {id} was the answer to two keys"));
            }
            Line::AskedCancel { call } => self.call(*call, violations, |call| call.is_cancel_asked = true),
            Line::Cancelled { call, outcome } | Line::SawCall { call, outcome } => {
                self.call(*call, violations, |call| call.seen.push(outcome.clone()));
            }
            Line::Odd { answer } => violations.add("answer", format!("nothing explains {answer}")),
            Line::Killed { by } => {
                self.kills += 1;
                *self.kills_by.entry(by.clone()).or_default() += 1;
            }
            Line::Inputs { map, from, numbers, kills } => {
                let known = self.map(*map, violations);
                let Some(known) = known else { return };
                if known.inputs.len() as u64 != *from {
                    violations
                        .add("I2", format!("map {map} took input {from} as the next after {}", known.inputs.len()));
                }
                known.inputs.extend(numbers.iter().map(|n| (*n, *kills)));
            }
            // Nothing follows from it: a map that is not closed would not end, which I1 sees.
            Line::Closed { .. } => {}
            Line::AskedCancelMap { map } => {
                if let Some(map) = self.map(*map, violations) {
                    map.is_cancel_asked = true;
                }
            }
            Line::CancelledMap { map, state } => {
                if let Some(map) = self.map(*map, violations) {
                    map.cancelled = Some(state.clone());
                }
            }
            Line::AskedRetry { map } => {
                if let Some(map) = self.map(*map, violations) {
                    map.retries_asked += 1;
                    map.seen.retain(|_, outcome| !may_change(outcome));
                }
            }
            Line::Retried { map } => {
                if let Some(map) = self.map(*map, violations) {
                    // Where there was nothing to run again it stays what it was.
                    (map.is_retried, map.cancelled) = (true, None);
                }
            }
            Line::SawResult { map: id, index, outcome } => {
                let Some(map) = self.map(*id, violations) else { return };
                let earlier = map.seen.insert(*index, outcome.clone());
                violations.unless(earlier.as_ref().is_none_or(|earlier| earlier == outcome), "I2", || {
                    format!("map {id}: input {index} was read as {earlier:?}, then as {outcome}")
                });
            }
        }
    }

    fn call(&mut self, id: CallId, violations: &mut Violations, change: impl FnOnce(&mut Call)) {
        match self.calls.get_mut(&id) {
            Some(call) => change(call),
            None => violations.add("log", format!("call {id} was never acknowledged")),
        }
    }

    fn map(&mut self, id: MapId, violations: &mut Violations) -> Option<&mut Map> {
        if !self.maps.contains_key(&id) {
            violations.add("log", format!("map {id} was never acknowledged"));
        }
        self.maps.get_mut(&id)
    }
}
