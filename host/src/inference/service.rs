//! Inference for one host: requests to its models, and the workers that run them.
//!
//! A request is tokenised on the caller's thread (long ones on a blocking thread), joins the queue, rides in one or
//! more batches, and comes back with its share of their cost.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::catalogue::Catalogue;
use super::devices::Devices;
use super::error::InferenceError;
use super::models::{Model, Models};
use super::request::{Caller, Inputs};
use super::worker_pool::{BatchRecord, DeviceStats, OutputKind, PoolConfig, Work, WorkerPool};
use crate::call::InferenceReceipt;
use crate::devices::{DeviceChoice, DeviceRefused, Report, ReportSource};
use crate::limits::BatchLimits;
use crate::spawner::Spawner;
use crate::tasks;
use crate::tokenizer::Overflow;
use crate::wire::{Signature, Tensor};

/// Texts of more bytes than this together are tokenised off the caller's thread.
const TOKENIZE_INLINE_BYTES_MAX: usize = 4 << 10;
/// Cost of a row besides its text, in bytes of text.
pub(super) const ROW_BYTES: usize = 64;

/// Vectors of one dimension, concatenated, and their cost.
#[derive(Debug)]
pub struct Embeddings {
    /// Length of each vector.
    pub dimension: u32,
    /// Vectors in the order of the inputs: inputs × `dimension` values.
    pub values: Vec<f32>,
    /// Cost of the request; all zero for a request without inputs.
    pub receipt: InferenceReceipt,
}

/// Named tensors of a model, and their cost.
#[derive(Debug)]
pub(crate) struct TensorOutputs {
    pub tensors: Vec<Tensor>,
    pub receipt: InferenceReceipt,
}

/// The description of a model.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub name: String,
    pub signature: Signature,
}

/// The configuration of inference.
#[derive(Clone, Debug)]
pub struct InferenceConfig {
    /// Directory of the installed models, with one subdirectory for each.
    pub models_dir: PathBuf,
    /// Starts the workers, for models of the same directory.
    pub spawner: Spawner,
    /// Device of the workers; a later choice holds for workers that start after it.
    pub device: DeviceChoice,
    /// Bounds of each model's queue and batches, unless its `serving.json` sets others.
    pub batch_limits: BatchLimits,
    /// Bytes of models that a worker may hold; none: half of the machine's memory on the CPU, all that fits on a GPU.
    pub model_memory_max: Option<u64>,
    /// Shares of tenants beside others, by name; 1 for those that are not named.
    pub weights: HashMap<String, u32>,
    /// Whether `NOOP_MODEL` can be called.
    pub noop_model: bool,
    /// Bytes of waiting and running requests, with room for their results, all models together.
    pub requests_bytes_max: usize,
}

/// All models of one host.
pub struct Inference {
    models: Models,
    devices: Arc<Devices>,
    pub(super) workers: WorkerPool,
    /// One permit for each core: tokenising on blocking threads must not starve the guests.
    tokenizing: Arc<Semaphore>,
    pub(super) batch_limits: BatchLimits,
}

impl Inference {
    /// Creates the service; starts no worker before the first request. Must be called within a tokio runtime.
    pub fn new(config: InferenceConfig) -> Self {
        let devices = Arc::new(Devices::new(config.spawner.clone(), config.device));
        let pool = PoolConfig {
            workers: 1,
            memory_max: config.model_memory_max,
            requests_bytes_max: config.requests_bytes_max,
            weights: config.weights,
        };
        let catalogue = Catalogue::new(&config.models_dir);
        Self {
            models: Models::new(catalogue, config.spawner.clone(), config.batch_limits.clone(), config.noop_model),
            workers: WorkerPool::new(config.spawner, devices.clone(), pool),
            devices,
            tokenizing: Arc::new(Semaphore::new(tasks::cores())),
            batch_limits: config.batch_limits,
        }
    }

