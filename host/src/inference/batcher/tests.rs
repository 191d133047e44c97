//! Schedules by hand, and a hundred thousand at random under simulated time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::batch::SubRequest;
use super::queue::SHARE;
use super::selection::Turn;
use super::tenant::TOKEN_COST;
use super::tenant_queue::{SKIPS_MAX, TenantQueue};
use super::*;
use crate::call::Priority;
use crate::limits::BatchLimits;
use crate::wire::ModelId;

fn limits(rows: usize, tokens: usize, queue: usize) -> BatchLimits {
    BatchLimits {
        max_batch_size: rows,
        max_batch_tokens: tokens,
        max_queue_size: queue,
        max_queue_delay: Duration::ZERO,
        max_request_rows: 1_000,
    }
}

/// One queue and names for what is in it.
struct Line {
    batcher: Batcher,
    now: Instant,
    names: HashMap<RequestId, u32>,
}

impl Line {
    fn new(models: &[BatchLimits], weights: &[u32]) -> Self {
        let mut batcher = Batcher::new(usize::MAX);
        for limits in models {
            batcher.add_model(limits.clone());
        }
        for weight in weights {
            batcher.add_tenant(*weight);
        }
        Self { batcher, now: Instant::now(), names: HashMap::new() }
    }

    fn arrival(&self, tenant: u32) -> Arrival {
        let deadline = self.now + Duration::from_secs(3_600);
        let (model, tenant, priority) = (ModelId(0), TenantId(tenant), Priority::Normal);
        Arrival { model, tenant, priority, deadline, following: None, bytes: 0 }
    }

    fn add(&mut self, name: u32, arrival: Arrival, lengths: &[u32]) -> RequestId {
        let id = self.batcher.enqueue(self.now, arrival, lengths).expect("it fits");
        self.names.insert(id, name);
        id
    }

    /// Takes a batch and shows it as `name:rows`.
    fn take(&mut self) -> Option<String> {
        match self.batcher.next(self.now, |_, _| true) {
            Next::Batch { model, of } => {
                let batch = self.batcher.take(self.now, model, of)?;
                let sub_requests: Vec<String> = batch
                    .sub_requests
                    .iter()
                    .map(|sub_request| format!("{}:{:?}", self.names[&sub_request.request], sub_request.rows))
                    .collect();
                Some(format!(
                    "{} ({} tokens, {})",
                    sub_requests.join(" "),
                    batch.tokens,
                    format!("{:?}", batch.cut).to_lowercase()
                ))
            }
            Next::Wait(until) => Some(format!("wait {:?}", until - self.now)),
            Next::Nothing => None,
        }
    }

    fn rest(&mut self) -> String {
        std::iter::from_fn(|| self.take()).map(|batch| batch + "\n").collect()
    }
}

/// Enqueues requests of one tenant, given as row lengths, and shows the batches.
fn check(limits: BatchLimits, requests: &[&[u32]], expected: expect_test::Expect) {
    let mut line = Line::new(&[limits], &[1]);
    for (name, lengths) in (0..).zip(requests) {
        line.add(name, line.arrival(0), lengths);
    }
    expected.assert_eq(&line.rest());
    assert!(line.batcher.is_empty());
}

