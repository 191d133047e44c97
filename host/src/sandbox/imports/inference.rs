//! `bireme:host/inference`: requests to the native workers.

use crate::inference::{Caller, InferenceError, Inputs, Overflow};
use crate::sandbox::bindings::inference;
use crate::sandbox::boundary::Import;
use crate::sandbox::state::CallState;

impl inference::Host for CallState {
    async fn embed(
        &mut self,
        model: String,
        texts: Vec<String>,
    ) -> wasmtime::Result<Result<inference::Embeddings, inference::InferenceError>> {
        let call = &self.call;
        if !call.spec().models.contains(&model) {
            return Ok(Err(inference::InferenceError::NotDeclared(model)));
        }
        let (_asking, following) = call.ask();
        let caller = Caller {
            tenant: call.program.name().into(),
            priority: call.priority(),
            deadline: call.deadline,
            following,
        };
        let request = call.services.inference.embed(&model, Inputs::Texts(texts), Overflow::Truncate, &caller);
        match call.boundary.cross_async(Import::Inference, request).await {
            Ok(embedded) => {
                call.add_inference(&embedded.receipt);
                Ok(Ok(inference::Embeddings { dimension: embedded.dimension, values: embedded.values }))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl From<InferenceError> for inference::InferenceError {
    fn from(error: InferenceError) -> Self {
        match error {
            InferenceError::UnknownModel { model } => Self::UnknownModel(model),
            InferenceError::BadInput { reason } => Self::BadInput(reason),
            too_long @ InferenceError::TooLong { .. } => Self::BadInput(too_long.to_string()),
            InferenceError::Overloaded { model, .. } => Self::Overloaded(model),
            InferenceError::Deadline => Self::Deadline,
            InferenceError::DeviceLost { model, .. } => Self::DeviceLost(model),
            InferenceError::Unavailable { model, reason } => {
                // The reason may name files; where the host keeps them is the operator's to know.
                tracing::error!(model, reason, "a model cannot be served");
                Self::Unavailable(format!("model `{model}` cannot be served; the host's log says why"))
            }
        }
    }
}
