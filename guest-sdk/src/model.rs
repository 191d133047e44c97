//! Inference on the host's native workers.
//!
//! Requests of many calls meet in the host's batcher, so one call may send few texts at a time and the device still runs full
//! batches. The function must list the model: `#[function(models = ["all-minilm-l6-v2"])]`.

mod vector;

pub use self::vector::{Embeddings, Vector};

use crate::failure::Result;
use crate::host;

/// Why a model gave no answer.
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
    Unknown { model: String },
    /// The function does not list the model.
    #[error("this function does not declare model `{model}`; add `models = [\"{model}\"]` to its `#[function]`")]
    NotDeclared { model: String },
    /// The input does not fit the model.
    #[error("model `{model}` cannot take the input: {reason}")]
    BadInput { model: String, reason: String },
    /// The model's queue is full.
    #[error("the queue of model `{model}` is full; try again later")]
    Overloaded { model: String },
    /// The call's deadline passed before the batch ran.
    #[error("the deadline passed before model `{model}` ran")]
    Deadline { model: String },
    /// The worker died twice with this request in its batch.
    #[error("the worker of model `{model}` died twice on this request")]
    DeviceLost { model: String },
    /// The host could not start or feed the worker.
    #[error("the worker of model `{model}` is not available: {reason}")]
    Unavailable { model: String, reason: String },
    /// A native test used a model without a fake.
    #[error(
        "there is no host in a native test, so no model `{model}`; give one with `bireme_sdk::testing::with_model`"
    )]
    NoFake { model: String },
}

impl Error {
    /// Whether it stays the same however often it is tried.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::NotDeclared { .. } | Self::BadInput { .. } | Self::NoFake { .. })
    }
}

/// A model of the host, by name.
///
/// ```
/// use bireme_sdk::{model::model, testing};
///
/// let _model = testing::with_model("letters", 1, |text| vec![text.len() as f32]);
/// let letters = model("letters");
/// assert_eq!((letters.name(), letters.embed(&["oar"])?[0].dot(&[2.0])), ("letters", 6.0));
/// # Ok::<(), bireme_sdk::model::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Model {
    name: String,
}

/// Names a model. Nothing is loaded or checked before it is used.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function(models = ["all-minilm-l6-v2"])]
/// fn embed(texts: Vec<String>) -> Result<Vec<Vector>> {
///     Ok(model("all-minilm-l6-v2").embed(&texts)?)
/// }
///
/// fn main() -> Result<()> {
///     let _model = bireme_sdk::testing::with_model("all-minilm-l6-v2", 2, |text| vec![text.len() as f32, 1.0]);
///     let vectors = embed(vec!["abc".to_owned()])?;
///     assert_eq!(vectors[0].dot(&vectors[0]), 10.0);
///     Ok(())
/// }
/// ```
pub fn model(name: impl Into<String>) -> Model {
    Model { name: name.into() }
}

impl Model {
    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Embeds each text. Longer texts are truncated to the model's maximum number of tokens.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vector>, Error> {
        Ok(self.embed_flat(texts)?.iter().map(|values| Vector::from(values.to_vec())).collect())
    }

    /// Embeds each text into one flat list, without an allocation for each vector.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn embed_flat<S: AsRef<str>>(&self, texts: &[S]) -> Result<Embeddings, Error> {
        if texts.is_empty() {
            return Ok(Embeddings { dimension: 0, values: Vec::new() });
        }
        let texts: Vec<String> = texts.iter().map(|text| text.as_ref().to_owned()).collect();
        let (dimension, values) = host::embed(&self.name, &texts)?;
        if dimension == 0 || dimension.checked_mul(texts.len()) != Some(values.len()) {
            let reason =
                format!("{} values of dimension {dimension} came back for {} texts", values.len(), texts.len());
            return Err(Error::Unavailable { model: self.name.clone(), reason });
        }
        Ok(Embeddings { dimension, values })
    }
}
