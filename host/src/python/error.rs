//! A Python app that cannot be built.

use std::io;
use std::path::PathBuf;

use super::project::ProjectError;
use crate::app::ComponentError;
use crate::app::metadata::MetadataError;
use crate::codes::Code;
use crate::deploy::CodeError;
use crate::sandbox::{LoadFailure, PreloadError, SandboxError};

/// A Python app that cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonError {
    #[error("this host has no Python: no base component at `{}`", place.display())]
    NoBase { place: PathBuf },
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("`{}` is not the base component of Python: {reason}", path.display())]
    NotABase { path: PathBuf, reason: String },
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Preload(#[from] PreloadError),
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The document of the app's SDK is refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A package needs native code.
    #[error("`{package}` needs `{file}`, which is native code, and functions run in WebAssembly; {remedy}")]
    Native { package: String, file: String, remedy: &'static str, traceback: String },
    #[error("{program} cannot install the requirements")]
    Requirements { program: &'static str, words: String },
    #[error("the app has requirements, and nothing can install them: {reasons}")]
    NoInstaller { reasons: String },
    #[error("the builder of Python apps ended: {0}")]
    Stopped(String),
}

impl PythonError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NoBase { .. } | Self::NotABase { .. } => Code::NoPython,
            Self::Read { .. } | Self::Write { .. } => Code::Io,
            Self::Project(_) => Code::BadManifest,
            Self::Preload(PreloadError::Base(_)) => Code::NoPython,
            Self::Preload(_) => Code::BuildFailed,
            Self::Code(error) => error.code(),
            Self::Metadata(_) => Code::BadMetadata,
            Self::Component(_) => Code::BadComponent,
            Self::Sandbox(_) => Code::Sandbox,
            Self::Native { .. } | Self::Requirements { .. } => Code::BuildFailed,
            Self::NoInstaller { .. } => Code::Toolchain,
            Self::Stopped(_) => Code::Sandbox,
        }
    }

    /// Returns the next step, if the message does not say it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoBase { .. } => {
                Some("install it with `bireme python install FILE`, from a wheel or a base component".to_owned())
            }
            Self::Preload(PreloadError::Load(LoadFailure { missing: Some(module), .. })) => Some(format!(
                "add the package of `{module}` to `dependencies` in pyproject.toml, or to requirements.txt"
            )),
            Self::NoInstaller { .. } => Some("install uv or pip".to_owned()),
            _ => None,
        }
    }

    /// Returns what stands above the message: the author's own frames, or the words of an installer.
    pub(crate) fn traceback(&self) -> &str {
        match self {
            Self::Preload(PreloadError::Load(failure)) => &failure.traceback,
            Self::Native { traceback, .. } => traceback,
            Self::Requirements { words, .. } => words,
            _ => "",
        }
    }
}
