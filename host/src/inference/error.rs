//! Errors of a request to a model, for guests and clients.

use super::builtin_models::BUILTIN_MODELS;
use crate::codes::Code;

/// Longest name that is compared with those of known models.
const MODEL_NAME_LEN_MAX: usize = 64;

/// A request has no answer. `sandbox` maps these to `inference-error` of `wit/inference.wit`, which adds the refusals
/// of the host itself.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InferenceError {
    #[error("no model `{model}` is installed; {}", next_step(model))]
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

/// Returns the command that installs a model of this name, if there is one, else of a name that is near.
fn next_step(model: &str) -> String {
    let near = |known: &str| {
        let distance = strsim::osa_distance(model, known);
        (distance <= 1 + model.len().min(known.len()) / 4).then_some(distance)
    };
    // Guests and clients send names of any length.
    let names = BUILTIN_MODELS.iter().map(|known| known.name).filter(|_| model.len() <= MODEL_NAME_LEN_MAX);
    match names.filter_map(|known| Some((near(known)?, known))).min() {
        Some((0, _)) => format!("run `bireme models pull {model}`"),
        Some((_, known)) => format!("did you mean `{known}`? `bireme models pull {known}` fetches it"),
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