#[test]
fn what_waits_leaves_together() {
    check(
        limits(8, 100, 100),
        &[&[5], &[5, 5], &[5]],
        expect_test::expect![[r#"
            0:0..1 1:0..2 2:0..1 (20 tokens, drained)
        "#]],
    );
}

#[test]
fn rows_and_tokens_cut_a_batch_and_shorter_ones_fill_it() {
    check(
        limits(2, 100, 100),
        &[&[1], &[1], &[1]],
        expect_test::expect![[r#"
            0:0..1 1:0..1 (2 tokens, rows)
            2:0..1 (1 tokens, drained)
        "#]],
    );
    check(
        limits(9, 10, 100),
        &[&[6], &[6], &[4]],
        expect_test::expect![[r#"
            0:0..1 2:0..1 (10 tokens, tokens)
            1:0..1 (6 tokens, drained)
        "#]],
    );
}

#[test]
fn a_large_request_is_cut_into_pieces() {
    check(
        limits(2, 10, 100),
        &[&[4, 4, 4, 9, 9]],
        expect_test::expect![[r#"
            0:0..2 (8 tokens, rows)
            0:2..3 (4 tokens, tokens)
            0:3..4 (9 tokens, tokens)
            0:4..5 (9 tokens, drained)
        "#]],
    );
}

#[test]
fn a_full_queue_refuses_a_request_whole() {
    let mut line = Line::new(&[limits(8, 100, 3)], &[1]);
    line.add(0, line.arrival(0), &[1, 1]);
    let refused = line.batcher.enqueue(line.now, line.arrival(0), &[1, 1]);
    assert_eq!(refused, Err(QueueFull { waiting_rows: 2 }));
    let mut batcher = Batcher::new(10);
    let model = batcher.add_model(limits(8, 100, 100));
    let tenant = batcher.add_tenant(1);
    let arrival = Arrival { model, tenant, bytes: 6, ..line.arrival(0) };
    batcher.enqueue(line.now, arrival.clone(), &[1]).unwrap();
    assert!(batcher.enqueue(line.now, arrival, &[1]).is_err());
}

#[test]
fn who_floods_is_refused_and_the_others_are_not() {
    let mut line = Line::new(&[limits(8, 100, 80)], &[1, 1]);
    for i in 0..70 {
        line.add(i, line.arrival(0), &[1]);
    }
    assert_eq!(line.batcher.enqueue(line.now, line.arrival(0), &[1]), Err(QueueFull { waiting_rows: 70 }));
    for i in 100..110 {
        line.add(i, line.arrival(1), &[1]);
    }
    assert!(line.batcher.enqueue(line.now, line.arrival(1), &[1]).is_err());
    line.take();
    line.add(200, line.arrival(1), &[1]);
}

#[test]
fn the_tenant_that_got_least_goes_first_and_weights_divide() {
    let mut line = Line::new(&[limits(1, 100, 100)], &[1, 1, 2]);
    for i in 0..4 {
        line.add(i, line.arrival(0), &[10]);
        line.add(10 + i, line.arrival(1), &[20]);
        line.add(20 + i, line.arrival(2), &[20]);
    }
    let order: Vec<String> = line.rest().lines().map(|batch| batch.split(':').next().unwrap().to_owned()).collect();
    // Of 20 tokens to the second, the first gets 20 and the third 40.
    assert_eq!(order.join(" "), "0 10 20 1 21 11 2 22 3 23 12 13");
}

#[test]
fn what_was_not_asked_for_is_not_saved_up() {
    let mut line = Line::new(&[limits(1, 100, 100)], &[1, 1]);
    for i in 0..20 {
        line.add(i, line.arrival(0), &[10]);
    }
    (0..10).for_each(|_| drop(line.take()));
    for i in 100..110 {
        line.add(i, line.arrival(1), &[10]);
    }
    let order: Vec<String> =
        line.rest().lines().take(6).map(|batch| batch.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(order.join(" "), "100 10 101 11 102 12");
}

#[test]
fn priority_decides_within_a_tenant_and_the_oldest_has_every_fourth_turn() {
    let mut line = Line::new(&[limits(1, 100, 100)], &[1]);
    line.add(0, Arrival { priority: Priority::Low, ..line.arrival(0) }, &[1]);
    line.add(1, line.arrival(0), &[1]);
    for i in 10..16 {
        line.add(i, Arrival { priority: Priority::High, ..line.arrival(0) }, &[1]);
    }
    let order: Vec<String> = line.rest().lines().map(|batch| batch.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(order.join(" "), "10 11 12 0 13 14 15 1");
}

#[test]
fn a_long_request_is_passed_so_often_and_no_more() {
    let mut line = Line::new(&[limits(64, 10, 1_000)], &[1, 1]);
    // The first tenant's long request never fits behind the second's.
    line.add(0, line.arrival(0), &[4]);
    line.add(1, line.arrival(0), &[9]);
    for i in 10..40 {
        line.add(i, line.arrival(1), &[3]);
    }
    let batches = line.rest();
    let at = batches.lines().position(|batch| batch.starts_with("1:")).unwrap();
    assert!(at <= SKIPS_MAX as usize + 1, "{batches}");
}

#[test]
fn a_delay_waits_for_company_unless_none_will_come() {
    let delayed = BatchLimits { max_queue_delay: Duration::from_millis(5), ..limits(3, 100, 100) };
    let mut line = Line::new(&[delayed], &[1]);
    line.add(0, line.arrival(0), &[1]);
    assert_eq!(line.take().unwrap(), "wait 5ms");
    line.now += Duration::from_millis(2);
    line.add(1, Arrival { following: Some(3), ..line.arrival(0) }, &[1]);
    assert_eq!(line.take().unwrap(), "wait 3ms");
    line.now += Duration::from_millis(3);
    assert_eq!(line.take().unwrap(), "0:0..1 1:0..1 (2 tokens, delay)");
    line.add(2, Arrival { following: Some(1), ..line.arrival(0) }, &[1]);
    line.add(3, Arrival { following: Some(0), ..line.arrival(0) }, &[1]);
    assert_eq!(line.take().unwrap(), "2:0..1 3:0..1 (2 tokens, drained)");
    for i in 4..7 {
        line.add(i, line.arrival(0), &[1]);
    }
    assert_eq!(line.take().unwrap(), "4:0..1 5:0..1 6:0..1 (3 tokens, drained)");
}

#[test]
fn what_is_too_late_is_dropped() {
    let mut line = Line::new(&[limits(8, 1_000, 100)], &[1]);
    // 1 ms a token, of which half is sure.
    (1..=20).for_each(|i| line.batcher.observe(ModelId(0), i * 10, i as u64 * 10_000_000));
    let deadline = line.now + Duration::from_millis(25);
    let late = line.add(0, Arrival { deadline, ..line.arrival(0) }, &[52]);
    line.add(1, Arrival { deadline, ..line.arrival(0) }, &[49]);
    assert_eq!(line.rest(), "1:0..1 (49 tokens, drained)\n");
    assert_eq!(line.batcher.take_expired(), [late]);
}

/// Names a schedule that broke: it is told when a panic drops it.
struct Named(u64);

impl Drop for Named {
    #[expect(clippy::print_stderr, reason = "the seed is what the next person needs")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the schedule of seed {} broke", self.0);
        }
    }
}

/// What a schedule keeps book of.
struct Schedule {
    _named: Named,
    line: Line,
    random: SmallRng,
    limits: Vec<BatchLimits>,
    /// Rows that have not left, by request.
    expected: HashMap<RequestId, (u32, HashSet<usize>)>,
    /// Batches under way, and whether they are retries.
    out: Vec<Batch>,
    /// The only requests of tenants that were idle and not ahead: batches that may still go before them.
    promised: HashMap<RequestId, usize>,
    batches: u64,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let models = random.random_range(1..4);
        let limits: Vec<_> = (0..models)
            .map(|_| {
                let delay = if random.random_bool(0.2) { random.random_range(1..20) } else { 0 };
                BatchLimits {
                    max_queue_delay: Duration::from_micros(delay),
                    ..limits(random.random_range(1..16), random.random_range(16..128), random.random_range(20..200))
                }
            })
            .collect();
        let tenants = random.random_range(1..6);
        Self {
            _named: Named(seed),
            line: Line::new(&limits, &vec![1; tenants]),
            random,
            limits,
            expected: HashMap::new(),
            out: Vec::new(),
            promised: HashMap::new(),
            batches: 0,
        }
    }

    fn step(&mut self) {
        self.line.now += Duration::from_micros(self.random.random_range(0..5));
        match self.random.random_range(0..10) {
            0..=4 => self.arrive(),
            5..=7 => self.take(),
            8 => self.finish(),
            _ => self.cancel(),
        }
    }

    fn arrive(&mut self) {
        let tenants = self.line.batcher.tenants.len() as u32;
        let model = ModelId(self.random.random_range(0..self.limits.len() as u32));
        let tenant = TenantId(self.random.random_range(0..tenants));
        let priority = Priority::ALL[self.random.random_range(0..3)];
        let deadline = if self.random.random_bool(0.1) { 30 } else { 1_000_000 };
        let deadline = self.line.now + Duration::from_micros(self.random.random_range(0..deadline));
        let following = if self.random.random_bool(0.5) { None } else { Some(self.random.random_range(0..2)) };
        let rows = self.random.random_range(1..8);
        let longest = self.limits[model.0 as usize].max_batch_tokens as u32;
        let lengths: Vec<u32> = (0..rows).map(|_| self.random.random_range(1..=longest)).collect();
        let arrival = Arrival { model, tenant, priority, deadline, following, bytes: 8 * rows };
        let waiting = self.line.batcher.tenants.iter().filter(|tenant| tenant.waiting > 0).count();
        let (before, level) = {
            let tenant = &self.line.batcher.tenants[tenant.0 as usize];
            (tenant.waiting, tenant.served <= self.line.batcher.level)
        };
        let queued = self.line.batcher.waiting_rows(model);
        let own = self.line.batcher.tenant_queues.get(&(tenant, model)).map_or(0, TenantQueue::rows);
        match self.line.batcher.enqueue(self.line.now, arrival, &lengths) {
            Ok(id) => {
                let expected = &self.expected;
                self.promised.retain(|id, _| expected[id].0 != tenant.0);
                self.expected.insert(id, (tenant.0, (0..rows).collect()));
                // With a delay somebody chose to let it wait.
                if before == 0 && level && self.limits.iter().all(|limits| limits.max_queue_delay.is_zero()) {
                    self.promised.insert(id, waiting);
                }
            }
            Err(full) => {
                assert_eq!(full.waiting_rows, queued);
                let max = self.limits[model.0 as usize].max_queue_size;
                // Whoever has little in it is refused by a queue that is full and no other.
                assert!(queued + rows > max || queued + rows > max - max / SHARE && own + rows > max / SHARE);
            }
        }
    }

    fn take(&mut self) {
        let is_empty = self.line.batcher.is_empty();
        let next = self.line.batcher.next(self.line.now, |_, _| true);
        for id in self.line.batcher.take_expired() {
            self.forget(id);
        }
        match next {
            Next::Batch { model, of } => {
                let batch = self.line.batcher.take(self.line.now, model, of).expect("what was promised a moment ago");
                self.check(&batch, of);
                self.out.push(batch);
            }
            Next::Wait(until) => assert!(until > self.line.now && !is_empty),
            // Work conserving: unless everything that waited was too late.
            Next::Nothing => assert!(self.line.batcher.is_empty()),
        }
    }

    fn check(&mut self, batch: &Batch, of: Turn) {
        self.batches += 1;
        let limits = &self.limits[batch.model.0 as usize];
        assert!(!batch.sub_requests.is_empty());
        assert_eq!(batch.rows, batch.sub_requests.iter().map(|sub_request| sub_request.rows.len()).sum::<usize>());
        assert_eq!(batch.tokens, batch.sub_requests.iter().map(|sub_request| sub_request.tokens).sum::<usize>());
        assert!(batch.rows <= limits.max_batch_size);
        assert!(batch.tokens <= limits.max_batch_tokens || batch.rows == 1);
        for sub_request in &batch.sub_requests {
            let (_, rows) = self.expected.get_mut(&sub_request.request).expect("it was neither cancelled nor finished");
            for row in sub_request.rows.clone() {
                assert!(rows.remove(&row), "row {row} left twice");
            }
            self.promised.remove(&sub_request.request);
        }
        if of != Turn::Retry {
            for left in self.promised.values_mut() {
                *left = left.checked_sub(1).expect("more batches went first than tenants waited");
            }
        }
    }

    /// Ends a batch that is under way: well, or with a worker that died, or refused.
    fn finish(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.out.len());
        let mut batch = self.out.swap_remove(at);
        let is_live = |schedule: &Self, sub_request: &SubRequest| schedule.expected.contains_key(&sub_request.request);
        match self.random.random_range(0..4) {
            0 | 1 => {
                for sub_request in &batch.sub_requests {
                    if self.expected.get(&sub_request.request).is_some_and(|(_, rows)| rows.is_empty())
                        && !self
                            .out
                            .iter()
                            .any(|other| other.sub_requests.iter().any(|p| p.request == sub_request.request))
                    {
                        self.forget(sub_request.request);
                        self.line.batcher.remove(sub_request.request);
                    }
                }
                self.line.batcher.observe(batch.model, batch.tokens, self.random.random_range(0..100));
            }
            kind => {
                batch.losses += 1;
                for sub_request in &batch.sub_requests {
                    if is_live(self, sub_request) {
                        let (_, rows) = self.expected.get_mut(&sub_request.request).unwrap();
                        rows.extend(sub_request.rows.clone());
                    }
                }
                if kind == 2 { self.line.batcher.requeue(batch) } else { self.line.batcher.requeue_halves(batch) }
            }
        }
    }

    fn cancel(&mut self) {
        let mut ids: Vec<_> = self.expected.keys().copied().collect();
        ids.sort_unstable();
        if !ids.is_empty() {
            let id = ids[self.random.random_range(0..ids.len())];
            self.forget(id);
            self.line.batcher.remove(id);
        }
    }

    fn forget(&mut self, id: RequestId) {
        self.expected.remove(&id);
        self.promised.remove(&id);
    }

    /// Takes what is left; every row must have left or be under way.
    fn end(mut self) -> u64 {
        while !self.line.batcher.is_empty() {
            self.line.now += Duration::from_micros(20);
            self.take();
        }
        for (_, rows) in self.expected.values() {
            assert!(rows.is_empty(), "rows that never left");
        }
        let ids: Vec<_> = self.expected.keys().copied().collect();
        ids.into_iter().for_each(|id| self.line.batcher.remove(id));
        assert_eq!(self.line.batcher.bytes(), 0);
        for model in 0..self.limits.len() {
            assert_eq!(self.line.batcher.waiting_rows(ModelId(model as u32)), 0);
        }
        self.batches
    }
}

/// Each request leaves once; rows and tokens hold; a tenant that was idle waits for no more batches than there were
/// waiting tenants; a batch is there whenever something waits; nothing is left over.
#[test]
fn a_hundred_thousand_random_schedules() {
    let mut batches = 0;
    for seed in 0..100_000 {
        let mut schedule = Schedule::new(seed);
        (0..60).for_each(|_| schedule.step());
        batches += schedule.end();
    }
    assert!(batches > 1_000_000, "{batches} batches are too few to say anything");
}

proptest! {
    /// While two tenants have work all the time, what they got differs by no more than VTC's bound: twice the larger of
    /// the longest request and the batch.
    #[test]
    fn backlogged_tenants_share_alike(
        lengths in proptest::collection::vec((0u32..3, 1u32..=64), 200..400),
        weights in proptest::array::uniform3(1u32..5),
    ) {
        let mut line = Line::new(&[limits(8, 64, 100_000)], &weights);
        for (i, (tenant, length)) in (0..).zip(&lengths) {
            line.add(i, line.arrival(*tenant), &[*length]);
        }
        while line.batcher.tenants.iter().all(|tenant| tenant.waiting > 0) {
            line.take();
            let served: Vec<u64> = line.batcher.tenants.iter().map(|tenant| tenant.served / TOKEN_COST).collect();
            let spread = served.iter().max().unwrap() - served.iter().min().unwrap();
            prop_assert!(spread <= 2 * 64, "{served:?}");
        }
    }
}
