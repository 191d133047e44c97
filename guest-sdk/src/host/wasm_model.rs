//! Requests to models, converted to the SDK's types.

use super::wasm::bindings::bireme::host::inference as wit;
use crate::model::{Datatype, Error, Tensor};

pub(crate) fn embed(model: &str, texts: &[String], truncates: bool) -> Result<(usize, Vec<f32>), Error> {
    let embeddings = wit::embed(model, texts, overflow(truncates)).map_err(|refused| error(model, refused))?;
    Ok((embeddings.dimension as usize, embeddings.values))
}

pub(crate) fn rerank(model: &str, query: &str, documents: &[String], truncates: bool) -> Result<Vec<f32>, Error> {
    wit::rerank(model, query, documents, overflow(truncates)).map_err(|refused| error(model, refused))
}

pub(crate) fn classify(model: &str, texts: &[String], truncates: bool) -> Result<(Vec<String>, Vec<f32>), Error> {
    let classes = wit::classify(model, texts, overflow(truncates)).map_err(|refused| error(model, refused))?;
    Ok((classes.labels, classes.scores))
}

pub(crate) fn infer(model: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let inputs: Vec<wit::Tensor> = inputs.iter().cloned().map(Into::into).collect();
    let outputs = wit::infer(model, &inputs).map_err(|refused| error(model, refused))?;
    // Checks the host's own output, so that every `Tensor` is valid.
    let whole =
        |tensor: wit::Tensor| Tensor::from_bytes(tensor.name, tensor.datatype.into(), tensor.shape, tensor.data);
    Ok(outputs.into_iter().map(whole).collect::<Result<_, _>>()?)
}

fn overflow(truncates: bool) -> wit::Overflow {
    if truncates { wit::Overflow::Truncate } else { wit::Overflow::Reject }
}

fn error(model: &str, error: wit::InferenceError) -> Error {
    use wit::InferenceError as E;
    let model = model.to_owned();
    match error {
        E::UnknownModel(model) => Error::Unknown { model },
        E::NotDeclared(model) => Error::NotDeclared { model },
        E::BadInput(reason) => Error::BadInput { model, reason },
        E::Overloaded(model) => Error::Overloaded { model },
        E::Deadline => Error::Deadline { model },
        E::DeviceLost(model) => Error::DeviceLost { model },
        E::BudgetExceeded(reason) => Error::BudgetExceeded { model, reason },
        E::Unavailable(reason) => Error::Unavailable { model, reason },
    }
}

impl From<Tensor> for wit::Tensor {
    fn from(tensor: Tensor) -> Self {
        let (name, datatype, shape, data) = tensor.into_parts();
        Self { name, datatype: datatype.into(), shape, data }
    }
}

/// Conversions in both directions, one name for each type.
macro_rules! datatypes {
    ($($datatype:ident)*) => {
        impl From<wit::Datatype> for Datatype {
            fn from(datatype: wit::Datatype) -> Self {
                match datatype { $(wit::Datatype::$datatype => Self::$datatype,)* }
            }
        }

        impl From<Datatype> for wit::Datatype {
            fn from(datatype: Datatype) -> Self {
                match datatype { $(Datatype::$datatype => Self::$datatype,)* }
            }
        }
    };
}

datatypes! { Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 Bytes }
