//! The pool's decisions without a process: the test plays the worker.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::failures::STARTS_MAX;
use super::room::SWAP_PATIENCE;
use super::*;
use crate::inference::batcher::RequestId;
use crate::inference::error::InferenceError;
use crate::inference::request::{Caller, Tenant};
use crate::limits::{BatchLimits, INFERENCE_BYTES_MAX};
use crate::wire::{self, FailureKind, Frame, HEADER_BYTES, Header, ModelId, Signature};

type Receiver = oneshot::Receiver<Answer>;

/// Values of one row in the test's own model.
const DIMENSION: u32 = 2;

/// A device whose worker is the test.
struct Bench {
    state: PoolState<()>,
    model: ModelId,
    generation: u64,
    /// The frames that are out.
    sent: VecDeque<Vec<u8>>,
    now: Instant,
    device_ns: u64,
}

impl Bench {
    fn new(limits: BatchLimits) -> Self {
        Self::with(limits, None)
    }

    fn with(limits: BatchLimits, memory_max: Option<u64>) -> Self {
        let mut state = PoolState::new(PoolConfig {
            workers: 1,
            memory_max,
            requests_bytes_max: INFERENCE_BYTES_MAX,
            weights: HashMap::new(),
        });
        let model = state.register(config("m", limits));
        Self { state, model, generation: 0, sent: VecDeque::new(), now: Instant::now(), device_ns: 7_000 }
    }

    fn caller(&self) -> Caller {
        Caller::new(Tenant::way_in("test"), self.now + Duration::from_secs(60))
    }

    /// Submits rows that hold `tag` once for each token.
    fn submit(&mut self, tag: u32, lengths: &[u32]) -> Result<(RequestId, Receiver), InferenceError> {
        self.submit_to(self.model, tag, lengths, &self.caller())
    }

    fn submit_to(
        &mut self,
        model: ModelId,
        tag: u32,
        lengths: &[u32],
        caller: &Caller,
    ) -> Result<(RequestId, Receiver), InferenceError> {
        let mut cu_seqlens = vec![0];
        let mut ids = Vec::new();
        for length in lengths {
            ids.extend(std::iter::repeat_n(tag, *length as usize));
            cu_seqlens.push(ids.len() as u32);
        }
        let (done, answer) = oneshot::channel();
        let work = Work::Rows { ids, cu_seqlens, first_segments: Vec::new() };
        let request = self.state.submit(self.now, model, work, OutputKind::Vectors, caller, done)?;
        self.drive();
        Ok((request, answer))
    }

    fn drive(&mut self) {
        loop {
            match self.state.step(self.now) {
                Action::Nothing => return,
                Action::Start { .. } => {
                    self.generation = self.state.started(0, (), 1).expect("the device is open");
                }
                Action::Send(_) => {
                    self.sent.push_back(self.state.frame().to_vec());
                    assert!(self.sent.len() <= 2, "more than two frames are out");
                }
                Action::Wake(at) => {
                    self.now = self.now.max(at);
                    self.state.woken(at);
                }
            }
        }
    }

    fn front(&self) -> Option<(Header, Frame)> {
        let bytes = self.sent.front()?;
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        let header = Header::parse(header).unwrap();
        Some((header, Frame::decode(header.kind, body).unwrap()))
    }

    /// The checksum of the batch that is out.
    fn checksum(&self) -> u32 {
        match self.front() {
            Some((_, Frame::Batch { cu_seqlens, ids, .. })) => wire::checksum(&cu_seqlens, &ids),
            other => panic!("{other:?}"),
        }
    }

    fn reply(&mut self, reply: Frame) {
        let (header, _) = self.front().expect("a frame is out");
        self.sent.pop_front();
        self.state.reply(self.now, 0, self.generation, header, reply).unwrap();
        self.drive();
    }

