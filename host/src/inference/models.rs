//! The models of one host that requests have named: their text side, read once, and their places in the worker pool.
//!
//! Invariants: the files of a model are read by one worker at a time, whoever asks and however long they wait; a
//! refusal holds until a file changes; a model that is read stays as it is while the host lives.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dashmap::DashMap;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;

use super::catalogue::{Catalogue, CatalogueError, FilesStamp, LocatedModel};
use super::encoding::Encoding;
use super::error::InferenceError;
use super::labels::Labels;
use super::manifest::{ManifestError, ManifestReader};
use super::serving;
use super::worker_pool::{ModelConfig, ModelSource, WorkerPool};
use crate::limits::BatchLimits;
use crate::spawner::Spawner;
use crate::tokenizer::Tokenizer;
use crate::wire::ModelId;

/// The no-op model: returns a text's first token and length at no cost, to measure the round trip to a worker and to
/// match answers to texts. Only if the configuration enables it.
pub const NOOP_MODEL: &str = "bireme-noop";

/// A model that can be asked.
pub(super) struct Model {
    pub(super) id: ModelId,
    text: Arc<TextSide>,
}

impl Model {
    pub(super) fn encoding(&self) -> &Encoding {
        &self.text.encoding
    }

    pub(super) fn labels(&self) -> &Labels {
        &self.text.labels
    }
}

/// The part of a model that runs in the host.
struct TextSide {
    encoding: Encoding,
    labels: Labels,
    limits: BatchLimits,
    keep: bool,
}

type Reading = Shared<BoxFuture<'static, Result<Arc<TextSide>, ManifestError>>>;

/// A reading of a model's files, running or ended.
struct Attempt {
    stamp: FilesStamp,
    reading: Reading,
    /// Set by the reading.
    ended: Arc<OnceLock<Instant>>,
}

impl Attempt {
    /// Whether these files need not be read again.
    fn holds(&self, stamp: &FilesStamp, now: Instant) -> bool {
        let lasts = match self.reading.peek() {
            None | Some(Ok(_)) => None,
            Some(Err(error)) => error.lasts(),
        };
        let age = self.ended.get().map_or_else(Default::default, |ended| now.saturating_duration_since(*ended));
        self.stamp == *stamp && lasts.is_none_or(|lasts| age < lasts)
    }
}

/// All models of one host.
pub(super) struct Models {
    catalogue: Catalogue,
    reader: Arc<ManifestReader>,
    batch_limits: BatchLimits,
    noop_model: bool,
    open: DashMap<String, Arc<Model>>,
    /// By name, of models that are not open.
    attempts: Mutex<HashMap<String, Attempt>>,
}

