//! A change of an app that was refused or failed.

use super::history::RollbackError;
use super::loader::LoadError;
use crate::app::ComponentError;
use crate::app::capabilities::Capability;
use crate::codes::Code;
use crate::ids::{AppName, Version};
use crate::outbound::PolicyError;
use crate::storage::StorageError;

/// Bytes of a deployment's message.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_000;

/// A change that was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DeployError {
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("a grant cannot be used")]
    Grant(#[from] PolicyError),
    #[error("version {version} of `{app}` declares what was not accepted: {}", list(added))]
    NotAccepted { app: AppName, version: Version, added: Vec<Capability> },
    #[error("the message is {bytes} bytes, over the limit of {MESSAGE_BYTES_MAX}")]
    Message { bytes: usize },
    #[error("no app `{app}` was ever deployed here")]
    UnknownApp { app: String },
    #[error("`{app}` is stopped already")]
    Stopped { app: AppName },
    #[error("`{app}` cannot go back")]
    Rollback { app: AppName, source: RollbackError },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the record names `{digest}`, which is no SHA-256; deploy the app again")]
    Digest { digest: String },
    #[error("another host has changed `{app}` meanwhile; look at its history, then deploy again")]
    Conflict { app: AppName },
}

impl DeployError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Component(_) => Code::BadComponent,
            // The engine of this host runs; it is the component that it cannot.
            Self::Load(LoadError::Sandbox(_)) => Code::BadApp,
            Self::Load(error) => error.code(),
            Self::Grant(_) => Code::Config,
            Self::Message { .. } | Self::Rollback { source: RollbackError::Ambiguous { .. }, .. } => Code::BadQuery,
            Self::NotAccepted { .. } => Code::NotAccepted,
            Self::UnknownApp { .. } => Code::UnknownApp,
            Self::Stopped { .. } => Code::AppStopped,
            Self::Rollback { source: RollbackError::Unknown { .. }, .. } => Code::UnknownVersion,
            Self::Rollback { .. } => Code::NoRollback,
            Self::Storage(error) => error.code(),
            Self::Digest { .. } => Code::Store,
            Self::Conflict { .. } => Code::Overloaded,
        }
    }
}

fn list(capabilities: &[Capability]) -> String {
    capabilities.iter().map(Capability::to_string).collect::<Vec<_>>().join(", ")
}