    /// Answers the frame that is out, as a worker would: each row's values are its first token and its length.
    fn answer(&mut self) -> bool {
        let Some((_, frame)) = self.front() else { return false };
        let reply = match frame {
            Frame::Load { model, .. } => Frame::Loaded {
                model,
                signature: Signature::Vector { dimension: DIMENSION },
                memory: 10,
                device: "cpu".into(),
            },
            Frame::Unload { model } => Frame::Unloaded { model, in_use: 0 },
            Frame::Check => Frame::Checked { in_use: 0 },
            Frame::Batch { model, cu_seqlens, ids, .. } => {
                let values = cu_seqlens
                    .windows(2)
                    .flat_map(|pair| [ids[pair[0] as usize] as f32, (pair[1] - pair[0]) as f32])
                    .collect();
                let rows = cu_seqlens.len() as u32 - 1;
                let checksum = wire::checksum(&cu_seqlens, &ids);
                Frame::Vectors { model, rows, dimension: DIMENSION, checksum, device_ns: self.device_ns, values }
            }
            other => panic!("{other:?}"),
        };
        self.reply(reply);
        true
    }

    fn die(&mut self) {
        self.sent.clear();
        assert!(self.state.lost(self.now, 0, self.generation, "killed"));
        self.drive();
    }

    /// The tags of the batch that is out; none if something else is.
    fn tags(&self) -> Option<Vec<u32>> {
        match self.front()?.1 {
            Frame::Batch { ids, .. } => {
                let mut tags = ids;
                tags.sort_unstable();
                tags.dedup();
                Some(tags)
            }
            _ => None,
        }
    }
}

fn config(name: &str, limits: BatchLimits) -> ModelConfig {
    ModelConfig { name: name.into(), source: ModelSource::Noop, limits, memory: 10, keep: false }
}

fn limits() -> BatchLimits {
    BatchLimits {
        max_batch_size: 4,
        max_batch_tokens: 32,
        max_queue_size: 64,
        max_queue_delay: Duration::ZERO,
        max_request_rows: 64,
    }
}

fn values(answer: &mut Receiver) -> Result<Vec<f32>, InferenceError> {
    answer.try_recv().expect("answered").map(|(output, _)| match output {
        Output::Rows { values, .. } => values,
        Output::Tensors(_) => panic!("rows were asked for"),
    })
}

#[test]
fn a_request_loads_its_model_first_and_gets_its_own_rows() {
    let mut bench = Bench::new(limits());
    let (_, mut one) = bench.submit(1, &[2, 3]).unwrap();
    let (_, mut two) = bench.submit(2, &[4]).unwrap();
    while bench.answer() {}
    assert_eq!(values(&mut one).unwrap(), [1.0, 2.0, 1.0, 3.0]);
    assert_eq!(values(&mut two).unwrap(), [2.0, 4.0]);
    assert_eq!(bench.state.stats().batches, 1);
}

#[test]
fn a_batch_survives_one_death_and_fails_at_the_second() {
    let mut bench = Bench::new(limits());
    let (_, mut first) = bench.submit(1, &[1]).unwrap();
    bench.answer();
    bench.die();
    while bench.answer() {}
    assert_eq!(values(&mut first).unwrap(), [1.0, 1.0]);

    let (_, mut second) = bench.submit(2, &[1]).unwrap();
    bench.die();
    bench.answer();
    bench.die();
    let lost = values(&mut second).unwrap_err();
    assert!(matches!(lost, InferenceError::DeviceLost { losses: 2, .. }), "{lost:?}");
}

#[test]
fn a_worker_that_dies_before_every_answer_fails_what_waits() {
    let mut bench = Bench::new(limits());
    let (_, mut first) = bench.submit(1, &[1]).unwrap();
    while bench.answer() {}
    assert!(values(&mut first).is_ok());
    // The device is suspect, and no worker says that it computes.
    let (_, mut answer) = bench.submit(2, &[1]).unwrap();
    bench.reply(Frame::Failed { kind: FailureKind::Device, message: "it failed".into() });
    for _ in 0..STARTS_MAX {
        bench.die();
    }
    let failed = values(&mut answer);
    assert!(matches!(&failed, Err(InferenceError::Unavailable { model, .. }) if model == "m"), "{failed:?}");
    // Later it is tried anew.
    bench.now += Duration::from_secs(11);
    let (_, mut next) = bench.submit(3, &[1]).unwrap();
    while bench.answer() {}
    assert!(values(&mut next).is_ok());
}

