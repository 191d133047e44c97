//! A Python app that cannot be built.

use std::io;
use std::path::PathBuf;

use super::project::ProjectError;
use crate::app::ComponentError;
use crate::codes::Code;
use crate::deploy::CodeError;
use crate::sandbox::{PreloadError, SandboxError};

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
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
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
            Self::Component(_) => Code::BadComponent,
            Self::Sandbox(_) => Code::Sandbox,
            Self::Stopped(_) => Code::Sandbox,
        }
    }

    /// Returns the next step, if the message does not say it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoBase { .. } => {
                Some("install it with `bireme python install FILE`, from a wheel or a base component")
            }
            _ => None,
        }
    }
}
