use serde_json::json;

use super::*;
use crate::function::Function;

/// A log and a host that agree: a call, and a map of two inputs, over one kill.
fn good() -> (Vec<Line>, Found, CallId, MapId) {
    let (call, map) = (CallId::generate(), MapId::generate());
    let lines = vec![
        Line::Call { id: call, function: Function::Double, n: 4, kills: 0 },
        Line::Map { id: map, function: Function::Flaky },
        Line::Inputs { map, from: 0, numbers: vec![5, 6], kills: 0 },
        Line::Killed { by: "random".to_owned() },
        Line::SawResult { map, index: 0, outcome: Outcome::done(5) },
        Line::SawCall { call, outcome: Outcome::done(8) },
        Line::Closed { map },
    ];
    let document = json!({ "id": call });
    let counts = json!({ "accepted": 2, "done": 2, "failed": 0, "dead": 0, "cancelled": 0 });
    let of_map = json!({ "id": map, "counts": counts });
    let results = vec![(0, Outcome::done(5), 2), (1, Outcome::done(6), 4)];
    let listed = [(call.to_string(), document.clone()), (map.to_string(), of_map.clone())].into();
    let mut found = Found { listed, ..Found::default() };
    found.calls.insert(call, FoundCall { outcome: Outcome::done(8), attempts: 1, document });
    let (by_input, by_completion) = (results.clone(), results.into_iter().rev().collect());
    found.maps.insert(map, FoundMap { state: "done".to_owned(), document: of_map, by_input, by_completion });
    found.executions = [call, map.call(0), map.call(1)].map(|id| (id.to_string(), 1)).into();
    (lines, found, call, map)
}

/// Runs the checker over a good case that `spoil` changes, and returns the invariants that it finds broken.
fn check(spoil: impl FnOnce(&mut Vec<Line>, &mut Found, CallId, MapId)) -> Vec<&'static str> {
    let (mut lines, mut found, call, map) = good();
    spoil(&mut lines, &mut found, call, map);
    let broken: BTreeSet<_> = super::check(&lines, &found).iter().map(|violation| violation.invariant).collect();
    broken.into_iter().collect()
}

#[test]
fn what_agrees_has_no_violation() {
    assert_eq!(check(|_, _, _, _| ()), [""; 0]);
}

#[test]
fn an_acknowledgement_that_never_was_is_found() {
    let call = Line::Call { id: CallId::generate(), function: Function::Double, n: 1, kills: 0 };
    assert_eq!(check(|lines, _, _, _| lines.push(call)), ["I1"]);
    let map = Line::Map { id: MapId::generate(), function: Function::Double };
    assert_eq!(check(|lines, _, _, _| lines.push(map)), ["I1"]);
    let inputs = |map| Line::Inputs { map, from: 2, numbers: vec![1], kills: 0 };
    assert_eq!(check(|lines, _, _, map| lines.push(inputs(map))), ["I1", "I5"]);
}

#[test]
fn a_changed_result_is_found() {
    let changed = |found: &mut Found, map: MapId| {
        let map = found.maps.get_mut(&map).unwrap();
        map.by_input[0].1 = Outcome::done(7);
        map.by_completion[1].1 = Outcome::done(7);
    };
    // It is not what the function gives, and not what was read before.
    assert_eq!(check(|_, found, _, map| changed(found, map)), ["I1", "I2"]);
    let outcome = Outcome::without_result("failed");
    assert_eq!(check(|_, found, call, _| found.calls.get_mut(&call).unwrap().outcome = outcome), ["I1", "I2"]);
    let read = |map| Line::SawResult { map, index: 1, outcome: Outcome::without_result("dead") };
    assert_eq!(check(|lines, _, _, map| lines.push(read(map))), ["I2"]);
}

#[test]
fn a_failure_may_change_where_the_client_asked_for_it() {
    let read = |map| Line::SawResult { map, index: 1, outcome: Outcome::without_result("dead") };
    assert_eq!(check(|lines, _, _, map| lines.extend([read(map), Line::AskedRetry { map }])), [""; 0]);
}

#[test]
fn a_second_result_is_found() {
    let twice = |found: &mut Found, map| found.maps.get_mut(&map).unwrap().by_completion.push((1, Outcome::done(6), 4));
    assert_eq!(check(|_, found, _, map| twice(found, map)), ["I2"]);
}

