//! Errors of a request to a model, for guests and clients.

use crate::codes::Code;

/// A request has no answer. `sandbox` maps these to `inference-error` of `wit/inference.wit`, which adds the refusals
/// of the host itself.
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
    /// Returns the message for guests and clients. The reason why a model cannot be served may name files of the host:
    /// it goes to the log alone.
    pub(crate) fn public_message(&self) -> String {
        match self {
            Self::Unavailable { model, reason } => {
                tracing::error!(model, reason, "a model cannot be served");
                format!("model `{model}` cannot be served; the host's log says why")
            }
            other => other.to_string(),
        }
    }

    /// Returns its error code.
    pub(crate) fn code(&self) -> Code {
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
