//! Errors of a request to a model, for guests and clients.

use super::builtin_models::BUILTIN_MODELS;
use crate::codes::Code;
use crate::suggest::closest;

/// A request has no answer. `sandbox` maps these to `inference-error` of `wit/inference.wit`, which adds the refusals
/// of the host itself.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InferenceError {
    /// Name of a model that is not installed.
    #[error("no model `{model}` is installed; {}", next_step(model))]
    UnknownModel {
        /// Name of the model, from the request.
        model: String,
    },
    /// Input that the model cannot take, or request of a kind that it does not answer.
    #[error("the input does not fit the model: {reason}")]
    BadInput {
        /// Explanation for the caller, in part from the worker.
        reason: String,
    },
    /// Input over the model's limit of tokens, under `Overflow::Reject`.
    #[error(
        "{input} has {tokens} tokens, over the model's limit of {max_tokens}; shorten it, or let its end be left out"
    )]
    TooLong {
        /// Position of the input in the request: `text N` or `document N`, from 0.
        input: String,
        /// Tokens of the input, special ones and a query included; a lower bound for long text, read in part.
        tokens: usize,
        /// Limit of the model, special tokens included.
        max_tokens: usize,
    },
    /// Lack of room in the queue: for rows of the model, the tenant's share of them, or bytes of all models.
    #[error("the queue of model `{model}` is full ({waiting_rows} texts wait); try again later")]
    Overloaded {
        /// Name of the model, from the request.
        model: String,
        /// Rows in the queue at the refusal.
        waiting_rows: usize,
    },
    /// Deadline of the caller reached before the answer, in the queue or during the run.
    #[error("the deadline passed before the model answered")]
    Deadline,
    /// Deaths of workers with this request in their batch, until no other request could be at fault.
    #[error("the worker died {losses} times with this request for model `{model}`")]
    DeviceLost {
        /// Name of the model, from the request.
        model: String,
        /// Failed runs of the request's batch, the deaths included; at least 2.
        losses: u32,
    },
    /// Model that cannot be loaded or run, or host that is shutting down.
    #[error("model `{model}` cannot be served: {reason}")]
    Unavailable {
        /// Name of the model, from the request.
        model: String,
        /// Cause for the operator; it may name files of the host, so `public_message` leaves it out.
        reason: String,
    },
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

/// Returns the command that installs a model of this name, if there is one, else of a name that is near.
fn next_step(model: &str) -> String {
    match closest(model, BUILTIN_MODELS.iter().map(|known| known.name)) {
        Some(known) if known == model => format!("run `bireme models pull {model}`"),
        Some(known) => format!("did you mean `{known}`? `bireme models pull {known}` fetches it"),
        None => "`bireme models` lists those that can be pulled, `bireme models add` takes your own".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_model_comes_with_a_command_that_can_work() {
        let check = |model: &str, expected: &str| {
            let text = InferenceError::UnknownModel { model: model.to_owned() }.to_string();
            assert_eq!(text, format!("no model `{model}` is installed; {expected}"));
        };
        check("all-minilm-l6-v2", "run `bireme models pull all-minilm-l6-v2`");
        check("all-minilm-l6-v3", "did you mean `all-minilm-l6-v2`? `bireme models pull all-minilm-l6-v2` fetches it");
        let others = "`bireme models` lists those that can be pulled, `bireme models add` takes your own";
        check("nothing", others);
        check(&"x".repeat(1 << 20), others);
    }
}