#[test]
fn an_answer_that_was_not_asked_for_is_refused_and_the_batch_runs_again() {
    let mut bench = Bench::new(limits());
    let (_, mut answer) = bench.submit(1, &[1]).unwrap();
    bench.answer();
    let (header, _) = bench.front().unwrap();
    let checksum = bench.checksum();
    let vectors = |rows, dimension, values: Vec<f32>| Frame::Vectors {
        model: ModelId(0),
        rows,
        dimension,
        checksum,
        device_ns: 0,
        values,
    };
    let signature = Signature::Vector { dimension: 2 };
    for (header, wrong) in [
        (header, vectors(2, DIMENSION, vec![0.0; 4])),
        (header, vectors(1, 3, vec![0.0; 3])),
        (header, Frame::Loaded { model: ModelId(0), signature, memory: 0, device: "cpu".into() }),
        (header, Frame::Inferred { model: ModelId(0), device_ns: 0, items: vec![Ok(vec![])] }),
        (header, Frame::Failed { kind: FailureKind::Load, message: String::new() }),
        (header, Frame::Checked { in_use: 0 }),
        (
            header,
            Frame::Vectors {
                model: ModelId(0),
                rows: 1,
                dimension: DIMENSION,
                checksum: checksum + 1,
                device_ns: 0,
                values: vec![0.0; 2],
            },
        ),
        (Header { job: 99, ..header }, vectors(1, DIMENSION, vec![0.0; 2])),
    ] {
        assert!(bench.state.reply(bench.now, 0, bench.generation, header, wrong).is_err());
    }
    let right = vectors(1, DIMENSION, vec![0.0; 2]);
    assert!(bench.state.reply(bench.now, 0, bench.generation + 1, header, right).is_err());
    bench.die();
    while bench.answer() {}
    assert_eq!(values(&mut answer).unwrap(), [1.0, 1.0]);
}

#[test]
fn values_that_are_no_numbers_fail_their_own_request_only() {
    let mut bench = Bench::new(limits());
    let (_, mut first) = bench.submit(1, &[1]).unwrap();
    let (_, mut second) = bench.submit(2, &[1]).unwrap();
    bench.answer();
    let values_of = vec![f32::NAN, 1.0, 2.0, 1.0];
    let checksum = bench.checksum();
    let (model, dimension) = (ModelId(0), DIMENSION);
    bench.reply(Frame::Vectors { model, rows: 2, dimension, checksum, device_ns: 0, values: values_of });
    assert!(matches!(values(&mut first), Err(InferenceError::BadInput { .. })));
    assert_eq!(values(&mut second).unwrap(), [2.0, 1.0]);
}

/// Answers until nothing is out; batches that hold `bad` are refused.
fn refuse(bench: &mut Bench, bad: u32, kind: FailureKind) -> u32 {
    let mut refused = 0;
    while bench.front().is_some() {
        if bench.tags().is_some_and(|tags| tags.contains(&bad)) {
            refused += 1;
            bench.reply(Frame::Failed { kind, message: "no token 2".into() });
        } else {
            bench.answer();
        }
    }
    refused
}

#[test]
fn a_bad_request_fails_by_itself_and_its_neighbours_are_served() {
    let mut bench = Bench::new(limits());
    let mut good: Vec<_> = [1, 3, 4].map(|tag| bench.submit(tag, &[1]).unwrap().1).into();
    let (_, mut bad) = bench.submit(2, &[1]).unwrap();
    // All four, the half with it, and it.
    assert_eq!(refuse(&mut bench, 2, FailureKind::BadBatch), 3);
    for (answer, tag) in good.iter_mut().zip([1.0, 3.0, 4.0]) {
        assert_eq!(values(answer).unwrap(), [tag, 1.0]);
    }
    assert_eq!(values(&mut bad).unwrap_err(), InferenceError::BadInput { reason: "no token 2".into() });
}

#[test]
fn a_device_that_fails_computes_something_right_before_it_gets_another_batch() {
    let mut bench = Bench::new(limits());
    let (_, mut answer) = bench.submit(1, &[1]).unwrap();
    bench.answer();
    bench.reply(Frame::Failed { kind: FailureKind::Device, message: "it failed".into() });
    assert!(matches!(bench.front(), Some((_, Frame::Check))));
    while bench.answer() {}
    assert_eq!(values(&mut answer).unwrap(), [1.0, 1.0]);
    assert_eq!((bench.state.stats().checks, bench.state.stats().batches_failed), (1, 1));
}

