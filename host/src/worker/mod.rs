//! What runs inside a worker process: loads models, answers batches. Knows the wire and the kernels, nothing else.
//!
//! Single-threaded but for the arithmetic: one frame in, one frame out. The process ends when its input does (the host
//! hung up or died); the kernel's parent-death signal is a second net under that.
//!
//! Limits: `BIREME_WORKER_THREADS` threads for the arithmetic, by default one for each core.

mod bert;
pub mod config;
mod cpu;
mod cuda;
pub mod encoder;
mod head;
mod ops;
pub mod place;
pub mod probe;
pub mod weights;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use bireme_kernels::cuda::device::DeviceError;

use self::encoder::{Encoder, LoadError, RunError};
use self::place::{Place, PlaceError};
use crate::inference::wire::{FailureKind, Frame, HEADER_BYTES, Header, ModelId, NOOP_PATH, Output};

/// Dimension of the no-op model's vectors.
const NOOP_DIMENSION: u32 = 4;

/// Answers the host on standard input, which is one end of a socket pair, until it hangs up.
///
/// # Errors
/// Only what ends the worker: a broken conversation, or a device that has lost its context. Nothing is answered then, so
/// the host tries the batch again with the next worker.
pub fn run(device: Option<u32>) -> Result<(), WorkerError> {
    // Fires when the thread that started us ends, too, so the end of input stays the rule.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut worker = Worker { device, place: None, models: HashMap::new(), device_errors: 0 };

    let (mut body, mut reply) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; HEADER_BYTES];
        match stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let header = Header::parse(&header).map_err(invalid)?;
        body.resize(header.body_bytes, 0);
        stream.read_exact(&mut body)?;
        let frame = Frame::decode(header.kind, &body).map_err(invalid)?;
        reply.clear();
        worker.answer(frame)?.encode(header.job, &mut reply);
        stream.write_all(&reply)?;
    }
}

/// Why a worker ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    #[error("the conversation with the host broke")]
    Conversation(#[from] io::Error),
    /// Every later call would fail the same way; the next worker has a context of its own.
    #[error("the device is lost")]
    DeviceLost(#[source] DeviceError),
}

struct Worker {
    /// The CUDA device that is wanted, else the CPU.
    device: Option<u32>,
    /// Opened with the first load: until then there is nobody to tell what goes wrong.
    place: Option<Place>,
    models: HashMap<ModelId, Model>,
    /// Batches in a row that the device failed, for a reason that is no lost context.
    device_errors: u32,
}

/// Batches that a device may fail in a row before it is taken for lost, whatever it says.
const DEVICE_ERRORS_MAX: u32 = 3;

enum Model {
    Encoder(Box<Encoder>),
    Noop,
}

impl Worker {
    fn answer(&mut self, frame: Frame) -> Result<Frame, WorkerError> {
        match frame {
            Frame::Load { model, path } => self.load(model, &path),
            Frame::Unload { model } => self.unload(model),
            Frame::Batch { model, cu_seqlens, first_segments, ids } => {
                self.batch(model, &cu_seqlens, &first_segments, &ids)
            }
            _ => Ok(failed(FailureKind::BadBatch, "the host sent a reply")),
        }
    }

    fn load(&mut self, id: ModelId, path: &str) -> Result<Frame, WorkerError> {
        // One that could not be opened may be free by now.
        let place = match (&mut self.place, self.device) {
            (Some(place), _) => &*place,
            (none, None) => none.insert(Place::cpu()),
            (none, Some(ordinal)) => match Place::cuda(ordinal) {
                Ok(place) => none.insert(place),
                Err(PlaceError::Device(error)) if error.is_sticky() => return Err(WorkerError::DeviceLost(error)),
                Err(error) => {
                    let reason = format!("cuda:{ordinal} cannot be used: {:#}", anyhow::Error::from(error));
                    return Ok(failed(FailureKind::Load, &reason));
                }
            },
        };
        let (model, dimension, output) = if path == NOOP_PATH {
            (Model::Noop, NOOP_DIMENSION, Output::Vector)
        } else {
            match place.load(Path::new(path)) {
                Ok(encoder) => {
                    let output = if encoder.is_classifier() { Output::Scores } else { Output::Vector };
                    let dimension = encoder.dimension() as u32;
                    (Model::Encoder(Box::new(encoder)), dimension, output)
                }
                Err(LoadError::Device(error)) if error.is_sticky() => return Err(WorkerError::DeviceLost(error)),
                Err(error) => return Ok(failed(FailureKind::Load, &format!("{:#}", anyhow::Error::from(error)))),
            }
        };
        self.models.insert(id, model);
        Ok(Frame::Loaded { model: id, dimension, output, device: place.name() })
    }

    fn unload(&mut self, id: ModelId) -> Result<Frame, WorkerError> {
        self.models.remove(&id);
        match self.place.as_ref().map_or(Ok(0), Place::trim) {
            Ok(in_use) => Ok(Frame::Unloaded { model: id, in_use }),
            Err(error) => Err(WorkerError::DeviceLost(error)),
        }
    }

    fn batch(
        &mut self,
        id: ModelId,
        cu_seqlens: &[u32],
        first_segments: &[u32],
        ids: &[u32],
    ) -> Result<Frame, WorkerError> {
        let rows = cu_seqlens.len() as u32 - 1;
        let mut values = Vec::new();
        let (dimension, device_ns) = match self.models.get_mut(&id) {
            None => return Ok(failed(FailureKind::BadBatch, "the model is not loaded")),
            Some(Model::Noop) => {
                let started = Instant::now();
                values.resize(rows as usize * NOOP_DIMENSION as usize, 0.0);
                (NOOP_DIMENSION, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
            Some(Model::Encoder(encoder)) => {
                let device_ns = match encoder.run_pairs(ids, cu_seqlens, first_segments, &mut values) {
                    Ok(device_ns) => device_ns,
                    Err(RunError::Device(error)) if error.is_sticky() => return Err(WorkerError::DeviceLost(error)),
                    Err(RunError::Device(error)) if error.is_out_of_memory() => {
                        return Ok(failed(FailureKind::OutOfMemory, &error.to_string()));
                    }
                    Err(RunError::Device(error)) => {
                        self.device_errors += 1;
                        if self.device_errors == DEVICE_ERRORS_MAX {
                            return Err(WorkerError::DeviceLost(error));
                        }
                        return Ok(failed(FailureKind::Device, &error.to_string()));
                    }
                    Err(error) => {
                        return Ok(failed(FailureKind::BadBatch, &format!("{:#}", anyhow::Error::from(error))));
                    }
                };
                self.device_errors = 0;
                (encoder.dimension() as u32, device_ns)
            }
        };
        Ok(Frame::Vectors { model: id, rows, dimension, device_ns, values })
    }
}

fn failed(kind: FailureKind, message: &str) -> Frame {
    Frame::Failed { kind, message: message.to_owned() }
}
