//! A call's requests to models: declarations and token budgets checked before, tokens charged after.
//!
//! Not here: the guests' interfaces (`imports::inference`, `imports::nn`), the models' results (`inference`).

use jiff::Timestamp;

use super::boundary::Import;
use super::call_context::CallContext;
use super::tokens::TokenBudgetError;
use crate::call::InferenceReceipt;
use crate::inference::{
    Caller, Description, Embeddings, Inference, InferenceError, LabelScores, RelevanceScores, TensorOutputs,
};

/// Reason why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error(
        "function `{function}` does not declare model `{model}`; add `models = [\"{model}\"]` to its `#[function]`"
    )]
    NotDeclared { function: String, model: String },
    #[error(
        "model `{model}` is not granted to `{app}`; add it to `models` in its bireme.toml, or deploy it with `--grant \
         model:{model}`"
    )]
    NotGranted { app: String, model: String },
    #[error(transparent)]
    Budget(#[from] TokenBudgetError),
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// A model's response with its cost.
pub(crate) trait ModelResponse {
    fn receipt(&self) -> Option<&InferenceReceipt>;
}

macro_rules! responses {
    ($($response:ident)*) => {$(
        impl ModelResponse for $response {
            fn receipt(&self) -> Option<&InferenceReceipt> {
                Some(&self.receipt)
            }
        }
    )*};
}

responses! { Embeddings RelevanceScores LabelScores TensorOutputs }

impl ModelResponse for Description {
    /// `None`: describing a loaded model is free.
    fn receipt(&self) -> Option<&InferenceReceipt> {
        None
    }
}

impl CallContext {
    /// Refuses a model that the call's function neither declares nor was granted.
    pub(super) fn check_model(&self, model: &str) -> Result<(), ModelError> {
        if self.function.models.iter().any(|may| may == model) {
            return Ok(());
        }
        let model = model.to_owned();
        Err(if self.function.program().metadata().is_stock() {
            ModelError::NotGranted { app: self.function.app().to_string(), model }
        } else {
            ModelError::NotDeclared { function: self.function.name.to_string(), model }
        })
    }

    /// Refuses a call that has used up its own tokens, or its function's tokens of the day.
    fn check_tokens(&self) -> Result<(), TokenBudgetError> {
        let limits = &self.function.limits;
        if let Some(max) = limits.tokens_max {
            let used = self.tokens_used();
            if used >= max {
                return Err(TokenBudgetError::Call { function: self.function.id(), used, max });
            }
        }
        match limits.tokens_per_day_max {
            Some(max) => self.services.tokens.check(&self.function.id(), max, Timestamp::now()),
            None => Ok(()),
        }
    }

    /// Makes one request to `model` on the call's behalf, and charges its receipt to the call.
    pub(super) async fn request<'a, T, F>(
        &'a self,
        model: &str,
        request: impl FnOnce(&'a Inference, Caller) -> F,
    ) -> Result<T, ModelError>
    where
        T: ModelResponse,
        F: Future<Output = Result<T, InferenceError>>,
    {
        self.check_model(model)?;
        self.check_tokens()?;
        let (_waiting, following) = self.await_model();
        let caller =
            Caller { tenant: self.function.app().into(), priority: self.priority, deadline: self.deadline, following };
        let response = request(&self.services.inference, caller);
        let response = self.boundary.cross_async(Import::Inference, response).await?;
        if let Some(receipt) = response.receipt() {
            self.add_inference(receipt);
            if self.function.limits.tokens_per_day_max.is_some() {
                self.services.tokens.add(&self.function.id(), receipt.tokens, Timestamp::now());
            }
        }
        Ok(response)
    }
}
