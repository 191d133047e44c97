//! The device's decisions, without a process: the test plays the worker.

use proptest::prelude::*;

use super::*;
use crate::inference::wire::HEADER_BYTES;

type Answer = oneshot::Receiver<Result<Embedded, InferenceError>>;

/// Values of one row in the test's own model.
const DIMENSION: u32 = 2;

/// A device whose worker is the test.
struct Bench {
    state: State<()>,
    model: ModelId,
    generation: u64,
    /// The frame that is out.
    out: Option<Vec<u8>>,
}

impl Bench {
    fn new(limits: BatchLimits) -> Self {
        let mut state = State::new(limits);
        let model = state.register("m", ModelSource::Noop);
        Self { state, model, generation: 0, out: None }
    }

    /// Submits rows that hold `tag` once for each token.
    fn submit(&mut self, tag: u32, lengths: &[u32]) -> Result<(RequestId, Answer), InferenceError> {
        let mut cu_seqlens = vec![0];
        let mut ids = Vec::new();
        for length in lengths {
            ids.extend(std::iter::repeat_n(tag, *length as usize));
            cu_seqlens.push(ids.len() as u32);
        }
        let (done, answer) = oneshot::channel();
        let request = self.state.submit(self.model, ids, cu_seqlens, done)?;
        self.pump();
        Ok((request, answer))
    }

    fn pump(&mut self) {
        match self.state.step() {
            Step::Nothing => {}
            Step::Start { .. } => {
                self.generation = self.state.started((), 1).expect("the device is open");
                self.pump();
            }
            Step::Send(_) => {
                assert!(self.out.is_none(), "two frames are out");
                self.out = Some(self.state.frame().to_vec());
            }
        }
    }

    /// Answers the frame that is out, as a worker would: each row's values are its first token and its length.
    fn answer(&mut self) -> bool {
        let Some(bytes) = self.out.take() else {
            return false;
        };
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        let header = Header::parse(header).unwrap();
        let reply = match Frame::decode(header.kind, body).unwrap() {
            Frame::Load { model, .. } => Frame::Loaded {
                model,
                signature: Signature::Vector { dimension: DIMENSION },
                memory: 0,
                device: "cpu".into(),
            },
            Frame::Batch { model, cu_seqlens, ids, .. } => {
                let values = cu_seqlens
                    .windows(2)
                    .flat_map(|pair| [ids[pair[0] as usize] as f32, (pair[1] - pair[0]) as f32])
                    .collect();
                let rows = cu_seqlens.len() as u32 - 1;
                Frame::Vectors { model, rows, dimension: DIMENSION, device_ns: 7_000, values }
            }
            other => panic!("{other:?}"),
        };
        self.state.reply(self.generation, header, reply).unwrap();
        self.pump();
        true
    }

    fn die(&mut self) {
        self.out = None;
        assert!(self.state.lost(self.generation, "killed"));
        self.pump();
    }
}

fn limits() -> BatchLimits {
    BatchLimits { max_batch_size: 4, max_batch_tokens: 32, max_queue_size: 64, max_request_rows: 64 }
}

fn values(answer: &mut Answer) -> Result<Vec<f32>, InferenceError> {
    answer.try_recv().expect("answered").map(|embedded| embedded.values)
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
    let (_, mut answer) = bench.submit(1, &[1]).unwrap();
    for _ in 0..STARTS_MAX {
        bench.die();
    }
    let failed = values(&mut answer).unwrap_err();
    assert!(matches!(&failed, InferenceError::Unavailable { model, .. } if model == "m"), "{failed:?}");
    // The next request is tried anew.
    let (_, mut next) = bench.submit(2, &[1]).unwrap();
    while bench.answer() {}
    assert!(values(&mut next).is_ok());
}

#[test]
fn an_answer_that_was_not_asked_for_is_refused_and_the_batch_runs_again() {
    let mut bench = Bench::new(limits());
    let (_, mut answer) = bench.submit(1, &[1]).unwrap();
    bench.answer();
    let bytes = bench.out.clone().unwrap();
    let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
    let vectors =
        |rows, dimension, values: Vec<f32>| Frame::Vectors { model: ModelId(0), rows, dimension, device_ns: 0, values };
    for (header, wrong) in [
        (header, vectors(2, DIMENSION, vec![0.0; 4])),
        (header, vectors(1, 3, vec![0.0; 3])),
        (
            header,
            Frame::Loaded {
                model: ModelId(0),
                signature: Signature::Vector { dimension: 2 },
                memory: 0,
                device: "cpu".into(),
            },
        ),
        (Header { job: 99, ..header }, vectors(1, DIMENSION, vec![0.0; 2])),
    ] {
        assert!(bench.state.reply(bench.generation, header, wrong).is_err());
    }
    assert!(bench.state.reply(bench.generation + 1, header, vectors(1, DIMENSION, vec![0.0; 2])).is_err());
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
    let bytes = bench.out.take().unwrap();
    let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
    let values_of = vec![f32::NAN, 1.0, 2.0, 1.0];
    let reply = Frame::Vectors { model: ModelId(0), rows: 2, dimension: DIMENSION, device_ns: 0, values: values_of };
    bench.state.reply(bench.generation, header, reply).unwrap();
    assert!(matches!(values(&mut first), Err(InferenceError::BadInput { .. })));
    assert_eq!(values(&mut second).unwrap(), [2.0, 1.0]);
}

#[test]
fn a_bad_request_fails_by_itself_and_its_neighbours_are_served() {
    let mut bench = Bench::new(limits());
    let (_, mut good) = bench.submit(1, &[1]).unwrap();
    let (_, mut bad) = bench.submit(2, &[1]).unwrap();
    let (_, mut other) = bench.submit(3, &[1]).unwrap();
    bench.answer();
    // The test's model takes no token 2.
    while let Some(bytes) = bench.out.clone() {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        let header = Header::parse(header).unwrap();
        let is_bad = matches!(Frame::decode(header.kind, body).unwrap(), Frame::Batch { ids, .. } if ids.contains(&2));
        if is_bad {
            bench.out = None;
            let refusal = Frame::Failed { kind: FailureKind::BadBatch, message: "no token 2".into() };
            bench.state.reply(bench.generation, header, refusal).unwrap();
            bench.pump();
        } else {
            bench.answer();
        }
    }
    assert_eq!(values(&mut good).unwrap(), [1.0, 1.0]);
    assert_eq!(values(&mut other).unwrap(), [3.0, 1.0]);
    assert_eq!(values(&mut bad).unwrap_err(), InferenceError::BadInput { reason: "no token 2".into() });
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
        let mut waiting: Vec<(u32, Vec<u32>, RequestId, Answer)> = Vec::new();
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
                6 if bench.out.is_some() => bench.die(),
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
        prop_assert!(bench.state.requests.is_empty());
    }
}
