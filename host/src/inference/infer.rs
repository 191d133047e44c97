//! Inference over named tensors: on models that take them, and on encoders by the conversion of `tensors`.

use super::encoding::Encoding;
use super::error::InferenceError;
use super::models::Model;
use super::request::{Caller, Inputs};
use super::service::{Inference, TensorOutputs};
use super::tensors::{self, EncoderRequest};
use super::worker_pool::{Output, OutputKind, Work};
use crate::tokenizer::Overflow;
use crate::wire::{BODY_BYTES_MAX, TENSORS_MAX, Tensor};

/// Bytes of the tensors of one request: a frame holds it, with some room for its names.
const REQUEST_BYTES_MAX: usize = (BODY_BYTES_MAX / 2) as usize;

impl Inference {
    /// Runs a model over named tensors. Dropping the future takes the request out of the queue.
    pub(crate) async fn infer(
        &self,
        name: &str,
        tensors: Vec<Tensor>,
        caller: &Caller,
    ) -> Result<TensorOutputs, InferenceError> {
        if tensors.len() > TENSORS_MAX {
            let reason = format!("{} tensors in one request, over the limit of {TENSORS_MAX}", tensors.len());
            return Err(InferenceError::BadInput { reason });
        }
        let bytes: usize = tensors.iter().map(Tensor::bytes).sum();
        if bytes > REQUEST_BYTES_MAX {
            let reason = format!("{bytes} bytes of tensors in one request, over the limit of {REQUEST_BYTES_MAX}");
            return Err(InferenceError::BadInput { reason });
        }
        for tensor in &tensors {
            tensor.check().map_err(bad_input)?;
        }
        self.within(caller, async {
            let model = self.model(name).await?;
            match model.encoding() {
                Encoding::Tokens(_) | Encoding::Length => self.infer_rows(&model, &tensors, caller).await,
                Encoding::None => self.infer_tensors(&model, tensors, caller).await,
            }
        })
        .await
    }

    async fn infer_rows(
        &self,
        model: &std::sync::Arc<Model>,
        tensors: &[Tensor],
        caller: &Caller,
    ) -> Result<TensorOutputs, InferenceError> {
        let (ids, cu_seqlens, first_segments) = match tensors::encoder_inputs(tensors).map_err(bad_input)? {
            EncoderRequest::Texts(texts) => {
                self.check_rows(texts.len())?;
                let (ids, cu_seqlens) = self.tokenize(model, Inputs::Texts(texts), Overflow::Truncate).await?;
                (ids, cu_seqlens, Vec::new())
            }
            EncoderRequest::Rows { ids, cu_seqlens, first_segments } => {
                self.check_rows(cu_seqlens.len() - 1)?;
                if let Encoding::Tokens(tokenizer) = model.encoding() {
                    for (row, ends) in cu_seqlens.windows(2).enumerate() {
                        let row_of = &ids[ends[0] as usize..ends[1] as usize];
                        tokenizer
                            .check_row(row_of)
                            .map_err(|error| InferenceError::BadInput { reason: format!("row {row}: {error}") })?;
                    }
                }
                (ids, cu_seqlens, first_segments)
            }
        };
        let rows = cu_seqlens.len() - 1;
        let signature = self.workers.signature(model.id, caller).await?;
        if rows == 0 {
            let tensors = tensors::encoder_outputs(&signature, 0, Vec::new());
            return Ok(TensorOutputs { tensors, receipt: Default::default() });
        }
        let work = Work::Rows { ids, cu_seqlens, first_segments };
        let (_, values, receipt) = self.workers.rows(model.id, work, OutputKind::Anything, caller).await?;
        Ok(TensorOutputs { tensors: tensors::encoder_outputs(&signature, rows, values), receipt })
    }

    async fn infer_tensors(
        &self,
        model: &Model,
        tensors: Vec<Tensor>,
        caller: &Caller,
    ) -> Result<TensorOutputs, InferenceError> {
        match self.workers.run(model.id, Work::Tensors(tensors), OutputKind::Tensors, caller).await? {
            (Output::Tensors(tensors), receipt) => Ok(TensorOutputs { tensors, receipt }),
            // Its files were replaced by those of a model of another kind.
            (Output::Rows { .. }, _) => {
                Err(InferenceError::BadInput { reason: "the model takes texts now; try again".to_owned() })
            }
        }
    }
}

fn bad_input(error: impl std::fmt::Display) -> InferenceError {
    InferenceError::BadInput { reason: error.to_string() }
}
