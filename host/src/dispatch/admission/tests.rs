use proptest::prelude::*;

use super::fair_queue::QUANTUM_US;
use super::*;

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn call(depth: u32) -> Request {
    Request { depth, priority: Priority::Normal, app: app("a"), limited: None, is_durable: false }
}

fn limited(depth: u32, function: &str, calls_max: u32) -> Request {
    Request { limited: Some(Limited { function: FunctionName::new(function).unwrap(), calls_max }), ..call(depth) }
}

fn urgent(priority: Priority) -> Request {
    Request { priority, ..call(0) }
}

impl Admission {
    fn runs(&mut self, request: &Request) -> Grant {
        match self.request(request) {
            Decision::Run(grant) => grant,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    fn waits(&mut self, request: &Request) -> Ticket {
        match self.request(request) {
            Decision::Wait(ticket) => ticket,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// A call that found a slot free ends.
    fn ends(&mut self, request: &Request) -> Vec<Ticket> {
        self.released(request, FREE, 10).into_iter().map(|(ticket, _)| ticket).collect()
    }

    fn released(&mut self, request: &Request, grant: Grant, ran_us: u64) -> Vec<(Ticket, Grant)> {
        self.release(request, grant, Some(ran_us))
    }

    /// Whether nothing is kept of what has ended.
    fn is_empty(&self) -> bool {
        self.slots_used == 0
            && self.low_used == 0
            && self.waiting() == 0
            && self.gates.is_empty()
            && self.durable_of_app.is_empty()
            && (self.slots.used(), self.places.used(), self.child_slots.len()) == (0, 0, 0)
            && self.lines.iter().flatten().all(FairQueue::is_empty)
    }

    /// Whether a call waits that could go.
    fn is_idle_at_work(&self) -> bool {
        (0..=DEPTH_MAX).any(|depth| {
            Priority::ALL.into_iter().any(|priority| {
                let line = &self.lines[depth as usize][priority as usize];
                self.has_room(depth, priority) && line.next(|app| self.app_has_room(depth, app)).is_some()
            })
        })
    }
}

/// What a call has that found a slot free.
const FREE: Grant = Grant { charged_us: None };

#[test]
fn calls_run_until_the_slots_are_used_then_wait_in_order() {
    let mut admission = Admission::new(5, 10);
    admission.runs(&call(0));
    admission.runs(&call(0));
    // 3 of 5 slots are kept for children.
    let first = admission.waits(&call(0));
    let second = admission.waits(&call(0));
    admission.runs(&call(3));
    assert_eq!(admission.ends(&call(3)), []);
    assert_eq!(admission.ends(&call(0)), [first]);
    assert_eq!(admission.ends(&call(0)), [second]);
}

#[test]
fn a_full_line_refuses_calls_from_outside_only() {
    let mut admission = Admission::new(4, 1);
    admission.runs(&call(0));
    admission.waits(&call(0));
    assert_eq!(admission.request(&call(0)), Decision::Refuse { waiting: 1, waiting_of_app: 1 });
    admission.runs(&call(1));
    admission.waits(&call(1));
}

#[test]
fn a_call_that_gives_up_leaves_no_trace() {
    let mut admission = Admission::new(4, 10);
    let grant = admission.runs(&call(0));
    let ticket = admission.waits(&call(0));
    assert!(admission.abandon(&call(0), ticket));
    assert!(!admission.abandon(&call(0), ticket));
    assert_eq!(admission.released(&call(0), grant, 1), []);
    assert!(admission.is_empty());
}

#[test]
fn a_limited_function_waits_for_its_own_and_holds_nobody_else_up() {
    let mut admission = Admission::new(9, 10);
    admission.runs(&limited(0, "f", 1));
    let second = admission.waits(&limited(0, "f", 1));
    let child = admission.waits(&limited(1, "f", 1));
    admission.runs(&call(0));
    admission.runs(&limited(0, "g", 1));
    assert_eq!(admission.ends(&call(0)), []);
    // The deeper one first: its parent holds a slot.
    assert_eq!(admission.ends(&limited(0, "f", 1)), [child]);
    assert_eq!(admission.ends(&limited(1, "f", 1)), [second]);
    assert_eq!(admission.ends(&limited(0, "f", 1)), []);
    assert_eq!((admission.slots_used(), admission.waiting()), (1, 0));
}

#[test]
fn free_and_limited_calls_of_an_app_wait_in_one_order() {
    let mut admission = Admission::new(4, 10);
    admission.runs(&call(0));
    let requests = [call(0), limited(0, "f", 2), call(0), limited(0, "f", 2)];
    let waiting = requests.each_ref().map(|request| admission.waits(request));
    let ends = [&call(0), &requests[0], &requests[1], &requests[2], &requests[3]];
    let admitted: Vec<Ticket> = ends.into_iter().flat_map(|request| admission.ends(request)).collect();
    assert_eq!(admitted, waiting);
    assert_eq!((admission.slots_used(), admission.waiting()), (0, 0));
}

#[test]
fn a_limited_call_that_gives_up_leaves_no_trace() {
    let mut admission = Admission::new(9, 1);
    let f = limited(0, "f", 1);
    admission.runs(&f);
    let ticket = admission.waits(&f);
    assert_eq!(admission.request(&f), Decision::Refuse { waiting: 1, waiting_of_app: 1 });
    assert!(admission.abandon(&f, ticket));
    assert!(!admission.abandon(&f, ticket));
    assert_eq!(admission.ends(&f), []);
    assert!(admission.is_empty(), "{admission:?}");
}

#[test]
fn a_new_version_may_bring_another_limit() {
    let mut admission = Admission::new(9, 10);
    admission.runs(&limited(0, "f", 1));
    let waiting = admission.waits(&limited(0, "f", 1));
    // It takes its place behind those that wait, who go when the next call ends.
    let newest = admission.waits(&limited(0, "f", 3));
    assert_eq!(admission.ends(&limited(0, "f", 3)), [waiting, newest]);
}

#[test]
fn the_more_urgent_go_first_and_batch_work_when_it_was_passed_over_often() {
    let mut admission = Admission::new(4, 1_000);
    admission.runs(&urgent(Priority::High));
    let low = admission.waits(&urgent(Priority::Low));
    let normal = admission.waits(&urgent(Priority::Normal));
    let high: Vec<Ticket> = (0..40).map(|_| admission.waits(&urgent(Priority::High))).collect();
    let mut running = urgent(Priority::High);
    let mut order = Vec::new();
    for _ in 0..42 {
        let [ticket] = admission.ends(&running)[..] else { panic!("one slot, one call") };
        let priority = if ticket == low {
            Priority::Low
        } else if ticket == normal {
            Priority::Normal
        } else {
            Priority::High
        };
        running = urgent(priority);
        order.push(ticket);
    }
    let passes = PASSES_MAX as usize;
    assert_eq!(order[..passes], high[..passes]);
    assert_eq!(order[passes..passes + 2], [normal, low]);
    assert_eq!(order[passes + 2..], high[passes..]);
}

#[test]
fn batch_work_leaves_slots_and_places_in_line_to_others() {
    let mut admission = Admission::new(100, 100);
    let low = urgent(Priority::Low);
    let running = (0..).take_while(|_| matches!(admission.request(&low), Decision::Run(_))).count();
    assert_eq!(running, 75 - DEPTH_MAX as usize);
    let waiting = 1 + (0..).take_while(|_| matches!(admission.request(&low), Decision::Wait(_))).count();
    assert_eq!(waiting, 50);
    for _ in 0..25 {
        admission.runs(&urgent(Priority::High));
    }
    admission.waits(&urgent(Priority::High));
    // Its children run, one at a time at the least, within its share.
    admission.runs(&Request { depth: 1, ..low.clone() });
}

#[test]
fn one_app_leaves_slots_and_places_in_line_to_others() {
    let mut admission = Admission::new(83, 80);
    admission.set_holders(4);
    let of = |name: &str| Request { app: app(name), ..call(0) };
    let count = |admission: &mut Admission, name: &str| {
        let mut counts = (0, 0);
        loop {
            match admission.request(&of(name)) {
                Decision::Run(_) => counts.0 += 1,
                Decision::Wait(_) => counts.1 += 1,
                Decision::Refuse { .. } => return counts,
            }
        }
    };
    // A share is 5 of 80.
    assert_eq!(count(&mut admission, "flood"), (65, 65));
    assert_eq!(count(&mut admission, "b"), (5, 5));
    assert_eq!(count(&mut admission, "c"), (5, 5));
    let child = Request { depth: 1, ..of("flood") };
    admission.runs(&child);
    admission.waits(&child);
    // A slot that the flood gives back serves its own call: no other app waits for more than its share.
    assert_eq!(admission.ends(&child).len(), 1);
}

#[test]
fn an_app_over_its_share_is_passed_over_by_one_below() {
    let mut admission = Admission::new(19, 100);
    admission.set_holders(2);
    let (flood, other) = (Request { app: app("flood"), ..call(0) }, Request { app: app("other"), ..call(0) });
    // 14 of 16 slots; the others are the share of the second holder.
    for _ in 0..14 {
        admission.runs(&flood);
    }
    let waiting = admission.waits(&flood);
    admission.runs(&other);
    admission.runs(&other);
    let second = admission.waits(&other);
    // The flood came first, but its slot goes back to the reserve.
    assert_eq!(admission.ends(&other), [second]);
    assert_eq!(admission.ends(&flood), [waiting]);
}

#[test]
fn an_app_that_was_idle_brings_no_credit_along() {
    let mut admission = Admission::new(4, 1_000);
    let of = |name: &str| Request { app: app(name), ..call(0) };
    let mut grant = admission.runs(&of("busy"));
    for _ in 0..100 {
        admission.waits(&of("busy"));
    }
    // It runs for an hour, a second at a time.
    for _ in 0..50 {
        grant = admission.released(&of("busy"), grant, 1_000_000)[0].1;
    }
    let new: Vec<Ticket> = (0..20).map(|_| admission.waits(&of("new"))).collect();
    let mut running = "busy";
    let mut turns = Vec::new();
    for _ in 0..20 {
        let (ticket, next) = admission.released(&of(running), grant, 1_000_000)[0];
        running = if new.contains(&ticket) { "new" } else { "busy" };
        grant = next;
        turns.push(running);
    }
    let of_new = turns.iter().filter(|turn| **turn == "new").count();
    assert!((9..=11).contains(&of_new), "{turns:?}");
}

/// A call in the simulation below.
#[derive(Clone, Debug)]
struct Node {
    request: Request,
    children_left: u32,
    parent: Option<usize>,
    ticket: Option<Ticket>,
    grant: Option<Grant>,
}

/// Numbers that look random.
struct Seed(u64);

impl Seed {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }
}

proptest! {
    /// Trees of calls of any shape within the depth, of several apps and priorities, over as few slots as there are
    /// levels, with limits for the functions of some levels: all of them finish, and no limit is exceeded.
    #[test]
    fn no_shape_of_calls_deadlocks(slots in 1usize..12, holders in 1usize..5, widths in proptest::collection::vec(0u32..4, 1..60), limits in proptest::array::uniform4(proptest::option::of(1u32..3)), seed in any::<u64>()) {
        let mut admission = Admission::new(slots, usize::MAX);
        admission.set_holders(holders);
        let mut nodes: Vec<Node> = Vec::new();
        let mut seed = Seed(seed);
        let start = |admission: &mut Admission, nodes: &mut Vec<Node>, request: Request, parent: Option<usize>, children: u32| {
            let (ticket, grant) = match admission.request(&request) {
                Decision::Run(grant) => (None, Some(grant)),
                Decision::Wait(ticket) => (Some(ticket), None),
                Decision::Refuse { .. } => unreachable!("the line has no end here"),
            };
            nodes.push(Node { request, children_left: children, parent, ticket, grant });
        };
        let request = |app: AppName, depth: u32, priority: Priority| {
            let limited = limits[depth as usize].map(|calls_max| Limited { function: FunctionName::new(&format!("f{depth}")).unwrap(), calls_max });
            Request { depth, priority, app, limited, is_durable: false }
        };
        for width in widths.iter().take(10) {
            let root = request(app(["a", "b"][seed.below(2)]), 0, Priority::ALL[seed.below(3)]);
            start(&mut admission, &mut nodes, root, None, *width);
        }
        let mut next_width = 10;
        let mut done = 0;
        let mut waiting_on: Vec<u32> = Vec::new();
        let mut finished: Vec<bool> = Vec::new();
        loop {
            waiting_on.resize(nodes.len(), 0);
            finished.resize(nodes.len(), false);
            let ready: Vec<usize> = (0..nodes.len()).filter(|&i| nodes[i].grant.is_some() && !finished[i] && waiting_on[i] == 0).collect();
            if ready.is_empty() {
                break;
            }
            for name in ["a", "b"] {
                for (depth, limit) in limits.iter().enumerate() {
                    let is_running = |i: &usize| nodes[*i].grant.is_some() && !finished[*i] && nodes[*i].request.depth as usize == depth && nodes[*i].request.app == app(name);
                    prop_assert!(limit.is_none_or(|limit| (0..nodes.len()).filter(is_running).count() <= limit as usize));
                }
            }
            let i = ready[seed.below(ready.len())];
            let Request { depth, priority, app, .. } = nodes[i].request.clone();
            if nodes[i].children_left > 0 && depth < DEPTH_MAX {
                nodes[i].children_left -= 1;
                waiting_on[i] = 1;
                let width = widths.get(next_width).copied().unwrap_or(0);
                next_width += 1;
                // As urgent as its parent, or less.
                let child = request(app, depth + 1, priority.max(Priority::ALL[seed.below(3)]));
                start(&mut admission, &mut nodes, child, Some(i), width);
            } else {
                finished[i] = true;
                done += 1;
                if let Some(parent) = nodes[i].parent {
                    waiting_on[parent] = 0;
                }
                let grant = nodes[i].grant.expect("it runs");
                for (ticket, grant) in admission.released(&nodes[i].request, grant, seed.below(5_000) as u64) {
                    let node = nodes.iter_mut().find(|node| node.ticket == Some(ticket)).expect("it waits");
                    node.grant = Some(grant);
                }
            }
        }
        prop_assert_eq!(done, nodes.len());
        prop_assert!(admission.is_empty(), "{:?}", admission);
    }

    /// Calls come, end, give up before and after their turn: those of a function go in their order, no call waits
    /// that could go, no bound is exceeded, and in the end nothing is left.
    #[test]
    fn random_traffic_keeps_the_order_and_leaves_nothing(slots in 4usize..40, holders in 1usize..5, steps in proptest::collection::vec((0usize..100, any::<u64>()), 1..400)) {
        let mut admission = Admission::new(slots, 60);
        admission.set_holders(holders);
        let mut running: Vec<(Request, Grant)> = Vec::new();
        let mut waiting: Vec<(Request, Ticket)> = Vec::new();
        // Turns that came and were not seen yet.
        let mut unseen: Vec<(Request, Grant)> = Vec::new();
        for (kind, seed) in steps {
            let mut seed = Seed(seed);
            let admitted = match kind {
                0..50 => {
                    let functions = [None, Some(("f", 1)), Some(("g", 3))];
                    let limited = functions[seed.below(3)].map(|(name, calls_max)| Limited { function: FunctionName::new(name).unwrap(), calls_max });
                    let request = Request { depth: [0, 0, 0, 1, 2, 3][seed.below(6)], priority: Priority::ALL[seed.below(3)], app: app(["a", "b", "c"][seed.below(3)]), limited, is_durable: seed.below(4) == 0 };
                    match admission.request(&request) {
                        Decision::Run(grant) => {
                            prop_assert!(!waiting.iter().any(|(other, _)| *other == request), "it overtook one of its own");
                            running.push((request, grant));
                        }
                        Decision::Wait(ticket) => waiting.push((request, ticket)),
                        Decision::Refuse { .. } => prop_assert!(request.depth == 0 && !request.is_durable),
                    }
                    Vec::new()
                }
                50..80 if !running.is_empty() => {
                    let (request, grant) = running.swap_remove(seed.below(running.len()));
                    admission.release(&request, grant, Some(seed.below(20_000) as u64))
                }
                80..90 if !waiting.is_empty() => {
                    let (request, ticket) = waiting.remove(seed.below(waiting.len()));
                    prop_assert!(admission.abandon(&request, ticket));
                    Vec::new()
                }
                90..95 if !unseen.is_empty() => {
                    let (request, grant) = unseen.swap_remove(seed.below(unseen.len()));
                    admission.release(&request, grant, None)
                }
                _ => {
                    running.append(&mut unseen);
                    Vec::new()
                }
            };
            for (ticket, grant) in admitted {
                let at = waiting.iter().position(|(_, other)| *other == ticket).expect("it waits");
                let (request, _) = waiting.remove(at);
                prop_assert!(!waiting[..at].iter().any(|(other, _)| *other == request), "it overtook one of its own");
                unseen.push((request, grant));
            }
            let is_low = |(request, _): &&(Request, Grant)| request.priority == Priority::Low;
            let low = running.iter().chain(&unseen).filter(is_low).count();
            prop_assert_eq!(admission.slots_used(), running.len() + unseen.len());
            prop_assert_eq!(admission.waiting(), waiting.len());
            prop_assert!(admission.slots_used() <= slots && low <= admission.low_max);
            prop_assert!(!admission.is_idle_at_work());
        }
        running.append(&mut unseen);
        while let Some((request, grant)) = running.pop() {
            for (ticket, grant) in admission.released(&request, grant, 1) {
                let at = waiting.iter().position(|(_, other)| *other == ticket).expect("it waits");
                running.push((waiting.remove(at).0, grant));
            }
        }
        prop_assert!(waiting.is_empty());
        prop_assert!(admission.is_empty(), "{:?}", admission);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Apps that always have calls waiting run for equally long, however long each of their calls is.
    #[test]
    fn apps_that_always_wait_share_the_running_time(slots in 1usize..24, mean_us in proptest::collection::vec(200u64..20_000, 2..6), seed in any::<u64>()) {
        let mut line = Simulated::new(slots, &mean_us, seed);
        let longest = mean_us.iter().max().unwrap() * 2;
        // Until the calls that run at either end of it are few beside all.
        let until = longest * 40 * mean_us.len() as u64;
        line.run(until, Priority::Normal);
        let shares: Vec<f64> = line.ran_us.iter().map(|ran| *ran as f64).collect();
        let fair = shares.iter().sum::<f64>() / shares.len() as f64;
        for share in &shares {
            prop_assert!((share / fair - 1.0).abs() < 0.1, "{shares:?} of {mean_us:?} on {slots}");
        }
    }

    /// Whoever comes has its first turn after every other app has used up at most a few quanta more.
    #[test]
    fn a_newcomer_waits_for_a_few_quanta_of_each_app(slots in 1usize..24, mean_us in proptest::collection::vec(20u64..50_000, 1..6), seed in any::<u64>()) {
        let mut line = Simulated::new(slots, &mean_us, seed);
        line.run(mean_us.iter().max().unwrap() * 100, Priority::Normal);
        let before = line.ran_us.clone();
        let ticket = line.admission.waits(&Request { app: app("new"), ..call(0) });
        line.watched = Some(ticket);
        line.run(u64::MAX, Priority::Normal);
        for (app, (now, before)) in line.ran_us.iter().zip(before).enumerate() {
            // What ran when it came, a quantum, and what was refunded of calls that were shorter than expected.
            let bound = 2 * QUANTUM_US + 4 * mean_us[app] * (slots as u64 + 1) + mean_us.iter().max().unwrap() * 2 * (slots as u64 + 1);
            prop_assert!(now - before <= bound, "{now} - {before} > {bound}: {mean_us:?} on {slots}");
        }
    }

    /// No priority waits for ever: one that is passed over has every so many-th turn.
    #[test]
    fn every_priority_has_its_turns(slots in 1usize..24, seed in any::<u64>()) {
        let mut line = Simulated::new(slots, &[1_000, 3_000], seed);
        for priority in [Priority::Normal, Priority::Low] {
            line.flood("flood", priority);
        }
        line.run(2_000_000 / slots as u64, Priority::High);
        let turns: usize = line.turns.iter().sum();
        for priority in [Priority::Normal, Priority::Low] {
            let share = line.turns[priority as usize] as f64 / turns as f64;
            let fair = 1.0 / f64::from(PASSES_MAX + 3);
            prop_assert!((fair * 0.8..fair * 1.6).contains(&share), "{:?}", line.turns);
        }
    }
}

/// Slots under simulated time: apps `app0`, `app1`… that always have calls waiting.
struct Simulated {
    admission: Admission,
    mean_us: Vec<u64>,
    seed: Seed,
    now_us: u64,
    /// Calls that run: when they end, since when they ran.
    running: Vec<(u64, u64, Request, Grant)>,
    waiting: HashMap<Ticket, Request>,
    /// What the calls of each app took that have ended.
    ran_us: Vec<u64>,
    /// Turns of each priority.
    turns: [usize; PRIORITIES],
    /// The run ends when this one has its turn.
    watched: Option<Ticket>,
}

impl Simulated {
    fn new(slots: usize, mean_us: &[u64], seed: u64) -> Self {
        Self {
            admission: Admission::new(slots + DEPTH_MAX as usize, usize::MAX),
            mean_us: mean_us.to_vec(),
            seed: Seed(seed),
            now_us: 0,
            running: Vec::new(),
            waiting: HashMap::new(),
            ran_us: vec![0; mean_us.len()],
            turns: [0; PRIORITIES],
            watched: None,
        }
    }

    fn ask(&mut self, request: Request) {
        match self.admission.request(&request) {
            Decision::Run(grant) => self.begin(request, grant),
            Decision::Wait(ticket) => {
                self.waiting.insert(ticket, request);
            }
            Decision::Refuse { .. } => unreachable!("the line has no end here"),
        }
    }

    fn flood(&mut self, name: &str, priority: Priority) {
        for _ in 0..2 * self.admission.slots_max {
            self.ask(Request { app: app(name), ..urgent(priority) });
        }
    }

    /// Between half of its app's mean and one and a half.
    fn begin(&mut self, request: Request, grant: Grant) {
        let mean_us = self.app(&request).map_or(1_000, |app| self.mean_us[app]);
        let takes = mean_us / 2 + self.seed.below(mean_us as usize + 1) as u64;
        self.running.push((self.now_us + takes, self.now_us, request, grant));
    }

    fn app(&self, request: &Request) -> Option<usize> {
        request.app.as_str().strip_prefix("app")?.parse().ok()
    }

    /// Lets calls run until `until_us`; each that has its turn is followed by another of its app and priority.
    fn run(&mut self, until_us: u64, priority: Priority) {
        if self.now_us == 0 {
            for index in 0..self.mean_us.len() {
                self.flood(&format!("app{index}"), priority);
            }
        }
        while self.now_us < until_us {
            let next = (0..self.running.len()).min_by_key(|at| self.running[*at].0).expect("something runs");
            let (ends, since, request, grant) = self.running.swap_remove(next);
            self.now_us = ends;
            if let Some(app) = self.app(&request) {
                self.ran_us[app] += ends - since;
            }
            for (ticket, grant) in self.admission.released(&request, grant, ends - since) {
                if self.watched == Some(ticket) {
                    return;
                }
                let request = self.waiting.remove(&ticket).expect("it waits");
                self.turns[request.priority as usize] += 1;
                self.begin(request.clone(), grant);
                self.ask(request);
            }
        }
    }
}
