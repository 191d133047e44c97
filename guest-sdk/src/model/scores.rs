//! Results of rerankers and classifiers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One document of a ranking.
///
/// ```
/// use bireme_sdk::{model::model, testing};
///
/// let _model = testing::with_reranker("letters", |query, document| document.matches(query).count() as f32);
/// let ranked = model("letters").rank("a", &["oar", "banana"])?;
/// assert_eq!((ranked[0].index, ranked[0].score), (1, 3.0));
/// # Ok::<(), bireme_sdk::model::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranked {
    /// Position among the given documents, from 0.
    pub index: usize,
    /// Relevance to the query, on the scale of the model; higher is better.
    pub score: f32,
}

/// Result of a classifier: the same labels for all texts, and each text's scores.
///
/// ```
/// use bireme_sdk::Classes;
///
/// let classes = Classes { labels: vec!["calm".to_owned(), "storm".to_owned()], scores: vec![0.9, 0.1, 0.2, 0.8] };
/// assert_eq!(classes.get(1), Some([0.2, 0.8].as_slice()));
/// assert_eq!(classes.best().collect::<Vec<_>>(), [("calm", 0.9), ("storm", 0.8)]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Classes {
    /// The model's labels, in its own order.
    pub labels: Vec<String>,
    /// Scores of all texts; those of text `i` start at `i * labels.len()`.
    pub scores: Vec<f32>,
}

impl Classes {
    /// Returns the number of texts.
    pub fn len(&self) -> usize {
        self.scores.len().checked_div(self.labels.len()).unwrap_or(0)
    }

    /// Returns true if there are no texts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the scores of one text, one for each label.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        self.iter().nth(index)
    }

    /// Returns the scores in the order of the texts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.scores.chunks_exact(self.labels.len().max(1))
    }

    /// Returns each text's likeliest label with its score.
    pub fn best(&self) -> impl Iterator<Item = (&str, f32)> {
        self.iter().filter_map(|scores| {
            let best = scores.iter().zip(&self.labels).max_by(|(one, _), (other, _)| one.total_cmp(other));
            best.map(|(score, label)| (label.as_str(), *score))
        })
    }
}