impl Models {
    pub(super) fn new(catalogue: Catalogue, spawner: Spawner, batch_limits: BatchLimits, noop: bool) -> Self {
        Self {
            catalogue,
            reader: Arc::new(ManifestReader::new(spawner)),
            batch_limits,
            noop_model: noop,
            open: DashMap::new(),
            attempts: Mutex::default(),
        }
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Whether the last reading of a model's files ended with a refusal.
    pub(super) fn is_refused(&self, name: &str) -> bool {
        let attempts = self.attempts.lock();
        attempts.get(name).is_some_and(|attempt| matches!(attempt.reading.peek(), Some(Err(_))))
    }

    /// Returns a model, whose files are read the first time.
    pub(super) async fn get(&self, name: &str, workers: &WorkerPool) -> Result<Arc<Model>, InferenceError> {
        if let Some(model) = self.open.get(name) {
            return Ok(model.clone());
        }
        if self.noop_model && name == NOOP_MODEL {
            let (limits, labels) = (self.batch_limits.clone(), Labels::default());
            let text = TextSide { encoding: Encoding::Length, labels, limits, keep: false };
            return Ok(self.register(name, ModelSource::Noop, 0, Arc::new(text), workers));
        }
        let unavailable = |reason: String| InferenceError::Unavailable { model: name.to_owned(), reason };
        let located = self.catalogue.locate(name).map_err(|error| match error {
            CatalogueError::UnknownModel { .. } | CatalogueError::Name { .. } => {
                InferenceError::UnknownModel { model: name.to_owned() }
            }
            other => unavailable(other.to_string()),
        })?;
        let text = self.reading(&located).await.map_err(|error| unavailable(error.to_string()))?;
        let model = self.register(name, ModelSource::Directory(located.path), located.bytes, text, workers);
        self.attempts.lock().remove(name);
        Ok(model)
    }

    /// Returns the reading of a model's files: the one that runs or has been, or a new one.
    fn reading(&self, located: &LocatedModel) -> Reading {
        let stamp = located.stamp();
        let mut attempts = self.attempts.lock();
        if let Some(attempt) = attempts.get(&located.name).filter(|attempt| attempt.holds(&stamp, Instant::now())) {
            return attempt.reading.clone();
        }
        let ended = Arc::new(OnceLock::new());
        let read = read(self.reader.clone(), located.path.clone(), self.batch_limits.clone());
        let at_end = ended.clone();
        // A task: callers that go away must not start it over.
        let task = tokio::spawn(async move {
            let read = read.await;
            let _ = at_end.set(Instant::now());
            read
        });
        let dir = located.path.clone();
        let reading = task.map(|ended| ended.unwrap_or_else(|_| Err(crash(dir)))).boxed().shared();
        attempts.insert(located.name.clone(), Attempt { stamp, reading: reading.clone(), ended });
        reading
    }

    fn register(
        &self,
        name: &str,
        source: ModelSource,
        memory: u64,
        text: Arc<TextSide>,
        workers: &WorkerPool,
    ) -> Arc<Model> {
        let open = self.open.entry(name.to_owned()).or_insert_with(|| {
            let config =
                ModelConfig { name: name.into(), source, limits: text.limits.clone(), memory, keep: text.keep };
            Arc::new(Model { id: workers.register(config), text })
        });
        open.clone()
    }
}

async fn read(
    reader: Arc<ManifestReader>,
    dir: PathBuf,
    defaults: BatchLimits,
) -> Result<Arc<TextSide>, ManifestError> {
    let manifest = reader.read(&dir).await?;
    let refused = |error: anyhow::Error| ManifestError::Refused { reason: format!("{error:#}") };
    let limits = serving::limits(&manifest.serving, &dir, &defaults).map_err(|error| refused(error.into()))?;
    let encoding = match manifest.tokenizer {
        None => Encoding::None,
        Some(table) => {
            let built = tokio::task::spawn_blocking(move || Tokenizer::new(table)).await.map_err(|_| crash(dir))?;
            Encoding::Tokens(Box::new(built.map_err(|error| refused(error.into()))?))
        }
    };
    let labels = Labels::new(manifest.labels, manifest.is_multi_label);
    Ok(Arc::new(TextSide { encoding, labels, limits, keep: manifest.serving.keep }))
}

fn crash(dir: PathBuf) -> ManifestError {
    ManifestError::Died { dir, reason: "its tokenizer crashed while it was made".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::devices::Devices;
    use super::super::worker_pool::PoolConfig;
    use super::*;
    use crate::devices::DeviceChoice;
    use crate::spawner::Program;

    /// A reader that counts its starts in a file and ends without an answer.
    fn counting(count: &Path, models_dir: &Path) -> Spawner {
        let script = format!("echo started >> '{}'; exit 3", count.display());
        Spawner::with_worker(Program { program: "/bin/sh".into(), args: vec!["-c".into(), script] }, models_dir)
    }

    #[tokio::test]
    async fn files_that_were_refused_are_read_again_once_one_has_changed() {
        let home = tempfile::tempdir().unwrap();
        let (dir, count) = (home.path().join("models/broken"), home.path().join("count"));
        fs::create_dir_all(&dir).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::write(dir.join(file), "{}").unwrap();
        }
        let models_dir = home.path().join("models");
        let spawner = counting(&count, &models_dir);
        let devices = Arc::new(Devices::new(spawner.clone(), DeviceChoice::Auto));
        let config = PoolConfig { workers: 1, memory_max: None, requests_bytes_max: 1 << 30, weights: HashMap::new() };
        let pool = WorkerPool::new(spawner.clone(), devices, config);
        let models = Models::new(Catalogue::new(models_dir), spawner, BatchLimits::default(), false);
        let reads = || fs::read_to_string(&count).unwrap().lines().count();

        let ask = || models.get("broken", &pool);
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        for refused in [one, two, three, ask().await] {
            let error = refused.err().unwrap().to_string();
            assert!(error.starts_with("model `broken` cannot be served: the process that read"), "{error}");
            assert!(error.contains("models/broken") && error.ends_with("(exit status: 3)"), "{error}");
        }
        assert_eq!(reads(), 1);
        assert!(models.is_refused("broken") && !models.is_refused("other"));
        fs::write(dir.join("tokenizer.json"), "{ }").unwrap();
        assert!(ask().await.is_err());
        assert_eq!(reads(), 2);
    }

    #[test]
    fn a_refusal_lasts_and_a_death_may_have_been_the_machines() {
        let refused = ManifestError::Refused { reason: String::new() };
        assert_eq!(refused.lasts(), None);
        assert_eq!(crash("x".into()).lasts(), Some(std::time::Duration::from_secs(600)));
        let start = ManifestError::Start { reason: String::new() };
        assert_eq!(start.lasts(), Some(std::time::Duration::ZERO));
    }
}
