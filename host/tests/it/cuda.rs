//! The worker on a CUDA device, which here is the stub driver: the real binary, the real frames, the kernels on the
//! CPU.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use bireme::wire::{FailureKind, Frame, HEADER_BYTES, Header, ModelId, Signature};
use bireme::worker::encoder::Encoder;

use crate::encoder::batch;
use crate::stub_driver::StubDriver;
use crate::tiny::{HIDDEN, POSITIONS, Tiny};

/// A worker process, played the host to.
struct Worker {
    child: Child,
    stream: UnixStream,
    job: u64,
}

const MODEL: ModelId = ModelId(0);

impl Worker {
    fn start(driver: &StubDriver, device: &str) -> Self {
        Self::start_with(driver, device, None)
    }

    fn start_with(driver: &StubDriver, device: &str, memory: Option<&str>) -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bireme"));
        command.args(["worker", "--device", device]).env_clear().env("LD_LIBRARY_PATH", driver.library_path());
        if let Some(memory) = memory {
            command.env("BIREME_CUDA_MEMORY", memory);
        }
        let child = command.stdin(OwnedFd::from(theirs)).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, stream, job: 0 }
    }

    /// Sends a frame and returns the answer; none if the worker ended instead.
    fn try_ask(&mut self, frame: &Frame) -> Option<Frame> {
        self.job += 1;
        let mut bytes = Vec::new();
        frame.encode(self.job, &mut bytes);
        self.stream.write_all(&bytes).ok()?;
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).ok()?;
        let header = Header::parse(&header).unwrap();
        assert_eq!(header.job, self.job);
        let mut body = vec![0; header.body_bytes];
        self.stream.read_exact(&mut body).unwrap();
        Some(Frame::decode(header.kind, &body).unwrap())
    }

    #[track_caller]
    fn ask(&mut self, frame: &Frame) -> Frame {
        self.try_ask(frame).expect("the worker lives")
    }

    #[track_caller]
    fn load(&mut self, dir: &Path) -> (Signature, String) {
        match self.ask(&load(dir)) {
            Frame::Loaded { model: MODEL, signature, device, .. } => (signature, device),
            other => panic!("{other:?}"),
        }
    }

    /// Embeds texts of these lengths.
    #[track_caller]
    fn embed(&mut self, lengths: &[usize]) -> Vec<f32> {
        let (ids, cu_seqlens) = batch(lengths);
        match self.ask(&Frame::Batch { model: MODEL, cu_seqlens, first_segments: vec![], ids }) {
            Frame::Vectors { rows, values, .. } if rows as usize == lengths.len() => values,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for its end; what it said, too.
    fn end(mut self) -> (ExitStatus, String) {
        drop(self.stream);
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

fn load(dir: &Path) -> Frame {
    Frame::Load { model: MODEL, path: dir.to_str().unwrap().to_owned() }
}

/// The small model in a folder.
fn model(tiny: &Tiny) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    tiny.write(dir.path(), "bert.");
    dir
}

fn on_cpu(dir: &Path, lengths: &[usize]) -> Vec<f32> {
    let (ids, cu_seqlens) = batch(lengths);
    let mut vectors = Vec::new();
    Encoder::load(dir, 1).unwrap().run(&ids, &cu_seqlens, &mut vectors).unwrap();
    vectors
}

/// Half precision through two layers: values of a vector of length 1 are off by a few steps of f16 at their size.
#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.chunks(HIDDEN).zip(expected.chunks(HIDDEN)) {
        let cosine: f32 = actual.iter().zip(expected).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.9999, "{cosine}");
        for (a, b) in actual.iter().zip(expected) {
            assert!((a - b).abs() < 4e-3, "{a} is not {b}");
        }
    }
}

/// Batches that run as they are, as a graph (the second and third of a shape), and beyond what graphs are for.
const BATCHES: [&[usize]; 6] =
    [&[1], &[POSITIONS], &[7, 3, POSITIONS, 1, 12], &[3, 7, POSITIONS, 12, 1], &[20; 40], &[POSITIONS; 5]];

