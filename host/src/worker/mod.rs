//! What runs inside a worker process: loads models, answers batches. Knows the wire and the kernels, nothing else.
//!
//! Single-threaded but for the arithmetic: one frame in, one frame out. The process ends when its input does (the host
//! hung up or died); the kernel's parent-death signal is a second net under that.
//!
//! Limits: `BIREME_WORKER_THREADS` threads for the arithmetic, by default one for each core.

pub mod config;
pub mod encoder;
mod model;
pub mod weights;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use self::encoder::Encoder;
use crate::inference::wire::{FailureKind, Frame, HEADER_BYTES, Header, ModelId, NOOP_PATH};

/// Dimension of the no-op model's vectors.
const NOOP_DIMENSION: u32 = 4;

/// Answers the host on standard input, which is one end of a socket pair, until it hangs up.
pub fn run() -> io::Result<()> {
    // Fires when the thread that started us ends, too, so the end of input stays the rule.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let threads = std::env::var("BIREME_WORKER_THREADS").ok().and_then(|value| value.parse().ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut worker = Worker { threads, models: HashMap::new() };

    let (mut body, mut reply) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; HEADER_BYTES];
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let header = Header::parse(&header).map_err(invalid)?;
        body.resize(header.body_bytes, 0);
        stream.read_exact(&mut body)?;
        let frame = Frame::decode(header.kind, &body).map_err(invalid)?;
        reply.clear();
        worker.answer(frame).encode(header.job, &mut reply);
        stream.write_all(&reply)?;
    }
}

struct Worker {
    threads: usize,
    models: HashMap<ModelId, Model>,
}

enum Model {
    Encoder(Box<Encoder>),
    Noop,
}

impl Worker {
    fn answer(&mut self, frame: Frame) -> Frame {
        match frame {
            Frame::Load { model, path } => self.load(model, &path),
            Frame::Batch { model, cu_seqlens, ids } => self.batch(model, &cu_seqlens, &ids),
            _ => failed(FailureKind::BadBatch, "the host sent a reply"),
        }
    }

    fn load(&mut self, id: ModelId, path: &str) -> Frame {
        let (model, dimension) = if path == NOOP_PATH {
            (Model::Noop, NOOP_DIMENSION)
        } else {
            match Encoder::load(Path::new(path), self.threads) {
                Ok(encoder) => {
                    let dimension = encoder.dimension() as u32;
                    (Model::Encoder(Box::new(encoder)), dimension)
                }
                Err(error) => {
                    return failed(FailureKind::Load, &format!("{:#}", anyhow::Error::from(error)));
                }
            }
        };
        self.models.insert(id, model);
        Frame::Loaded { model: id, dimension, device: "cpu".to_owned() }
    }

    fn batch(&mut self, id: ModelId, cu_seqlens: &[u32], ids: &[u32]) -> Frame {
        let rows = cu_seqlens.len() as u32 - 1;
        let started = Instant::now();
        let mut values = Vec::new();
        let dimension = match self.models.get_mut(&id) {
            None => return failed(FailureKind::BadBatch, "the model is not loaded"),
            Some(Model::Noop) => {
                values.resize(rows as usize * NOOP_DIMENSION as usize, 0.0);
                NOOP_DIMENSION
            }
            Some(Model::Encoder(encoder)) => {
                if let Err(error) = encoder.run(ids, cu_seqlens, &mut values) {
                    return failed(FailureKind::BadBatch, &format!("{:#}", anyhow::Error::from(error)));
                }
                encoder.dimension() as u32
            }
        };
        let device_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Frame::Vectors { model: id, rows, dimension, device_ns, values: std::mem::take(&mut values) }
    }
}

fn failed(kind: FailureKind, message: &str) -> Frame {
    Frame::Failed { kind, message: message.to_owned() }
}
