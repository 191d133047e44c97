//! The text side of a model, read from its files by a worker that does nothing else.
//!
//! The host parses no file of a model: a tokenizer of 64 MiB, a nest of brackets or a hole in a parser costs that
//! process. It is confined to the model's directory, and bounded in memory and processor time (`worker::manifest`).
//!
//! Limits: [`READERS_MAX`] such workers at a time, [`READ_TIMEOUT`] for each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::worker_process::Worker;
use crate::spawner::{Role, Spawner};
use crate::wire::{Frame, Manifest};

/// Models whose files are read at a time. One that is slow holds back those behind it, so more than one.
const READERS_MAX: usize = 4;
/// Time for one model's files. The worker's own limit of processor time ends it before, unless the machine is busy.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Files of a model that were not read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum ManifestError {
    /// Refusal by the worker, which names the file.
    #[error("{reason}")]
    Refused { reason: String },
    /// Death of the worker, over a limit or by a fault in a parser.
    #[error(
        "the process that read the tokenizer and the settings in `{}` ended over its limits of 1 GiB and 20 s, or by a \
         fault: {reason}",
        dir.display()
    )]
    Died { dir: PathBuf, reason: String },
    /// Worker that does not start.
    #[error("the process that reads a model's files does not start: {reason}")]
    Start { reason: String },
}

impl ManifestError {
    /// Returns the time for which the same files need not be read again; `None` is for ever. A worker may have died of
    /// a busy machine.
    pub(super) fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Refused { .. } => None,
            Self::Died { .. } => Some(Duration::from_secs(600)),
            Self::Start { .. } => Some(Duration::ZERO),
        }
    }
}

/// Starts the workers that read models' files.
pub(super) struct ManifestReader {
    spawner: Spawner,
    places: Semaphore,
}

impl ManifestReader {
    pub(super) fn new(spawner: Spawner) -> Self {
        Self { spawner, places: Semaphore::new(READERS_MAX) }
    }

    /// Reads the files in a model's directory. Dropping the future ends the worker.
    pub(super) async fn read(&self, dir: &Path) -> Result<Manifest, ManifestError> {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let started = Worker::start(&self.spawner, Role::ModelReader(name)).await;
        let (worker, replies) = started.map_err(|error| ManifestError::Start { reason: error.to_string() })?;
        let mut request = Vec::new();
        Frame::Describe { path: dir.to_string_lossy().into_owned() }.encode(0, &mut request);
        worker.send(&request);
        let due = Instant::now() + READ_TIMEOUT;
        let mut answer = None;
        // The first answer ends it.
        let take = |_, frame| {
            answer = Some(frame);
            false
        };
        let ended = replies.run(take, || Some(due)).await;
        match answer {
            Some(Frame::Described { manifest }) => Ok(*manifest),
            Some(Frame::Failed { message, .. }) => Err(ManifestError::Refused { reason: message }),
            _ => Err(ManifestError::Died { dir: dir.to_owned(), reason: ended }),
        }
    }
}