#[test]
fn a_result_for_what_was_never_accepted_is_found() {
    let stranger = |found: &mut Found, map| {
        let map = found.maps.get_mut(&map).unwrap();
        map.by_input.push((2, Outcome::done(1), 1));
        map.by_completion.push((2, Outcome::done(1), 1));
    };
    // The counts do not have it.
    assert_eq!(check(|_, found, _, map| stranger(found, map)), ["I4", "I5"]);
    assert_eq!(check(|_, found, _, map| found.executions.extend([(map.call(2).to_string(), 1)])), ["I4"]);
    let listed = |found: &mut Found| found.listed.insert(CallId::generate().to_string(), json!({}));
    assert_eq!(check(|_, found, _, _| drop(listed(found))), ["I4"]);
    // A result that no execution can have made.
    assert_eq!(check(|_, found, call, _| found.executions.retain(|id, _| *id != call.to_string())), ["I4"]);
}

#[test]
fn an_input_without_an_end_is_found() {
    let lost = |found: &mut Found, map| {
        let map = found.maps.get_mut(&map).unwrap();
        map.by_input.pop();
        map.by_completion.remove(0);
    };
    assert_eq!(check(|_, found, _, map| lost(found, map)), ["I1", "I5"]);
    assert_eq!(check(|_, found, _, _| found.waiting = 1), ["I1"]);
    let running = Outcome::without_result("leased");
    assert_eq!(
        check(|lines, found, call, _| {
            lines.retain(|line| !matches!(line, Line::SawCall { .. }));
            found.calls.get_mut(&call).unwrap().outcome = running;
        }),
        ["I1"]
    );
}

#[test]
fn too_many_attempts_are_found() {
    // The first, three retries and one kill.
    let executions = |found: &mut Found, call: CallId, n| {
        found.executions.insert(call.to_string(), n);
    };
    assert_eq!(check(|_, found, call, _| executions(found, call, 5)), [""; 0]);
    assert_eq!(check(|_, found, call, _| executions(found, call, 6)), ["I3"]);
    assert_eq!(check(|_, found, _, map| executions(found, map.call(1), 6)), ["I3"]);
    assert_eq!(check(|_, found, call, _| found.calls.get_mut(&call).unwrap().attempts = 6), ["I3"]);
}

#[test]
fn a_cancelled_call_stays_as_it_was_acknowledged() {
    let cancelled = Outcome::without_result("cancelled");
    let asked = |lines: &mut Vec<Line>, call, outcome| {
        lines.retain(|line| !matches!(line, Line::SawCall { .. }));
        lines.extend([Line::AskedCancel { call }, Line::Cancelled { call, outcome }]);
    };
    // It had ended before; the answer has no output.
    assert_eq!(check(|lines, _, call, _| asked(lines, call, Outcome::without_result("done"))), [""; 0]);
    // It was acknowledged as cancelled, and has a result.
    assert_eq!(check(|lines, _, call, _| asked(lines, call, cancelled.clone())), ["I2"]);
    // Nobody cancelled it.
    assert_eq!(
        check(|_, found, call, _| found.calls.get_mut(&call).unwrap().outcome = cancelled.clone()),
        ["I1", "I2"]
    );
}

#[test]
fn counts_that_differ_are_found() {
    let count = |found: &mut Found, map| {
        let document = &mut found.maps.get_mut(&map).unwrap().document;
        document["counts"]["done"] = json!(3);
        document.clone()
    };
    assert_eq!(
        check(|_, found, _, map| {
            let document = count(found, map);
            found.listed.insert(map.to_string(), document);
        }),
        ["I5"]
    );
}

#[test]
fn a_map_that_was_run_again_has_every_result() {
    let cancelled = |lines: &mut Vec<Line>, found: &mut Found, map| {
        let state = "cancelled".to_owned();
        lines.extend([Line::AskedCancelMap { map }, Line::CancelledMap { map, state: state.clone() }]);
        found.maps.get_mut(&map).unwrap().state = state;
    };
    assert_eq!(check(|lines, found, _, map| cancelled(lines, found, map)), [""; 0]);
    let again = |lines: &mut Vec<Line>, map| lines.extend([Line::AskedRetry { map }, Line::Retried { map }]);
    assert_eq!(
        check(|lines, found, _, map| {
            cancelled(lines, found, map);
            again(lines, map);
            let map = found.maps.get_mut(&map).unwrap();
            map.by_input.pop();
            map.by_completion.remove(0);
        }),
        ["I1", "I5"]
    );
}
