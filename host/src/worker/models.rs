//! The models of one worker, and its answer to each frame.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use super::device::{DeviceOpenError, WorkerDevice};
use super::encoder::Encoder;
use super::error::{LoadError, RunError, WorkerError};
use super::family::ModelOutput;
use super::manifest;
use super::onnx::{self, OnnxModel};
use crate::wire::{self, FailureKind, Frame, ModelId, NOOP_PATH, Signature, Tensor};

/// Dimension of the no-op model's vectors: a text's first token, its number of tokens, and zeros, so that a test can
/// match an answer to its text.
const NOOP_DIMENSION: u32 = 4;

/// The models of one worker.
pub struct Worker {
    /// The CUDA device to open; none for the CPU.
    ordinal: Option<u32>,
    /// Opened with the first load, whose answer reports a failure.
    device: Option<WorkerDevice>,
    models: HashMap<ModelId, Model>,
    /// Batches in a row that the device failed without losing its context.
    device_errors: u32,
}

/// Failed batches in a row after which a device counts as lost, even with a context.
const DEVICE_ERRORS_MAX: u32 = 3;

enum Model {
    Encoder(Box<Encoder>),
    Onnx(Box<OnnxModel>),
    Noop,
}

impl Worker {
    /// `device`: the CUDA device that is wanted, else the CPU.
    pub fn new(ordinal: Option<u32>) -> Self {
        Self { ordinal, device: None, models: HashMap::new(), device_errors: 0 }
    }

    /// Answers a frame of the host.
    ///
    /// # Errors
    /// A device that has lost its context.
    pub fn answer(&mut self, frame: Frame) -> Result<Frame, WorkerError> {
        match frame {
            Frame::Load { model, path } => self.load(model, &path),
            Frame::Unload { model } => self.unload(model),
            Frame::Batch { model, cu_seqlens, first_segments, ids } => {
                self.batch(model, &cu_seqlens, &first_segments, &ids)
            }
            Frame::Infer { model, items } => Ok(self.infer(model, &items)),
            Frame::Check => self.check(),
            Frame::Describe { path } => Ok(describe(Path::new(&path))),
            _ => Ok(failed(FailureKind::BadBatch, "the host sent a reply")),
        }
    }

    fn load(&mut self, id: ModelId, path: &str) -> Result<Frame, WorkerError> {
        let device = match self.open()? {
            Ok(device) => device,
            Err(refused) => return Ok(refused),
        };
        let before = device.memory_in_use();
        let (model, signature) = if path == NOOP_PATH {
            (Model::Noop, Signature::Vector { dimension: NOOP_DIMENSION })
        } else if onnx::is_model(Path::new(path)) {
            match OnnxModel::load(Path::new(path), device.threads()) {
                Ok(model) => {
                    let signature = model.signature();
                    (Model::Onnx(Box::new(model)), signature)
                }
                Err(error) => return Ok(failed(FailureKind::Load, &format!("{:#}", anyhow::Error::from(error)))),
            }
        } else {
            match device.load(Path::new(path)) {
                Ok(encoder) => {
                    let signature = match encoder.output() {
                        ModelOutput::Vector { dimension } => Signature::Vector { dimension: dimension as u32 },
                        ModelOutput::Scores { labels } => Signature::Scores { labels: labels as u32 },
                    };
                    (Model::Encoder(Box::new(encoder)), signature)
                }
                Err(LoadError::Device(error)) if error.is_sticky() => return Err(WorkerError::DeviceLost(error)),
                Err(LoadError::Device(error)) if error.is_out_of_memory() => {
                    return Ok(failed(FailureKind::OutOfMemory, &error.to_string()));
                }
                Err(error) => return Ok(failed(FailureKind::Load, &format!("{:#}", anyhow::Error::from(error)))),
            }
        };
        let memory = match &model {
            Model::Noop => 0,
            Model::Onnx(model) => device.on_cpu(model.memory()),
            Model::Encoder(encoder) => encoder.memory().unwrap_or(device.memory_in_use().saturating_sub(before)),
        };
        let device = if matches!(model, Model::Onnx(_)) { "cpu".to_owned() } else { device.name() };
        self.models.insert(id, model);
        Ok(Frame::Loaded { model: id, signature, memory, device })
    }

    /// Opens the device unless it is open; one that could not be opened before is tried again.
    fn open(&mut self) -> Result<Result<&WorkerDevice, Frame>, WorkerError> {
        let device = match (&mut self.device, self.ordinal) {
            (Some(device), _) => &*device,
            (none, None) => none.insert(WorkerDevice::cpu()),
            (none, Some(ordinal)) => match WorkerDevice::cuda(ordinal) {
                Ok(device) => none.insert(device),
                Err(DeviceOpenError::Device(error)) if error.is_sticky() => return Err(WorkerError::DeviceLost(error)),
                Err(error) => {
                    let reason = format!("cuda:{ordinal} cannot be used: {:#}", anyhow::Error::from(error));
                    return Ok(Err(failed(FailureKind::Load, &reason)));
                }
            },
        };
        Ok(Ok(device))
    }

    /// Runs a check of the device, for a host that has seen it fail.
    fn check(&mut self) -> Result<Frame, WorkerError> {
        let device = match self.open()? {
            Ok(device) => device,
            Err(refused) => return Ok(refused),
        };
        match device.check() {
            Ok(()) => Ok(Frame::Checked { in_use: device.memory_in_use() }),
            Err(error) => Err(WorkerError::DeviceLost(error)),
        }
    }

    fn unload(&mut self, id: ModelId) -> Result<Frame, WorkerError> {
        self.models.remove(&id);
        match self.device.as_ref().map_or(Ok(0), WorkerDevice::trim) {
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
            Some(Model::Onnx(_)) => return Ok(failed(FailureKind::BadBatch, "the model takes tensors, not tokens")),
            Some(Model::Noop) => {
                let started = Instant::now();
                values.reserve(rows as usize * NOOP_DIMENSION as usize);
                for ends in cu_seqlens.windows(2) {
                    let first = ids[ends[0] as usize];
                    values.extend([first as f32, (ends[1] - ends[0]) as f32, 0.0, 0.0]);
                }
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
        let checksum = wire::checksum(cu_seqlens, ids);
        Ok(Frame::Vectors { model: id, rows, dimension, checksum, device_ns, values })
    }

    fn infer(&mut self, id: ModelId, items: &[Vec<Tensor>]) -> Frame {
        match self.models.get_mut(&id) {
            None => failed(FailureKind::BadBatch, "the model is not loaded"),
            Some(Model::Encoder(_) | Model::Noop) => {
                failed(FailureKind::BadBatch, "the model takes tokens, not tensors")
            }
            Some(Model::Onnx(model)) => {
                let started = Instant::now();
                let items = model.infer(items);
                let device_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                Frame::Inferred { model: id, device_ns, items }
            }
        }
    }
}

/// Reads a model's JSON files. The process is for nothing else, so its limits stay.
fn describe(dir: &Path) -> Frame {
    manifest::limit_process();
    match manifest::read(dir) {
        Ok(manifest) => Frame::Described { manifest: Box::new(manifest) },
        Err(error) => failed(FailureKind::Load, &format!("{:#}", anyhow::Error::from(error))),
    }
}

fn failed(kind: FailureKind, message: &str) -> Frame {
    Frame::Failed { kind, message: message.to_owned() }
}