#[test]
fn batches_are_smaller_after_the_device_had_no_room() {
    let mut bench = Bench::new(limits());
    let (_, mut first) = bench.submit(1, &[8, 8, 8, 8]).unwrap();
    let (_, mut second) = bench.submit(2, &[8, 8, 8, 8]).unwrap();
    bench.answer();
    // A sub-request of 32 tokens does not fit: it runs in two, and from then on sub-requests have 16 tokens.
    bench.reply(Frame::Failed { kind: FailureKind::OutOfMemory, message: "no room".into() });
    let (_, mut third) = bench.submit(3, &[8, 8, 8, 8]).unwrap();
    while bench.answer() {}
    assert_eq!(values(&mut first).unwrap(), [1.0, 8.0, 1.0, 8.0, 1.0, 8.0, 1.0, 8.0]);
    assert_eq!(values(&mut second).unwrap().len(), 8);
    assert_eq!(values(&mut third).unwrap(), [3.0, 8.0, 3.0, 8.0, 3.0, 8.0, 3.0, 8.0]);
}

#[test]
fn a_request_that_ends_workers_is_found_and_the_others_are_served() {
    let mut bench = Bench::new(BatchLimits { max_batch_size: 64, max_batch_tokens: 64, ..limits() });
    let mut good: Vec<_> = (10..41).map(|tag| (tag, bench.submit(tag, &[1]).unwrap().1)).collect();
    let (_, mut bad) = bench.submit(2, &[1]).unwrap();
    let mut deaths = 0;
    while bench.front().is_some() {
        if bench.tags().is_some_and(|tags| tags.contains(&2)) {
            deaths += 1;
            bench.die();
        } else {
            bench.answer();
        }
    }
    for (tag, answer) in &mut good {
        assert_eq!(values(answer).unwrap(), [*tag as f32, 1.0]);
    }
    assert!(matches!(values(&mut bad), Err(InferenceError::DeviceLost { .. })));
    // Twice all 32, and then 16, 8, 4, 2 and 1.
    assert_eq!((deaths, bench.state.stats().rejected), (7, 1));
}

#[test]
fn others_are_served_between_the_halves_of_a_batch_that_ends_workers() {
    let mut bench = Bench::new(limits());
    let mut bad: Vec<_> = [2, 3, 4].map(|tag| bench.submit(tag, &[1]).unwrap().1).into();
    bench.answer();
    bench.die();
    bench.answer();
    bench.die();
    let (_, mut other) = bench.submit(9, &[1]).unwrap();
    bench.answer();
    let mut before = 0;
    while other.try_recv().is_err() {
        if bench.tags() == Some(vec![9]) || bench.tags().is_none() {
            bench.answer();
        } else {
            before += 1;
            bench.die();
        }
    }
    assert!(before <= 1, "{before} suspects went first");
    while bench.answer() {}
    assert!(bad.iter_mut().all(|answer| answer.try_recv().is_ok()));
}

#[test]
fn a_model_that_ends_workers_while_it_is_loaded_is_left_alone_and_others_are_served() {
    let mut bench = Bench::new(limits());
    let deadly = bench.state.register(config("deadly", limits()));
    let caller = bench.caller();
    let (_, mut answer) = bench.submit_to(deadly, 1, &[1], &caller).unwrap();
    bench.die();
    bench.die();
    let error = values(&mut answer).unwrap_err();
    assert!(error.to_string().contains("died twice while it loaded it"), "{error}");
    let error = bench.submit_to(deadly, 1, &[1], &caller).unwrap_err();
    assert!(error.to_string().contains("it is tried again in 10 s"), "{error}");
    let (_, mut other) = bench.submit(2, &[1]).unwrap();
    while bench.answer() {}
    assert!(values(&mut other).is_ok());
    bench.now += Duration::from_secs(11);
    let caller = bench.caller();
    let (_, mut again) = bench.submit_to(deadly, 1, &[1], &caller).unwrap();
    while bench.answer() {}
    assert!(values(&mut again).is_ok());
}

