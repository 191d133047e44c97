//! Errors of inference.

use super::tensor::TensorError;

/// Reason why a model gave no result.
///
/// ```
/// use bireme_sdk::model::model;
///
/// // No model stands in for the host's in this test.
/// assert!(!model("none").embed(&["text"]).unwrap_err().to_string().is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model of that name is installed on the host.
    #[error(
        "the host has no model `{model}`; `bireme models` lists those it has, `bireme models pull {model}` fetches one"
    )]
    Unknown {
        /// Name of the model.
        model: String,
    },
    /// The function does not list the model.
    #[error("this function does not declare model `{model}`; add `models = [\"{model}\"]` to its `#[function]`")]
    NotDeclared {
        /// Name of the model.
        model: String,
    },
    /// The input does not fit the model.
    #[error("model `{model}` cannot take the input: {reason}")]
    BadInput {
        /// Name of the model.
        model: String,
        /// Reason, in the words of the host.
        reason: String,
    },
    /// The model's queue is full.
    #[error("the queue of model `{model}` is full; try again later")]
    Overloaded {
        /// Name of the model.
        model: String,
    },
    /// The call's deadline passed before the batch ran.
    #[error("the deadline passed before model `{model}` ran")]
    Deadline {
        /// Name of the model.
        model: String,
    },
    /// The worker died twice with this request in its batch.
    #[error("the worker of model `{model}` died twice on this request")]
    DeviceLost {
        /// Name of the model.
        model: String,
    },
    /// The function's token budget is used up.
    #[error("no more tokens for model `{model}`: {reason}")]
    BudgetExceeded {
        /// Name of the model.
        model: String,
        /// Reason, in the words of the host.
        reason: String,
    },
    /// The host could not start or reach the worker.
    #[error("the worker of model `{model}` is not available: {reason}")]
    Unavailable {
        /// Name of the model.
        model: String,
        /// Reason, in the words of the host.
        reason: String,
    },
    /// A native test used a model without a fake.
    #[error(
        "there is no host in a native test, so no model `{model}`; give one with `bireme_sdk::testing::with_{what}`"
    )]
    NoFake {
        /// Name of the model.
        model: String,
        /// Kind of the fake, as `testing` spells it: `model`, `reranker`, …
        what: &'static str,
    },
    /// An impossible tensor, or one of another type than requested.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl Error {
    /// Returns true if a retry cannot help.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::NotDeclared { .. }
                | Self::BadInput { .. }
                | Self::BudgetExceeded { .. }
                | Self::NoFake { .. }
                | Self::Tensor(_)
        )
    }
}
