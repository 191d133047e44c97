//! The host's side of inference: which models there are, the one queue in front of them, and the worker behind it.
//!
//! Not here: arithmetic (`worker`, another process).
//!
//! A request is tokenised on the caller's thread (long ones on a blocking thread), joins the queue, rides in
//! one or more batches, and comes back with its share of what they cost.

pub mod batcher;
mod builtin_models;
pub mod catalogue;
pub mod devices;
mod infer;
pub mod pull;
mod request;
mod score;
pub mod serving;
mod staging;
pub mod tensors;
pub mod tokenizer;
mod worker_pool;

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Semaphore;

use crate::call::InferenceReceipt;
use crate::codes::Code;
use crate::devices::{DeviceChoice, DeviceRefused, Report, ReportSource};
use crate::limits::BatchLimits;
use crate::wire::{ModelId, Signature, Tensor};
pub use batcher::WEIGHT_MAX;
use catalogue::{Catalogue, CatalogueError, ModelKind};
use devices::Devices;
pub use request::{Caller, Inputs, Tenant};
use score::Labels;
pub use score::{Classified, Scored, sigmoid};
use serving::Serving;
pub use tokenizer::Overflow;
use tokenizer::{Tokenizer, TokenizerError};
pub use worker_pool::{BatchRecord, DeviceStats, ModelStats, Outcome, WorkerProgram};
use worker_pool::{ModelConfig, ModelSource, OutputKind, PoolConfig, Work, WorkerPool};

/// Texts of more bytes than this together are tokenised off the caller's thread.
const TOKENIZE_INLINE_BYTES_MAX: usize = 4 << 10;
/// What a row costs besides its text, in bytes of text.
const ROW_BYTES: usize = 64;

/// A model that gives back a text's first token and length and costs nothing, to measure the way to a worker and back and
/// to tell whose an answer is. Only where the configuration asks for it.
pub const NOOP_MODEL: &str = "bireme-noop";

/// Why a request has no answer. The same set as `inference-error` in `wit/inference.wit`.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InferenceError {
    #[error("no model `{model}` is installed; run `bireme models pull {model}`")]
    UnknownModel { model: String },
    #[error("the input does not fit the model: {reason}")]
    BadInput { reason: String },
    #[error(
        "{input} has {tokens} tokens, over the model's limit of {max_tokens}; shorten it, or let its end be left out"
    )]
    TooLong { input: String, tokens: usize, max_tokens: usize },
    #[error("the queue of model `{model}` is full ({waiting_rows} texts wait); try again later")]
    Overloaded { model: String, waiting_rows: usize },
    #[error("the deadline passed before the model answered")]
    Deadline,
    #[error("the worker died {losses} times with this request for model `{model}`")]
    DeviceLost { model: String, losses: u32 },
    #[error("model `{model}` cannot be served: {reason}")]
    Unavailable { model: String, reason: String },
}

impl InferenceError {
    /// Returns what guests and clients are told. Why a model cannot be served may name files, and where the host keeps them is
    /// the operator's to know: that goes to the log.
    pub fn public_message(&self) -> String {
        match self {
            Self::Unavailable { model, reason } => {
                tracing::error!(model, reason, "a model cannot be served");
                format!("model `{model}` cannot be served; the host's log says why")
            }
            other => other.to_string(),
        }
    }

    /// Returns the code of the error that it is to a user.
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownModel { .. } => Code::UnknownModel,
            Self::BadInput { .. } | Self::TooLong { .. } => Code::InvalidInput,
            Self::Overloaded { .. } => Code::Overloaded,
            Self::Deadline => Code::Timeout,
            Self::DeviceLost { .. } => Code::DeviceLost,
            Self::Unavailable { .. } => Code::Unavailable,
        }
    }
}

/// Vectors of one dimension, concatenated, and what they cost.
#[derive(Debug)]
pub struct Embedded {
    pub dimension: u32,
    pub values: Vec<f32>,
    pub receipt: InferenceReceipt,
}

/// Named tensors that a model made, and what they cost.
#[derive(Debug)]
pub struct Inferred {
    pub tensors: Vec<Tensor>,
    pub receipt: InferenceReceipt,
}

/// What a model is.
#[derive(Clone, Debug)]
pub struct Description {
    pub name: String,
    pub signature: Signature,
    /// What loaded it: `cpu` or `cuda:N`.
    pub device: String,
}

/// How inference is set up.
#[derive(Clone, Debug)]
pub struct InferenceConfig {
    pub models_dir: PathBuf,
    pub worker: WorkerProgram,
    pub device: DeviceChoice,
    pub batch_limits: BatchLimits,
    /// Bytes of models that a worker may hold; none: half of the machine's memory on the CPU, and what a GPU takes.
    pub model_memory_max: Option<u64>,
    /// Shares of tenants beside others, by name; 1 for those that are not named.
    pub weights: HashMap<String, u32>,
    /// Whether `NOOP_MODEL` can be called.
    pub noop_model: bool,
}