#[test]
fn a_full_batch_is_sent_ahead_and_a_small_one_waits_for_company() {
    let mut bench = Bench::new(limits());
    // Before the first answer it is not known that a batch is short.
    let (_, _first) = bench.submit(1, &[1]).unwrap();
    while bench.answer() {}
    let (_, _second) = bench.submit(1, &[1]).unwrap();
    let _small: Vec<_> = (2..5).map(|tag| bench.submit(tag, &[1]).unwrap()).collect();
    assert_eq!(bench.sent.len(), 1);
    let _full = bench.submit(5, &[1]).unwrap();
    assert_eq!(bench.sent.len(), 2);
    // What was behind the batch that ended the worker is not to blame.
    bench.die();
    while bench.answer() {}
    let cuts: Vec<_> = bench.state.batches().iter().map(|batch| (batch.requests, batch.losses)).collect();
    assert_eq!(cuts, [(4, 0), (1, 1), (1, 0), (1, 0)]);
}

#[test]
fn the_shares_of_a_batch_are_its_device_time() {
    let mut bench = Bench::new(limits());
    let answers: Vec<_> = [3, 5, 7].map(|length| bench.submit(length, &[length]).unwrap().1).into();
    while bench.answer() {}
    let shares: Vec<u64> =
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap().unwrap().1.device_us).collect();
    assert_eq!((shares.iter().sum::<u64>(), shares), (7, vec![1, 2, 4]));
}

#[test]
fn models_that_do_not_fit_together_take_turns_and_the_one_that_is_kept_stays() {
    let mut bench = Bench::with(limits(), Some(25));
    let kept = bench.state.register(ModelConfig { keep: true, ..config("kept", limits()) });
    let second = bench.state.register(config("second", limits()));
    let large = bench.state.register(ModelConfig { memory: 16, ..config("large", limits()) });
    let caller = bench.caller();
    let run = |bench: &mut Bench, model| {
        let (_, mut answer) = bench.submit_to(model, 1, &[1], &caller).unwrap();
        while bench.answer() {}
        let models = bench.state.live()[0].models.join(" ");
        (values(&mut answer).map(|_| ()), models)
    };
    assert_eq!(run(&mut bench, kept), (Ok(()), "kept".to_owned()));
    assert_eq!(run(&mut bench, ModelId(0)), (Ok(()), "kept m".to_owned()));
    assert_eq!(run(&mut bench, second), (Ok(()), "kept second".to_owned()));
    assert_eq!(run(&mut bench, kept), (Ok(()), "kept second".to_owned()));
    let (error, _) = run(&mut bench, large);
    let expected =
        "model `large` cannot be served: it takes 16 bytes, and of the 25 for models 10 belong to models that are kept";
    assert_eq!(error.unwrap_err().to_string(), expected);
    assert_eq!((bench.state.stats().loads, bench.state.stats().unloads), (3, 1));
}

#[test]
fn a_model_that_is_busy_is_not_unloaded_at_once() {
    let mut bench = Bench::with(limits(), Some(15));
    let other = bench.state.register(config("other", limits()));
    let caller = bench.caller();
    let mut answers: Vec<_> = (0..4).map(|tag| bench.submit(tag, &[8, 8, 8, 8]).unwrap().1).collect();
    let stranger = Caller { tenant: Tenant::way_in("stranger"), ..caller };
    let (_, mut answer) = bench.submit_to(other, 9, &[1], &stranger).unwrap();
    bench.answer();
    bench.answer();
    bench.answer();
    assert_eq!(bench.state.stats().unloads, 0);
    bench.now += SWAP_PATIENCE;
    while answer.try_recv().is_err() {
        bench.answer();
    }
    assert_eq!((bench.state.stats().loads, bench.state.stats().unloads), (2, 1));
    while bench.answer() {}
    assert!(answers.iter_mut().all(|answer| values(answer).is_ok()));
}

