//! `POST /v1/rerank`: texts in the order of how well they answer a question.
//!
//! A relevance score is the sigmoid of what the model gives: between 0 and 1, where training makes it near 1 for an answer
//! and near 0 for none. The order is that of what the model gives, which tells more scores apart.

use http::Request;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::{Answer, INPUTS_MAX, OpenAi, Usage, json, stamp, usage};
use crate::inference::{Overflow, sigmoid};

#[derive(Deserialize)]
struct Asked {
    model: String,
    query: String,
    documents: Vec<Document>,
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: Option<bool>,
    /// An extension: false refuses what is too long; else its end is left out, as such services do.
    truncate: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or an object with a `text`")]
enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Serialize)]
struct Reranked {
    model: String,
    results: Vec<Ranked>,
    usage: Usage,
}

#[derive(Debug, PartialEq, Serialize)]
struct Ranked {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Text {
    text: String,
}

impl OpenAi {
    pub(super) async fn rerank(&self, request: Request<Incoming>) -> Answer {
        let (asked, caller, _held): (Asked, _, _) = self.read(request).await?;
        let count = asked.documents.len();
        if !(1..=INPUTS_MAX).contains(&count) {
            let message = format!("`documents` has {count} texts; one request takes 1 to {INPUTS_MAX}");
            return Err(ApiError::invalid(message, Some("documents")));
        }
        if asked.top_n == Some(0) {
            return Err(ApiError::invalid("`top_n` is at least 1", Some("top_n")));
        }
        let documents: Vec<String> = asked.documents.into_iter().map(Document::into_text).collect();
        let kept = (asked.return_documents == Some(true)).then(|| documents.clone());
        let overflow = if asked.truncate == Some(false) { Overflow::Reject } else { Overflow::Truncate };
        let scored = self.inference.rerank(&asked.model, asked.query, documents, overflow, &caller).await;
        let scored = scored.map_err(|error| ApiError::of_model(error, "documents"))?;

        let usage = usage(&scored.receipt);
        let about_bytes = 64 * count + kept.iter().flatten().map(String::len).sum::<usize>();
        let results = ranked(&scored.scores, asked.top_n.unwrap_or(count), kept);
        let mut response = json(Reranked { model: asked.model, results, usage }, about_bytes).await;
        stamp(&mut response, scored.receipt);
        Ok(response)
    }
}

impl Document {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

/// Returns the best, the best first; of equals the first that was given.
fn ranked(scores: &[f32], top: usize, mut documents: Option<Vec<String>>) -> Vec<Ranked> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(top);
    let result = |index: usize| Ranked {
        index,
        relevance_score: sigmoid(scores[index]),
        document: documents.as_mut().map(|documents| Text { text: std::mem::take(&mut documents[index]) }),
    };
    order.into_iter().map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_comes_first_and_equals_stay_in_order() {
        let order = |top| ranked(&[0.0, 2.0, -1.0, 2.0], top, None).iter().map(|r| r.index).collect::<Vec<_>>();
        assert_eq!(order(9), [1, 3, 0, 2]);
        assert_eq!(order(1), [1]);
        let texts = Some(vec!["a".to_owned(), "b".to_owned()]);
        let best = Ranked { index: 1, relevance_score: 0.5, document: Some(Text { text: "b".to_owned() }) };
        assert_eq!(ranked(&[-1.0, 0.0], 1, texts), [best]);
    }

    #[test]
    fn a_document_is_a_text_or_has_one() {
        let read = |json| serde_json::from_str::<Document>(json).map(Document::into_text).map_err(|e| e.to_string());
        assert_eq!(read(r#""a""#), Ok("a".to_owned()));
        assert_eq!(read(r#"{"text": "a", "title": "t"}"#), Ok("a".to_owned()));
        assert!(read("7").unwrap_err().contains("a text or an object with a `text`"));
    }
}