#[test]
fn vectors_equal_those_of_the_cpu_with_and_without_cublaslt() {
    let dir = model(&Tiny::new());
    let (turing, ampere) = ("capability = 75", "capability = 80");
    let drivers = [
        StubDriver::new(ampere),
        StubDriver::new(turing),
        StubDriver::without_cublaslt(ampere),
        StubDriver::without_cublaslt(turing),
    ];
    for driver in drivers {
        let mut worker = Worker::start(&driver, "cuda:0");
        assert_eq!(worker.load(dir.path()), (Signature::Vector { dimension: HIDDEN as u32 }, "cuda:0".to_owned()));
        for _ in 0..3 {
            for lengths in BATCHES {
                assert_close(&worker.embed(lengths), &on_cpu(dir.path(), lengths));
            }
        }
        let (status, said) = worker.end();
        assert!(status.success(), "{said}");
    }
}

/// The reference's texts in half precision: what a real model's weights make of f16 is no matter of the device.
#[test]
fn a_real_model_in_half_precision_keeps_its_vectors() {
    let Some((case, dir)) = crate::parity::load() else { return };
    let driver = StubDriver::new("");
    let mut worker = Worker::start(&driver, "cuda:0");
    worker.load(&dir);
    let (mut ids, mut cu_seqlens) = (Vec::new(), vec![0]);
    for text in &case.ids {
        ids.extend_from_slice(text);
        cu_seqlens.push(ids.len() as u32);
    }
    match worker.ask(&Frame::Batch { model: MODEL, cu_seqlens, first_segments: vec![], ids }) {
        Frame::Vectors { values, dimension, .. } => {
            assert_eq!(values.len(), case.expected.len() * dimension as usize);
            for (index, (actual, expected)) in values.chunks(dimension as usize).zip(&case.expected).enumerate() {
                let cosine: f32 = actual.iter().zip(expected).map(|(a, b)| a * b).sum();
                assert!(cosine > 0.99999, "text {index}: {cosine}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_classifier_scores_pairs_as_the_cpu_does() {
    let dir = model(&Tiny::classifier(3));
    let driver = StubDriver::new("devices = 2");
    let mut worker = Worker::start(&driver, "cuda:1");
    assert_eq!(worker.load(dir.path()), (Signature::Scores { labels: 3 }, "cuda:1".to_owned()));
    let (ids, cu_seqlens) = batch(&[5, POSITIONS, 1, 20]);
    let first_segments = vec![2, 30, 1, 0];
    let mut expected = Vec::new();
    let mut encoder = Encoder::load(dir.path(), 1).unwrap();
    encoder.run_pairs(&ids, &cu_seqlens, &first_segments, &mut expected).unwrap();
    match worker.ask(&Frame::Batch { model: MODEL, cu_seqlens, first_segments, ids }) {
        Frame::Vectors { rows: 4, dimension: 3, values, device_ns, .. } => {
            assert!(device_ns > 0);
            for (actual, expected) in values.iter().zip(&expected) {
                assert!((actual - expected).abs() < 2e-2 * expected.abs().max(1.0), "{actual} is not {expected}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_that_does_not_fit_runs_in_halves() {
    let dir = model(&Tiny::new());
    // Room for the model and some hundred tokens.
    let driver = StubDriver::without_cublaslt("");
    let mut worker = Worker::start_with(&driver, "cuda:0", Some("700000"));
    worker.load(dir.path());
    let lengths = [POSITIONS; 40];
    assert_close(&worker.embed(&lengths), &on_cpu(dir.path(), &lengths));
    assert_close(&worker.embed(&[3]), &on_cpu(dir.path(), &[3]));
}

#[test]
fn a_text_that_does_not_fit_is_refused_and_the_worker_lives() {
    let dir = model(&Tiny::new());
    let driver = StubDriver::without_cublaslt("");
    let budget = |memory: &str| {
        let mut worker = Worker::start_with(&driver, "cuda:0", Some(memory));
        let loaded = worker.ask(&load(dir.path()));
        (worker, loaded)
    };
    // Too little for the model itself.
    let (_worker, refused) = budget("100000");
    match refused {
        Frame::Failed { kind: FailureKind::OutOfMemory, message } => {
            assert!(message.contains("of 100000"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // Enough for the model, too little for a text beside it.
    let mut memory = 150_000;
    let (mut worker, _) = loop {
        match budget(&memory.to_string()) {
            (worker, Frame::Loaded { .. }) => break (worker, ()),
            _ => memory += 10_000,
        }
    };
    let (ids, cu_seqlens) = batch(&[POSITIONS]);
    let refused = worker.ask(&Frame::Batch { model: MODEL, cu_seqlens, first_segments: vec![], ids });
    assert!(matches!(refused, Frame::Failed { kind: FailureKind::OutOfMemory, .. }), "{refused:?}");
    assert!(matches!(worker.ask(&Frame::Unload { model: MODEL }), Frame::Unloaded { in_use: 0, .. }));
}

#[test]
fn unloading_returns_the_memory() {
    let dir = model(&Tiny::new());
    for driver in [StubDriver::new(""), StubDriver::without_cublaslt("")] {
        let mut worker = Worker::start(&driver, "cuda:0");
        let unload = Frame::Unload { model: MODEL };
        // What stays is the device's own: cuBLASLt's workspace.
        worker.load(dir.path());
        let Frame::Unloaded { in_use: empty, .. } = worker.ask(&unload) else { panic!("an answer of its own") };
        assert!(empty == 0 || empty == 32 << 20, "{empty}");
        worker.load(dir.path());
        BATCHES.iter().for_each(|lengths| drop(worker.embed(lengths)));
        assert_eq!(worker.ask(&unload), Frame::Unloaded { model: MODEL, in_use: empty });
        // And the model can come again.
        worker.load(dir.path());
        assert_close(&worker.embed(&[5]), &on_cpu(dir.path(), &[5]));
    }
}

#[test]
fn a_lost_context_ends_the_worker_at_once() {
    let dir = model(&Tiny::new());
    for code in [700, 710, 714, 715, 716, 717, 718, 719] {
        // The first launch is the self-check's.
        let driver = StubDriver::new(&format!("fail = cuLaunchKernel {code} 5"));
        let mut worker = Worker::start(&driver, "cuda:0");
        worker.load(dir.path());
        let (ids, cu_seqlens) = batch(&[7]);
        let answer = worker.try_ask(&Frame::Batch { model: MODEL, cu_seqlens, first_segments: vec![], ids });
        assert_eq!(answer, None, "{code}");
        let (status, said) = worker.end();
        assert!(!status.success() && said.contains(&format!("({code})")), "{said}");
    }
}

#[test]
fn a_device_that_computes_wrong_is_not_ready() {
    let dir = model(&Tiny::new());
    // The self-check's kernel cannot be launched.
    let driver = StubDriver::new("fail = cuLaunchKernel 1 1");
    match Worker::start(&driver, "cuda:0").ask(&load(dir.path())) {
        Frame::Failed { kind: FailureKind::Load, message } => {
            assert_eq!(message, "cuda:0 cannot be used: cuLaunchKernel failed with CUDA_ERROR_INVALID_VALUE (1)");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_that_could_not_be_opened_is_opened_with_the_next_load() {
    let dir = model(&Tiny::new());
    let driver = StubDriver::new("fail = cuDevicePrimaryCtxRetain 2 1");
    let mut worker = Worker::start(&driver, "cuda:0");
    assert!(matches!(worker.ask(&load(dir.path())), Frame::Failed { kind: FailureKind::Load, .. }));
    worker.load(dir.path());
    assert_close(&worker.embed(&[5]), &on_cpu(dir.path(), &[5]));
}

#[test]
fn batches_that_cannot_be_captured_run_without_a_graph() {
    let dir = model(&Tiny::new());
    let driver = StubDriver::new("fail = cuStreamBeginCapture 801 1 on");
    let mut worker = Worker::start(&driver, "cuda:0");
    worker.load(dir.path());
    for _ in 0..4 {
        assert_close(&worker.embed(&[5, 3]), &on_cpu(dir.path(), &[5, 3]));
    }
}

#[test]
fn a_device_that_keeps_failing_is_no_fault_of_the_texts_and_ends_the_worker() {
    let dir = model(&Tiny::new());
    // Every launch after the self-check's is refused.
    let driver = StubDriver::new("fail = cuLaunchKernel 1 2 on");
    let mut worker = Worker::start(&driver, "cuda:0");
    worker.load(dir.path());
    let (ids, cu_seqlens) = batch(&[7]);
    let frame = Frame::Batch { model: MODEL, cu_seqlens, first_segments: vec![], ids };
    for _ in 0..2 {
        let answer = worker.ask(&frame);
        assert!(matches!(answer, Frame::Failed { kind: FailureKind::Device, .. }), "{answer:?}");
    }
    assert_eq!(worker.try_ask(&frame), None);
    assert!(!worker.end().0.success());
}