    /// Embeds each input. Dropping the future takes the request out of the queue.
    pub async fn embed(
        &self,
        name: &str,
        inputs: Inputs,
        overflow: Overflow,
        caller: &Caller,
    ) -> Result<Embeddings, InferenceError> {
        self.check_rows(inputs.len())?;
        self.within(caller, async {
            let model = self.model(name).await?;
            if inputs.is_empty() {
                let signature = self.workers.signature(model.id, caller).await?;
                let Signature::Vector { dimension } = signature else {
                    return Err(InferenceError::BadInput { reason: format!("`{name}` is no embedding model") });
                };
                return Ok(Embeddings { dimension, values: Vec::new(), receipt: InferenceReceipt::default() });
            }
            self.workers.check_room(model.id, inputs.len())?;
            let (ids, cu_seqlens) = self.tokenize(&model, inputs, overflow).await?;
            let work = Work::Rows { ids, cu_seqlens, first_segments: Vec::new() };
            let (dimension, values, receipt) = self.workers.rows(model.id, work, OutputKind::Vectors, caller).await?;
            Ok(Embeddings { dimension, values, receipt })
        })
        .await
    }

    /// Describes a model, which is loaded if needed.
    pub(crate) async fn describe(&self, name: &str, caller: &Caller) -> Result<Description, InferenceError> {
        self.within(caller, async {
            let model = self.model(name).await?;
            let signature = self.workers.signature(model.id, caller).await?;
            Ok(Description { name: name.to_owned(), signature })
        })
        .await
    }

    /// Bounds an answer by the caller's deadline.
    pub(super) async fn within<T>(
        &self,
        caller: &Caller,
        answer: impl Future<Output = Result<T, InferenceError>>,
    ) -> Result<T, InferenceError> {
        tokio::time::timeout_at(caller.deadline.into(), answer).await.unwrap_or(Err(InferenceError::Deadline))
    }

    pub(super) fn check_rows(&self, rows: usize) -> Result<(), InferenceError> {
        let limit = self.batch_limits.max_request_rows;
        if rows <= limit {
            return Ok(());
        }
        let reason = format!("{rows} texts in one request, over the limit of {limit}");
        Err(InferenceError::BadInput { reason })
    }

    /// Returns the models on disk.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        self.models.catalogue()
    }

    /// Whether the files of a model were read and refused.
    pub(crate) fn is_refused(&self, name: &str) -> bool {
        self.models.is_refused(name)
    }

    /// Returns the counters of the workers.
    pub fn stats(&self) -> DeviceStats {
        self.workers.stats()
    }

    /// Returns the last batches, newest first.
    pub fn batches(&self) -> Vec<BatchRecord> {
        self.workers.batches()
    }

    /// Changes the configured device, for workers that start from now on.
    pub(crate) fn choose(&self, device: DeviceChoice) {
        self.devices.choose(device);
    }

    /// Refuses a GPU that was named and cannot be used. `auto` is resolved with the first request.
    pub(crate) async fn check_device(&self) -> Result<(), DeviceRefused> {
        if self.devices.choice() == DeviceChoice::Auto { Ok(()) } else { self.devices.chosen().await.map(drop) }
    }

    /// Ends the worker. Requests that wait fail.
    pub async fn shut_down(&self) {
        self.workers.shut_down().await;
    }

    /// Returns the token ids of all texts and where each begins.
    pub(super) async fn tokenize(
        &self,
        model: &Arc<Model>,
        inputs: Inputs,
        overflow: Overflow,
    ) -> Result<(Vec<u32>, Vec<u32>), InferenceError> {
        let bytes = inputs.len() * ROW_BYTES
            + match &inputs {
                Inputs::Texts(texts) => texts.iter().map(String::len).sum::<usize>(),
                Inputs::Tokens(texts) => texts.iter().map(Vec::len).sum(),
            };
        let model = model.clone();
        self.encode(bytes, move || model.encoding().encode_all(&inputs, overflow)).await
    }

    /// Tokenises inline below `TOKENIZE_INLINE_BYTES_MAX`, else on a blocking thread.
    pub(super) async fn encode<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, InferenceError> + Send + 'static,
    ) -> Result<T, InferenceError> {
        if bytes <= TOKENIZE_INLINE_BYTES_MAX {
            return work();
        }
        let permit = self.tokenizing.clone().acquire_owned().await.expect("the semaphore is never closed");
        let tokenized = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        tokenized.await.unwrap_or_else(|_| {
            Err(InferenceError::BadInput { reason: "the tokenizer crashed on this text".to_owned() })
        })
    }

    pub(super) async fn model(&self, name: &str) -> Result<Arc<Model>, InferenceError> {
        self.models.get(name, &self.workers).await
    }
}

impl ReportSource for Inference {
    fn report(&self) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(async {
            let (asked, probe) = (self.devices.choice(), self.devices.probe().await.clone());
            Report { asked, chosen: asked.resolve(&probe), probe, worker: self.workers.live().into_iter().next() }
        })
    }
}
