//! `bireme:host/inference`: requests to the native workers.

use crate::inference::{InferenceError, Inputs, Overflow};
use crate::sandbox::bindings::inference;
use crate::sandbox::model_access::ModelError;
use crate::sandbox::state::CallState;
use crate::wire::{Datatype, Tensor};

type HostResult<T> = wasmtime::Result<Result<T, inference::InferenceError>>;

impl inference::Host for CallState {
    async fn embed(
        &mut self,
        model: String,
        texts: Vec<String>,
        overflow: inference::Overflow,
    ) -> HostResult<inference::Embeddings> {
        let name = &model;
        let answer = self.call.request(name, async |inference, caller| {
            inference.embed(name, Inputs::Texts(texts), overflow.into(), &caller).await
        });
        let embeddings = answer
            .await
            .map(|embedded| inference::Embeddings { dimension: embedded.dimension, values: embedded.values });
        Ok(embeddings.map_err(error))
    }

    async fn rerank(
        &mut self,
        model: String,
        query: String,
        documents: Vec<String>,
        overflow: inference::Overflow,
    ) -> HostResult<Vec<f32>> {
        let name = &model;
        let answer = self.call.request(name, async |inference, caller| {
            inference.rerank(name, query, documents, overflow.into(), &caller).await
        });
        Ok(answer.await.map(|scored| scored.scores).map_err(error))
    }

    async fn classify(
        &mut self,
        model: String,
        texts: Vec<String>,
        overflow: inference::Overflow,
    ) -> HostResult<inference::Classes> {
        let name = &model;
        let answer = self.call.request(name, async |inference, caller| {
            inference.classify(name, Inputs::Texts(texts), overflow.into(), &caller).await
        });
        let classes =
            answer.await.map(|classified| inference::Classes { labels: classified.labels, scores: classified.scores });
        Ok(classes.map_err(error))
    }

    async fn infer(&mut self, model: String, inputs: Vec<inference::Tensor>) -> HostResult<Vec<inference::Tensor>> {
        let name = &model;
        let tensors = inputs.into_iter().map(Into::into).collect();
        let answer = self.call.request(name, async |inference, caller| inference.infer(name, tensors, &caller).await);
        let outputs = answer.await.map(|inferred| inferred.tensors.into_iter().map(Into::into).collect());
        Ok(outputs.map_err(error))
    }
}

fn error(refused: ModelError) -> inference::InferenceError {
    use inference::InferenceError as E;
    match refused {
        ModelError::NotDeclared { model, .. } | ModelError::NotGranted { model, .. } => E::NotDeclared(model),
        ModelError::Budget(error) => E::BudgetExceeded(error.to_string()),
        ModelError::Inference(error) => match error {
            InferenceError::UnknownModel { model } => E::UnknownModel(model),
            InferenceError::BadInput { reason } => E::BadInput(reason),
            InferenceError::TooLong { .. } => E::BadInput(error.to_string()),
            InferenceError::Overloaded { model, .. } => E::Overloaded(model),
            InferenceError::Deadline => E::Deadline,
            InferenceError::DeviceLost { model, .. } => E::DeviceLost(model),
            InferenceError::Unavailable { .. } => E::Unavailable(error.public_message()),
        },
    }
}

impl From<inference::Overflow> for Overflow {
    fn from(overflow: inference::Overflow) -> Self {
        match overflow {
            inference::Overflow::Truncate => Self::Truncate,
            inference::Overflow::Reject => Self::Reject,
        }
    }
}

impl From<inference::Tensor> for Tensor {
    /// Unchecked: `Inference` checks every tensor that it gets.
    fn from(tensor: inference::Tensor) -> Self {
        let (datatype, data) = (tensor.datatype.into(), tensor.data.into());
        Self { name: tensor.name, datatype, shape: tensor.shape, data }
    }
}

impl From<Tensor> for inference::Tensor {
    fn from(tensor: Tensor) -> Self {
        let (datatype, data) = (tensor.datatype.into(), tensor.data.into());
        Self { name: tensor.name, datatype, shape: tensor.shape, data }
    }
}

/// Conversions in both directions, one name for each type.
macro_rules! datatypes {
    ($($datatype:ident)*) => {
        impl From<inference::Datatype> for Datatype {
            fn from(datatype: inference::Datatype) -> Self {
                match datatype { $(inference::Datatype::$datatype => Self::$datatype,)* }
            }
        }

        impl From<Datatype> for inference::Datatype {
            fn from(datatype: Datatype) -> Self {
                match datatype { $(Datatype::$datatype => Self::$datatype,)* }
            }
        }
    };
}

datatypes! { Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 Bytes }
