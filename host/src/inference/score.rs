//! Scores: the relevance of texts to a question, and the labels of a text.
//!
//! Not here: vectors and tensors (`inference`), the form of a score for clients (`http`, `cli`).

use super::error::InferenceError;
use super::request::{Caller, Inputs};
use super::service::{Inference, ROW_BYTES};
use super::worker_pool::{OutputKind, Work};
use crate::call::InferenceReceipt;
use crate::tokenizer::Overflow;
use crate::wire::{ModelId, Signature};

/// The relevance of each text to the question, and the cost.
#[derive(Debug)]
pub(crate) struct RelevanceScores {
    /// Raw scores of the model, in no range: higher is better. Models are trained so that their sigmoid is near 0 or 1.
    pub scores: Vec<f32>,
    pub receipt: InferenceReceipt,
}

/// A score of each label for each text, and the cost.
#[derive(Debug)]
pub(crate) struct LabelScores {
    pub labels: Vec<String>,
    /// Those of the first text, then those of the second. Of a text they add up to 1, unless it may have several
    /// labels, or the model knows one alone: then each is by itself between 0 and 1.
    pub scores: Vec<f32>,
    pub receipt: InferenceReceipt,
}

impl Inference {
    /// Scores each text by its relevance to a question. Dropping the future takes the request out of the queue.
    pub(crate) async fn rerank(
        &self,
        name: &str,
        query: String,
        documents: Vec<String>,
        overflow: Overflow,
        caller: &Caller,
    ) -> Result<RelevanceScores, InferenceError> {
        self.check_rows(documents.len())?;
        self.within(caller, async {
            let model = self.model(name).await?;
            let labels = self.labels(name, model.id, caller).await?;
            if labels != 1 {
                let reason = format!("`{name}` is a classifier with {labels} labels; use `classify`, or a reranker");
                return Err(InferenceError::BadInput { reason });
            }
            if documents.is_empty() {
                return Ok(RelevanceScores { scores: Vec::new(), receipt: InferenceReceipt::default() });
            }
            self.workers.check_room(model.id, documents.len())?;
            // The question is copied for each text.
            let rows = documents.len() * (ROW_BYTES + query.len().min(ROW_BYTES * 64));
            let bytes = rows + documents.iter().map(String::len).sum::<usize>();
            let encoding = model.clone();
            let work =
                self.encode(bytes, move || encoding.encoding().encode_pairs(&query, &documents, overflow)).await?;
            let (_, scores, receipt) = self.workers.rows(model.id, work, OutputKind::Scores, caller).await?;
            Ok(RelevanceScores { scores, receipt })
        })
        .await
    }

    /// Scores each label for each text. Dropping the future takes the request out of the queue.
    pub(crate) async fn classify(
        &self,
        name: &str,
        inputs: Inputs,
        overflow: Overflow,
        caller: &Caller,
    ) -> Result<LabelScores, InferenceError> {
        self.check_rows(inputs.len())?;
        self.within(caller, async {
            let model = self.model(name).await?;
            let count = self.labels(name, model.id, caller).await?;
            let labels = model.labels().names(count);
            if inputs.is_empty() {
                return Ok(LabelScores { labels, scores: Vec::new(), receipt: InferenceReceipt::default() });
            }
            self.workers.check_room(model.id, inputs.len())?;
            let (ids, cu_seqlens) = self.tokenize(&model, inputs, overflow).await?;
            let work = Work::Rows { ids, cu_seqlens, first_segments: Vec::new() };
            let (_, mut scores, receipt) = self.workers.rows(model.id, work, OutputKind::Scores, caller).await?;
            if count == 1 || model.labels().several {
                scores.iter_mut().for_each(|score| *score = sigmoid(*score));
            } else {
                scores.chunks_mut(count).for_each(softmax);
            }
            Ok(LabelScores { labels, scores, receipt })
        })
        .await
    }

    /// Returns the number of labels that a model scores; refuses a model of another kind before anything is tokenised
    /// for it.
    async fn labels(&self, name: &str, id: ModelId, caller: &Caller) -> Result<usize, InferenceError> {
        let (is, instead) = match self.workers.signature(id, caller).await? {
            Signature::Scores { labels } => return Ok(labels as usize),
            Signature::Vector { .. } => ("an embedding model, which gives vectors", "`embed`"),
            Signature::Tensors { .. } => ("a model of named tensors", "`infer`"),
        };
        let reason = format!("`{name}` is {is} and no scores; use {instead}, or another model");
        Err(InferenceError::BadInput { reason })
    }
}

/// Maps a score between 0 and 1; 0 becomes a half.
pub(crate) fn sigmoid(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}

/// Maps scores between 0 and 1, so that they add up to 1.
fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - highest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_such_for_any_score() {
        for scores in [&[0.0, 0.0][..], &[1e30, -1e30, 3.0], &[-500.0, -501.0], &[7.0]] {
            let mut scores = scores.to_vec();
            softmax(&mut scores);
            assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{scores:?}");
        }
        let mut scores = [1.0, 3.0];
        softmax(&mut scores);
        assert!((scores[1] - 0.880_797).abs() < 1e-6, "{scores:?}");
        assert_eq!((sigmoid(0.0), sigmoid(-1e30), sigmoid(1e30)), (0.5, 0.0, 1.0));
    }
}
