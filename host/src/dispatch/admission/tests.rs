use proptest::prelude::*;

use super::*;
use crate::ids::{AppName, FunctionName};

fn limited(function: &str, calls_max: u32) -> Limited {
    let app = AppName::new("a").unwrap();
    Limited { function: FunctionId { app, function: FunctionName::new(function).unwrap() }, calls_max }
}

#[test]
fn calls_run_until_the_slots_are_used_then_wait_in_order() {
    let mut admission = Admission::new(5, 10);
    assert_eq!(admission.request(0, None), Decision::Run);
    assert_eq!(admission.request(0, None), Decision::Run);
    let Decision::Wait(first) = admission.request(0, None) else { panic!("3 of 5 slots are kept for children") };
    let Decision::Wait(second) = admission.request(0, None) else { panic!() };
    assert_eq!(admission.request(3, None), Decision::Run);
    assert_eq!(admission.release(None), []);
    assert_eq!(admission.release(None), [first]);
    assert_eq!(admission.release(None), [second]);
}

#[test]
fn a_full_line_refuses_calls_from_outside_only() {
    let mut admission = Admission::new(4, 1);
    assert_eq!(admission.request(0, None), Decision::Run);
    assert!(matches!(admission.request(0, None), Decision::Wait(_)));
    assert_eq!(admission.request(0, None), Decision::Refuse { waiting: 1 });
    assert_eq!(admission.request(1, None), Decision::Run);
    assert!(matches!(admission.request(1, None), Decision::Wait(_)));
}

#[test]
fn a_call_that_gives_up_leaves_no_trace() {
    let mut admission = Admission::new(4, 10);
    assert_eq!(admission.request(0, None), Decision::Run);
    let Decision::Wait(ticket) = admission.request(0, None) else { panic!() };
    assert!(admission.abandon(ticket, None));
    assert!(!admission.abandon(ticket, None));
    assert_eq!(admission.release(None), []);
    assert_eq!((admission.slots_used(), admission.waiting()), (0, 0));
}

#[test]
fn a_limited_function_waits_for_its_own_and_holds_nobody_else_up() {
    let mut admission = Admission::new(9, 10);
    let f = limited("f", 1);
    assert_eq!(admission.request(0, Some(&f)), Decision::Run);
    let Decision::Wait(second) = admission.request(0, Some(&f)) else { panic!("one at a time") };
    let Decision::Wait(child) = admission.request(1, Some(&f)) else { panic!("at every depth") };
    assert_eq!(admission.request(0, None), Decision::Run);
    assert_eq!(admission.request(0, Some(&limited("g", 1))), Decision::Run);
    assert_eq!(admission.release(None), []);
    // The deeper one first: its parent holds a slot.
    assert_eq!(admission.release(Some(&f.function)), [child]);
    assert_eq!(admission.release(Some(&f.function)), [second]);
    assert_eq!(admission.release(Some(&f.function)), []);
    assert_eq!((admission.slots_used(), admission.waiting()), (1, 0));
}

