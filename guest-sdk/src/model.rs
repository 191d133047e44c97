//! Inference on the host's native workers.
//!
//! The host batches requests of many calls, so one call may send few texts at a time and the device still runs full
//! batches. The function must list the model: `#[function(models = ["all-minilm-l6-v2"])]`.

mod error;
mod scores;
mod tensor;
mod vector;

pub use self::error::Error;
pub use self::scores::{Classes, Ranked};
pub use self::tensor::{Datatype, Element, Tensor, TensorError, Tensors};
pub use self::vector::{Embeddings, Vector};

use crate::host;

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
    truncates: bool,
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
    Model { name: name.into(), truncates: true }
}

impl Model {
    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cuts texts longer than the limit of the model to its maximum number of tokens (the default), or refuses them
    /// with [`Error::BadInput`].
    ///
    /// ```
    /// use bireme_sdk::model::model;
    ///
    /// let whole_texts_only = model("all-minilm-l6-v2").truncate(false);
    /// # assert_eq!(whole_texts_only.name(), "all-minilm-l6-v2");
    /// ```
    #[must_use]
    pub fn truncate(mut self, truncate: bool) -> Self {
        self.truncates = truncate;
        self
    }

    /// Embeds each text.
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
        let (dimension, values) = host::embed(&self.name, &owned(texts), self.truncates)?;
        if dimension == 0 || dimension.checked_mul(texts.len()) != Some(values.len()) {
            return Err(self.misfit(format!(
                "{} values of dimension {dimension} came back for {} texts",
                values.len(),
                texts.len()
            )));
        }
        Ok(Embeddings { dimension, values })
    }

    /// Scores each document for the query, in their order: higher is better. The scores are the model's own and compare
    /// only with each other; [`rank`](Self::rank) sorts by them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn rerank<S: AsRef<str>>(&self, query: &str, documents: &[S]) -> Result<Vec<f32>, Error> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let scores = host::rerank(&self.name, query, &owned(documents), self.truncates)?;
        if scores.len() != documents.len() {
            return Err(self.misfit(format!("{} scores came back for {} documents", scores.len(), documents.len())));
        }
        Ok(scores)
    }

    /// Sorts the documents by relevance to the query, best first; ties keep their order.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn rank<S: AsRef<str>>(&self, query: &str, documents: &[S]) -> Result<Vec<Ranked>, Error> {
        let scores = self.rerank(query, documents)?.into_iter().enumerate();
        let mut ranked: Vec<Ranked> = scores.map(|(index, score)| Ranked { index, score }).collect();
        ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
        Ok(ranked)
    }

    /// Classifies each text.
    ///
    /// ```
    /// use bireme_sdk::{model::model, testing};
    ///
    /// let _model = testing::with_classifier("weather", &["calm", "storm"], |text| {
    ///     if text.contains("wind") { vec![0.1, 0.9] } else { vec![1.0, 0.0] }
    /// });
    /// let classes = model("weather").classify(&["wind from the north"])?;
    /// assert_eq!(classes.best().next(), Some(("storm", 0.9)));
    /// # Ok::<(), bireme_sdk::model::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub fn classify<S: AsRef<str>>(&self, texts: &[S]) -> Result<Classes, Error> {
        if texts.is_empty() {
            return Ok(Classes { labels: Vec::new(), scores: Vec::new() });
        }
        let (labels, scores) = host::classify(&self.name, &owned(texts), self.truncates)?;
        if labels.is_empty() || labels.len().checked_mul(texts.len()) != Some(scores.len()) {
            return Err(self.misfit(format!(
                "{} scores of {} labels came back for {} texts",
                scores.len(),
                labels.len(),
                texts.len()
            )));
        }
        Ok(Classes { labels, scores })
    }

    /// Runs the model over named tensors.
    ///
    /// ```
    /// use bireme_sdk::model::{Tensor, model};
    /// use bireme_sdk::testing;
    ///
    /// let _model = testing::with_infer("doubler", |inputs| {
    ///     let values: Vec<f32> = inputs[0].values::<f32>()?.iter().map(|value| value * 2.0).collect();
    ///     Ok(vec![Tensor::new("y", &[values.len()], &values)?])
    /// });
    /// let outputs = model("doubler").infer(&[Tensor::new("x", &[2], &[1.0f32, 2.0])?])?;
    /// assert_eq!(outputs.get("y")?.values::<f32>()?, [2.0, 4.0]);
    /// # Ok::<(), bireme_sdk::model::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub fn infer(&self, inputs: &[Tensor]) -> Result<Tensors, Error> {
        host::infer(&self.name, inputs).map(Tensors::from)
    }

    /// A response that does not match its request: the host is at fault.
    fn misfit(&self, reason: String) -> Error {
        Error::Unavailable { model: self.name.clone(), reason }
    }
}

fn owned<S: AsRef<str>>(texts: &[S]) -> Vec<String> {
    texts.iter().map(|text| text.as_ref().to_owned()).collect()
}
