//! Who gets a slot, who waits, who is refused. A plain decider.
//!
//! A parent keeps its slot while it waits for its children, so slots are kept back for the deeper levels: a call at depth
//! `d` is admitted only while it leaves one slot for each level below it. Then some call can always go on: at the deepest
//! level that waits, the calls at or above it never hold the slots that were kept back for the next one.

use std::collections::VecDeque;

use crate::limits::DEPTH_MAX;

/// One waiting call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What happens to a call that comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Run,
    Wait(Ticket),
    /// The line is full.
    Refuse {
        waiting: usize,
    },
}

/// The slots and the line in front of them.
#[derive(Debug)]
pub struct Admission {
    slots_max: usize,
    slots_used: usize,
    waiting_max: usize,
    /// First in, first out, for each depth.
    waiting: [VecDeque<Ticket>; DEPTH_MAX as usize + 1],
    next_ticket: u64,
}

impl Admission {
    /// `slots_max` below the number of levels counts as that number.
    pub fn new(slots_max: usize, waiting_max: usize) -> Self {
        let levels = DEPTH_MAX as usize + 1;
        Self {
            slots_max: slots_max.max(levels),
            slots_used: 0,
            waiting_max,
            waiting: Default::default(),
            next_ticket: 0,
        }
    }

    /// A call comes. `depth` is at most `DEPTH_MAX`.
    pub fn request(&mut self, depth: u32) -> Decision {
        if self.has_room(depth) && self.waiting[depth as usize].is_empty() {
            self.slots_used += 1;
            return Decision::Run;
        }
        let waiting = self.waiting();
        // The line is for calls from outside. A child's parent is inside already and waits with a slot in its hand.
        if depth == 0 && waiting >= self.waiting_max {
            return Decision::Refuse { waiting };
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting[depth as usize].push_back(ticket);
        Decision::Wait(ticket)
    }

    /// A call ended. Returns who runs now.
    pub fn release(&mut self) -> Vec<Ticket> {
        self.slots_used -= 1;
        let mut admitted = Vec::new();
        // The deepest first: they let their parents go on.
        for depth in (0..=DEPTH_MAX).rev() {
            while self.has_room(depth) {
                let Some(ticket) = self.waiting[depth as usize].pop_front() else {
                    break;
                };
                self.slots_used += 1;
                admitted.push(ticket);
            }
        }
        admitted
    }

    /// A waiting call gives up. Returns false if it was admitted already and must release instead.
    pub fn abandon(&mut self, ticket: Ticket) -> bool {
        self.waiting.iter_mut().any(|line| match line.iter().position(|waiting| *waiting == ticket) {
            Some(position) => line.remove(position).is_some(),
            None => false,
        })
    }

    /// Returns how many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Returns how many slots are taken.
    pub fn slots_used(&self) -> usize {
        self.slots_used
    }

    fn has_room(&self, depth: u32) -> bool {
        self.slots_used + ((DEPTH_MAX - depth) as usize) < self.slots_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_run_until_the_slots_are_used_then_wait_in_order() {
        let mut admission = Admission::new(5, 10);
        assert_eq!(admission.request(0), Decision::Run);
        assert_eq!(admission.request(0), Decision::Run);
        let Decision::Wait(first) = admission.request(0) else { panic!("3 of 5 slots are kept for children") };
        let Decision::Wait(second) = admission.request(0) else { panic!() };
        assert_eq!(admission.request(3), Decision::Run);
        assert_eq!(admission.release(), []);
        assert_eq!(admission.release(), [first]);
        assert_eq!(admission.release(), [second]);
    }

    #[test]
    fn a_full_line_refuses_calls_from_outside_only() {
        let mut admission = Admission::new(4, 1);
        assert_eq!(admission.request(0), Decision::Run);
        assert!(matches!(admission.request(0), Decision::Wait(_)));
        assert_eq!(admission.request(0), Decision::Refuse { waiting: 1 });
        assert_eq!(admission.request(1), Decision::Run);
        assert!(matches!(admission.request(1), Decision::Wait(_)));
    }

    #[test]
    fn a_call_that_gives_up_leaves_no_trace() {
        let mut admission = Admission::new(4, 10);
        assert_eq!(admission.request(0), Decision::Run);
        let Decision::Wait(ticket) = admission.request(0) else { panic!() };
        assert!(admission.abandon(ticket));
        assert!(!admission.abandon(ticket));
        assert_eq!(admission.release(), []);
        assert_eq!((admission.slots_used(), admission.waiting()), (0, 0));
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
        /// Trees of calls of any shape within the depth, over as few slots as there are levels: all of them finish.
        #[test]
        fn no_shape_of_calls_deadlocks(slots in 1usize..8, widths in proptest::collection::vec(0u32..4, 1..60), order in any::<u64>()) {
            let mut admission = Admission::new(slots, usize::MAX);
            let mut nodes: Vec<Node> = Vec::new();
            let mut seed = order;
            let start = |admission: &mut Admission, nodes: &mut Vec<Node>, depth: u32, parent: Option<usize>, children: u32| {
                let (ticket, running) = match admission.request(depth) {
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
                    for ticket in admission.release() {
                        let node = nodes.iter_mut().find(|node| node.ticket == Some(ticket)).expect("it waits");
                        node.running = true;
                    }
                }
            }
            prop_assert_eq!(done, nodes.len());
            prop_assert_eq!((admission.slots_used(), admission.waiting()), (0, 0));
        }
    }
}