/// All models of one host.
pub struct Inference {
    catalogue: Catalogue,
    devices: Arc<Devices>,
    workers: WorkerPool,
    models: DashMap<String, Arc<Model>>,
    /// One permit for each core: tokenising on blocking threads must not crowd out the guests.
    tokenizing: Arc<Semaphore>,
    /// Held while a model's files are opened, so that a burst of first requests opens them once.
    opening: tokio::sync::Mutex<()>,
    batch_limits: BatchLimits,
    noop_model: bool,
}

struct Model {
    id: ModelId,
    encoding: Encoding,
    labels: Labels,
}

enum Encoding {
    Tokens(Box<Tokenizer>),
    /// One token for four bytes: the no-op model has no vocabulary.
    Length,
    /// It takes named tensors.
    None,
}

impl Inference {
    /// Sets up; starts no worker before the first request. Must be called within a tokio runtime.
    pub fn new(config: InferenceConfig) -> Self {
        let devices = Arc::new(Devices::new(config.worker.clone(), config.device));
        let pool = PoolConfig { workers: 1, memory_max: config.model_memory_max, weights: config.weights };
        Self {
            catalogue: Catalogue::new(&config.models_dir),
            workers: WorkerPool::new(config.worker, devices.clone(), pool),
            devices,
            models: DashMap::new(),
            opening: tokio::sync::Mutex::new(()),
            tokenizing: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            batch_limits: config.batch_limits,
            noop_model: config.noop_model,
        }
    }

    /// Embeds each input. Dropping the future takes the request out of the queue.
    pub async fn embed(
        &self,
        name: &str,
        inputs: Inputs,
        overflow: Overflow,
        caller: &Caller,
    ) -> Result<Embedded, InferenceError> {
        self.check_rows(inputs.len())?;
        self.within(caller, async {
            let model = self.model(name).await?;
            if inputs.is_empty() {
                let signature = self.workers.signature(model.id, caller).await?;
                let Signature::Vector { dimension } = signature else {
                    return Err(InferenceError::BadInput { reason: format!("`{name}` is no embedding model") });
                };
                return Ok(Embedded { dimension, values: Vec::new(), receipt: InferenceReceipt::default() });
            }
            self.workers.check_room(model.id, inputs.len())?;
            let (ids, cu_seqlens) = self.tokenize(&model, inputs, overflow).await?;
            let work = Work::Rows { ids, cu_seqlens, first_segments: Vec::new() };
            let (dimension, values, receipt) = self.workers.rows(model.id, work, OutputKind::Vectors, caller).await?;
            Ok(Embedded { dimension, values, receipt })
        })
        .await
    }

    /// Says what a model is, loading it where needed.
    pub async fn describe(&self, name: &str, caller: &Caller) -> Result<Description, InferenceError> {
        self.within(caller, async {
            let model = self.model(name).await?;
            let signature = self.workers.signature(model.id, caller).await?;
            Ok(Description { name: name.to_owned(), signature, device: self.workers.name().unwrap_or_default() })
        })
        .await
    }

    /// Gives an answer up at the caller's deadline.
    async fn within<T>(
        &self,
        caller: &Caller,
        answer: impl Future<Output = Result<T, InferenceError>>,
    ) -> Result<T, InferenceError> {
        tokio::time::timeout_at(caller.deadline.into(), answer).await.unwrap_or(Err(InferenceError::Deadline))
    }

    fn check_rows(&self, rows: usize) -> Result<(), InferenceError> {
        let limit = self.batch_limits.max_request_rows;
        if rows <= limit {
            return Ok(());
        }
        let reason = format!("{rows} texts in one request, over the limit of {limit}");
        Err(InferenceError::BadInput { reason })
    }

    /// Returns the models on disk.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Returns what the device has done so far.
    pub fn stats(&self) -> DeviceStats {
        self.workers.stats()
    }

    /// Returns the last batches, newest first.
    pub fn batches(&self) -> Vec<BatchRecord> {
        self.workers.batches()
    }

    /// Takes another device than the configuration says, for workers that start from now on.
    pub fn choose(&self, device: DeviceChoice) {
        self.devices.choose(device);
    }

    /// Refuses a GPU that was named and cannot be used. What `auto` comes to shows with the first request.
    pub async fn check_device(&self) -> Result<(), DeviceRefused> {
        if self.devices.choice() == DeviceChoice::Auto { Ok(()) } else { self.devices.chosen().await.map(drop) }
    }

    /// Ends the worker. Requests that wait fail.
    pub async fn shut_down(&self) {
        self.workers.shut_down().await;
    }