#[test]
fn a_device_that_is_smaller_than_it_was_thought_to_be_unloads_and_tries_again() {
    let mut bench = Bench::new(limits());
    let second = bench.state.register(config("second", limits()));
    let (_, mut first) = bench.submit(1, &[1]).unwrap();
    while bench.answer() {}
    assert!(values(&mut first).is_ok());
    let caller = bench.caller();
    let (_, mut answer) = bench.submit_to(second, 1, &[1], &caller).unwrap();
    bench.reply(Frame::Failed { kind: FailureKind::OutOfMemory, message: "no room".into() });
    assert!(matches!(bench.front(), Some((_, Frame::Unload { model: ModelId(0) }))));
    while bench.answer() {}
    assert!(values(&mut answer).is_ok());
}

#[test]
fn what_cannot_be_answered_in_time_is_dropped_before_it_costs_anything() {
    let mut bench = Bench::new(limits());
    for length in (1..=16).cycle().take(32) {
        let (_, mut answer) = bench.submit(1, &[length]).unwrap();
        bench.device_ns = u64::from(length) * 1_000;
        while bench.answer() {}
        assert!(values(&mut answer).is_ok());
    }
    // 1 µs a token, of which half is sure: 30 tokens take 15 µs at least.
    let (_, _busy) = bench.submit(1, &[1]).unwrap();
    let deadline = bench.now + Duration::from_micros(14);
    let (_, mut late) = bench.submit_to(bench.model, 2, &[30], &Caller { deadline, ..bench.caller() }).unwrap();
    let (_, mut short) = bench.submit_to(bench.model, 3, &[20], &Caller { deadline, ..bench.caller() }).unwrap();
    while bench.answer() {}
    assert_eq!(values(&mut late), Err(InferenceError::Deadline));
    assert!(values(&mut short).is_ok());
    assert_eq!(bench.state.stats().expired, 1);
}

#[test]
fn a_request_that_the_model_is_not_made_for_is_told_what_to_use() {
    let mut bench = Bench::new(limits());
    let (_, mut early) = bench.submit(1, &[1]).unwrap();
    let signature = Signature::Scores { labels: 3 };
    bench.reply(Frame::Loaded { model: ModelId(0), signature, memory: 0, device: "cpu".into() });
    let expected = "the input does not fit the model: `m` is a classifier, which gives scores and no vectors; use `classify`, or another model";
    assert_eq!(values(&mut early).unwrap_err().to_string(), expected);
    assert_eq!(bench.submit(1, &[1]).unwrap_err().to_string(), expected);
}

#[test]
fn closing_answers_everything() {
    let mut bench = Bench::new(limits());
    let (_, mut out) = bench.submit(1, &[1]).unwrap();
    bench.answer();
    let (_, mut waiting) = bench.submit(2, &[1]).unwrap();
    bench.state.close();
    for answer in [&mut out, &mut waiting] {
        assert!(matches!(values(answer), Err(InferenceError::Unavailable { .. })));
    }
}

proptest! {
    /// Random requests, answers, deaths and cancels: everyone who stays is answered once, with rows of its own.
    #[test]
    fn every_request_is_answered_once_and_none_is_crossed(
        steps in proptest::collection::vec((0u8..8, proptest::collection::vec(1u32..9, 1..10)), 1..60),
    ) {
        let mut bench = Bench::new(limits());
        let mut waiting: Vec<(u32, Vec<u32>, RequestId, Receiver)> = Vec::new();
        for (tag, (kind, lengths)) in (1u32..).zip(steps) {
            match kind {
                0..=3 => {
                    if let Ok((request, answer)) = bench.submit(tag, &lengths) {
                        waiting.push((tag, lengths, request, answer));
                    }
                }
                4 | 5 => {
                    bench.answer();
                }
                6 if !bench.sent.is_empty() => bench.die(),
                _ if !waiting.is_empty() => {
                    let (_, _, request, _) = waiting.swap_remove(tag as usize % waiting.len());
                    bench.state.cancel(request);
                }
                _ => {}
            }
        }
        while bench.answer() {}
        for (tag, lengths, _, mut answer) in waiting {
            match values(&mut answer) {
                Ok(values) => {
                    let expected: Vec<f32> = lengths.iter().flat_map(|length| [tag as f32, *length as f32]).collect();
                    prop_assert_eq!(values, expected);
                }
                Err(InferenceError::DeviceLost { .. } | InferenceError::Unavailable { .. }) => {}
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert!(bench.state.requests.is_empty() && bench.state.batcher.is_empty());
    }
}