#[test]
fn free_and_limited_calls_wait_in_one_order() {
    let mut admission = Admission::new(4, 10);
    let f = limited("f", 2);
    assert_eq!(admission.request(0, None), Decision::Run);
    let waiting: Vec<Ticket> = [None, Some(&f), None, Some(&f)]
        .into_iter()
        .map(|limited| match admission.request(0, limited) {
            Decision::Wait(ticket) => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    let ends = [None, None, Some(&f.function), None, Some(&f.function)];
    let admitted: Vec<Ticket> = ends.into_iter().flat_map(|limited| admission.release(limited)).collect();
    assert_eq!(admitted, waiting);
    assert_eq!((admission.slots_used(), admission.waiting()), (0, 0));
}

#[test]
fn a_limited_call_that_gives_up_leaves_no_trace() {
    let mut admission = Admission::new(9, 1);
    let f = limited("f", 1);
    assert_eq!(admission.request(0, Some(&f)), Decision::Run);
    let Decision::Wait(ticket) = admission.request(0, Some(&f)) else { panic!() };
    assert_eq!(admission.request(0, Some(&f)), Decision::Refuse { waiting: 1 });
    assert!(admission.abandon(ticket, Some(&f.function)));
    assert!(!admission.abandon(ticket, Some(&f.function)));
    assert_eq!(admission.release(Some(&f.function)), []);
    assert!(admission.limited.is_empty(), "{:?}", admission.limited);
}

#[test]
fn a_new_version_may_bring_another_limit() {
    let mut admission = Admission::new(9, 10);
    assert_eq!(admission.request(0, Some(&limited("f", 1))), Decision::Run);
    assert_eq!(admission.request(0, Some(&limited("f", 2))), Decision::Run);
    assert!(matches!(admission.request(0, Some(&limited("f", 2))), Decision::Wait(_)));
}

/// A call in the simulation below.
#[derive(Clone, Debug)]
struct Node {
    depth: u32,
    children_left: u32,
    parent: Option<usize>,
    ticket: Option<Ticket>,
    running: bool,
}

proptest! {
    /// Trees of calls of any shape within the depth, over as few slots as there are levels, with limits for the functions of
    /// some levels: all of them finish, and no limit is exceeded.
    #[test]
    fn no_shape_of_calls_deadlocks(slots in 1usize..8, widths in proptest::collection::vec(0u32..4, 1..60), limits in proptest::array::uniform4(proptest::option::of(1u32..3)), order in any::<u64>()) {
        let limits: Vec<Option<Limited>> = limits.iter().enumerate().map(|(depth, max)| max.map(|max| limited(&format!("f{depth}"), max))).collect();
        let mut admission = Admission::new(slots, usize::MAX);
        let mut nodes: Vec<Node> = Vec::new();
        let mut seed = order;
        let start = |admission: &mut Admission, nodes: &mut Vec<Node>, depth: u32, parent: Option<usize>, children: u32| {
            let (ticket, running) = match admission.request(depth, limits[depth as usize].as_ref()) {
                Decision::Run => (None, true),
                Decision::Wait(ticket) => (Some(ticket), false),
                Decision::Refuse { .. } => unreachable!("the line has no end here"),
            };
            nodes.push(Node { depth, children_left: children, parent, ticket, running });
        };
        for width in widths.iter().take(10) {
            start(&mut admission, &mut nodes, 0, None, *width);
        }
        let mut next_width = 10;
        let mut done = 0;
        let mut waiting_on: Vec<u32> = Vec::new();
        let mut finished: Vec<bool> = Vec::new();
        for step in 0..100_000 {
            waiting_on.resize(nodes.len(), 0);
            finished.resize(nodes.len(), false);
            let ready: Vec<usize> = (0..nodes.len()).filter(|&i| nodes[i].running && !finished[i] && waiting_on[i] == 0).collect();
            if ready.is_empty() {
                break;
            }
            for (depth, limited) in limits.iter().enumerate() {
                let running = (0..nodes.len()).filter(|&i| nodes[i].running && !finished[i] && nodes[i].depth as usize == depth).count();
                prop_assert!(limited.as_ref().is_none_or(|limited| running <= limited.calls_max as usize));
            }
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(step);
            let i = ready[(seed >> 33) as usize % ready.len()];
            if nodes[i].children_left > 0 && nodes[i].depth < DEPTH_MAX {
                nodes[i].children_left -= 1;
                waiting_on[i] = 1;
                let width = widths.get(next_width).copied().unwrap_or(0);
                next_width += 1;
                let depth = nodes[i].depth + 1;
                start(&mut admission, &mut nodes, depth, Some(i), width);
            } else {
                finished[i] = true;
                done += 1;
                if let Some(parent) = nodes[i].parent {
                    waiting_on[parent] = 0;
                }
                let limited = limits[nodes[i].depth as usize].as_ref().map(|limited| &limited.function);
                for ticket in admission.release(limited) {
                    let node = nodes.iter_mut().find(|node| node.ticket == Some(ticket)).expect("it waits");
                    node.running = true;
                }
            }
        }
        prop_assert_eq!(done, nodes.len());
        prop_assert_eq!((admission.slots_used(), admission.waiting()), (0, 0));
    }
}