    /// Returns the token ids of all texts and where each begins.
    async fn tokenize(
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
        self.encode(bytes, move || model.encoding.encode_all(&inputs, overflow)).await
    }

    /// Turns so many bytes of text into tokens, where that is nobody's loss.
    async fn encode<T: Send + 'static>(
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

    async fn model(&self, name: &str) -> Result<Arc<Model>, InferenceError> {
        if let Some(model) = self.models.get(name) {
            return Ok(model.clone());
        }
        let _opening = self.opening.lock().await;
        if let Some(model) = self.models.get(name) {
            return Ok(model.clone());
        }
        let model = if self.noop_model && name == NOOP_MODEL {
            let config = self.model_config(name, ModelSource::Noop, 0, &Serving::default());
            let id = self.workers.register(config);
            Arc::new(Model { id, encoding: Encoding::Length, labels: Labels::default() })
        } else {
            let unavailable = |reason: String| InferenceError::Unavailable { model: name.to_owned(), reason };
            let installed = self.catalogue.get(name).map_err(|error| match error {
                CatalogueError::UnknownModel { .. } | CatalogueError::Name { .. } => {
                    InferenceError::UnknownModel { model: name.to_owned() }
                }
                other => unavailable(other.to_string()),
            })?;
            let (dir, bytes) = (installed.path, installed.bytes);
            let (encoding, labels) = if installed.kind == ModelKind::Onnx {
                (Encoding::None, Labels::default())
            } else {
                let files = tokio::task::spawn_blocking({
                    let dir = dir.clone();
                    move || (Tokenizer::load(&dir), Labels::load(&dir))
                });
                let (tokenizer, labels) =
                    files.await.map_err(|_| unavailable("its tokenizer crashed while loading".to_owned()))?;
                let tokenizer = tokenizer.map_err(|error| unavailable(error.to_string()))?;
                let labels = labels.map_err(|error| unavailable(error.to_string()))?;
                (Encoding::Tokens(Box::new(tokenizer)), labels)
            };
            let serving = Serving::load(&dir).map_err(|error| unavailable(error.to_string()))?;
            let config = self.model_config(name, ModelSource::Directory(dir), bytes, &serving);
            let id = self.workers.register(config);
            Arc::new(Model { id, encoding, labels })
        };
        self.models.insert(name.to_owned(), model.clone());
        Ok(model)
    }

    fn model_config(&self, name: &str, source: ModelSource, memory: u64, serving: &Serving) -> ModelConfig {
        let limits = serving.limits(&self.batch_limits);
        ModelConfig { name: name.into(), source, limits, memory, keep: serving.keep }
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

impl Encoding {
    fn encode_all(&self, inputs: &Inputs, overflow: Overflow) -> Result<(Vec<u32>, Vec<u32>), InferenceError> {
        let mut ids = Vec::new();
        let mut cu_seqlens = Vec::with_capacity(inputs.len() + 1);
        cu_seqlens.push(0);
        for i in 0..inputs.len() {
            let row = match (self, inputs) {
                (Encoding::Tokens(tokenizer), Inputs::Texts(texts)) => tokenizer.encode(&texts[i], overflow),
                (Encoding::Tokens(tokenizer), Inputs::Tokens(texts)) => tokenizer.encode_tokens(&texts[i], overflow),
                (Encoding::Length, Inputs::Texts(texts)) => Ok(vec![1; texts[i].len() / 4 + 1]),
                (Encoding::Length, Inputs::Tokens(texts)) if texts[i].is_empty() => Ok(vec![1]),
                (Encoding::Length, Inputs::Tokens(texts)) => Ok(texts[i].clone()),
                (Encoding::None, _) => {
                    let reason = "the model takes named tensors, not texts; use `infer`".to_owned();
                    return Err(InferenceError::BadInput { reason });
                }
            };
            let row = row.map_err(|error| misfit(format!("text {i}"), error))?;
            append(&mut ids, &mut cu_seqlens, row)?;
        }
        Ok((ids, cu_seqlens))
    }
}

/// Says of which input the tokenizer said it.
fn misfit(input: String, error: TokenizerError) -> InferenceError {
    match error {
        TokenizerError::TooLong { tokens, max_tokens } => InferenceError::TooLong { input, tokens, max_tokens },
        error => InferenceError::BadInput { reason: format!("{input}: {error}") },
    }
}

/// Adds one more row.
fn append(ids: &mut Vec<u32>, cu_seqlens: &mut Vec<u32>, row: Vec<u32>) -> Result<(), InferenceError> {
    ids.extend(row);
    let end = u32::try_from(ids.len()).map_err(|_| InferenceError::BadInput { reason: "too many tokens".into() })?;
    cu_seqlens.push(end);
    Ok(())
}
