//! Scores: how well texts answer a question, and which labels a text has.
//!
//! Not here: vectors and tensors (`inference`), how a score looks to a client (`http`, `cli`).

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::catalogue::{CatalogueError, read_json};
use super::worker_pool::{OutputKind, Work};
use super::{Caller, Encoding, Inference, InferenceError, Inputs, Overflow, ROW_BYTES, append, misfit};
use crate::call::InferenceReceipt;
use crate::wire::{ModelId, Signature};

/// For each text how well it answers the question, and what that cost.
#[derive(Debug)]
pub struct Scored {
    /// As the model gives them, in no range: higher is better. Their sigmoid is what such models are trained to make 0 or 1.
    pub scores: Vec<f32>,
    pub receipt: InferenceReceipt,
}

/// For each text a score of each label, and what that cost.
#[derive(Debug)]
pub struct Classified {
    pub labels: Vec<String>,
    /// Those of the first text, then those of the second. Of a text they add up to 1, unless it may have several labels, or
    /// the model knows one alone: then each is by itself between 0 and 1.
    pub scores: Vec<f32>,
    pub receipt: InferenceReceipt,
}

impl Inference {
    /// Scores each text by how well it answers a question. Dropping the future takes the request out of the queue.
    pub async fn rerank(
        &self,
        name: &str,
        query: String,
        documents: Vec<String>,
        overflow: Overflow,
        caller: &Caller,
    ) -> Result<Scored, InferenceError> {
        self.check_rows(documents.len())?;
        self.within(caller, async {
            let model = self.model(name).await?;
            let labels = self.labels(name, model.id, caller).await?;
            if labels != 1 {
                let reason = format!("`{name}` is a classifier with {labels} labels; use `classify`, or a reranker");
                return Err(InferenceError::BadInput { reason });
            }
            if documents.is_empty() {
                return Ok(Scored { scores: Vec::new(), receipt: InferenceReceipt::default() });
            }
            self.workers.check_room(model.id, documents.len())?;
            // The question is copied for each.
            let rows = documents.len() * (ROW_BYTES + query.len().min(ROW_BYTES * 64));
            let bytes = rows + documents.iter().map(String::len).sum::<usize>();
            let encoding = model.clone();
            let work = self.encode(bytes, move || encoding.encoding.encode_pairs(&query, &documents, overflow)).await?;
            let (_, scores, receipt) = self.workers.rows(model.id, work, OutputKind::Scores, caller).await?;
            Ok(Scored { scores, receipt })
        })
        .await
    }

    /// Says how much each text is of each label. Dropping the future takes the request out of the queue.
    pub async fn classify(
        &self,
        name: &str,
        inputs: Inputs,
        overflow: Overflow,
        caller: &Caller,
    ) -> Result<Classified, InferenceError> {
        self.check_rows(inputs.len())?;
        self.within(caller, async {
            let model = self.model(name).await?;
            let count = self.labels(name, model.id, caller).await?;
            let labels = model.labels.names(count);
            if inputs.is_empty() {
                return Ok(Classified { labels, scores: Vec::new(), receipt: InferenceReceipt::default() });
            }
            self.workers.check_room(model.id, inputs.len())?;
            let (ids, cu_seqlens) = self.tokenize(&model, inputs, overflow).await?;
            let work = Work::Rows { ids, cu_seqlens, first_segments: Vec::new() };
            let (_, mut scores, receipt) = self.workers.rows(model.id, work, OutputKind::Scores, caller).await?;
            if count == 1 || model.labels.several {
                scores.iter_mut().for_each(|score| *score = sigmoid(*score));
            } else {
                scores.chunks_mut(count).for_each(softmax);
            }
            Ok(Classified { labels, scores, receipt })
        })
        .await
    }

    /// Returns how many labels a model scores, or what it is instead, before anything is tokenised for it.
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

impl Encoding {
    fn encode_pairs(&self, query: &str, documents: &[String], overflow: Overflow) -> Result<Work, InferenceError> {
        let Encoding::Tokens(tokenizer) = self else {
            return Err(InferenceError::BadInput { reason: "the model has no tokenizer".to_owned() });
        };
        let question = tokenizer.question(query).map_err(|error| misfit("the query".to_owned(), error))?;
        let (mut ids, mut cu_seqlens) = (Vec::new(), vec![0]);
        let mut first_segments = Vec::with_capacity(documents.len());
        for (i, document) in documents.iter().enumerate() {
            let encoded = question.encode(document, overflow);
            let (row, first) = encoded.map_err(|error| misfit(format!("document {i}"), error))?;
            append(&mut ids, &mut cu_seqlens, row)?;
            first_segments.push(first);
        }
        Ok(Work::Rows { ids, cu_seqlens, first_segments })
    }
}

/// What a model's `config.json` says of its labels. Models of another kind have something there too, which means nothing.
#[derive(Debug, Default)]
pub(super) struct Labels {
    names: HashMap<usize, String>,
    /// A text may have several of them.
    several: bool,
}

#[derive(Deserialize)]
struct Config {
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
    problem_type: Option<String>,
}

impl Labels {
    pub fn load(dir: &Path) -> Result<Self, CatalogueError> {
        let Config { id2label, problem_type } = read_json(&dir.join("config.json"))?;
        let name = |(index, name): (String, serde_json::Value)| {
            let name = match name {
                serde_json::Value::String(name) => name,
                other => other.to_string(),
            };
            Some((index.parse().ok()?, name))
        };
        let names = id2label.unwrap_or_default().into_iter().filter_map(name).collect();
        Ok(Self { names, several: problem_type.as_deref() == Some("multi_label_classification") })
    }

    /// Returns the names in order; one that the file does not name has the name that Transformers gives it.
    fn names(&self, count: usize) -> Vec<String> {
        (0..count).map(|i| self.names.get(&i).cloned().unwrap_or_else(|| format!("LABEL_{i}"))).collect()
    }
}

/// Maps a score between 0 and 1; 0 becomes a half.
pub fn sigmoid(score: f32) -> f32 {
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

    fn labels(config: &str) -> Labels {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Labels::load(dir.path()).unwrap()
    }

    #[test]
    fn labels_stand_in_the_order_of_their_numbers() {
        let labels = labels(r#"{ "id2label": { "10": "ten", "2": 7, "1": "one", "x": "no", "-1": "no" } }"#);
        assert_eq!(labels.names(3), ["LABEL_0", "one", "7"]);
        assert_eq!(labels.names(11)[10], "ten");
        assert!(!labels.several);
    }

    #[test]
    fn a_config_without_labels_has_those_of_transformers() {
        assert_eq!(labels("{}").names(2), ["LABEL_0", "LABEL_1"]);
        assert!(labels(r#"{ "problem_type": "multi_label_classification" }"#).several);
    }

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
