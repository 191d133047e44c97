//! Reranking of documents by their relevance to a query, `POST /v1/rerank`.
//!
//! A relevance score is the sigmoid of the model's logit: between 0 and 1, near 1 for an answer and near 0 for none.
//! The order is that of the logits, which tell more scores apart.

use http::Request;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, EndpointResult, INPUTS_MAX, Usage, respond, set_inference_receipt};
use super::error::ApiError;
use crate::inference::{Overflow, sigmoid};

#[derive(Deserialize)]
pub(super) struct Parameters {
    model: String,
    query: String,
    pub(super) documents: Vec<Document>,
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: Option<bool>,
    /// Extension: false refuses texts that are too long; else they are truncated, as such services do.
    truncate: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or an object with a `text`")]
pub(super) enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Serialize)]
struct RerankResponse {
    model: String,
    results: Vec<RerankResult>,
    usage: Usage,
}

#[derive(Debug, PartialEq, Serialize)]
struct RerankResult {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Text {
    text: String,
}

/// Answers a request.
pub(crate) async fn create(endpoint: &Endpoint, request: Request<Incoming>) -> EndpointResult {
    let (parsed, caller, _body): (Parameters, _, _) = endpoint.read(request).await?;
    let count = parsed.documents.len();
    if !(1..=INPUTS_MAX).contains(&count) {
        let message = format!("`documents` has {count} texts; one request takes 1 to {INPUTS_MAX}");
        return Err(ApiError::invalid(message, Some("documents")));
    }
    if parsed.top_n == Some(0) {
        return Err(ApiError::invalid("`top_n` is at least 1", Some("top_n")));
    }
    let documents: Vec<String> = parsed.documents.into_iter().map(Document::into_text).collect();
    let returned = (parsed.return_documents == Some(true)).then(|| documents.clone());
    let overflow = if parsed.truncate == Some(false) { Overflow::Reject } else { Overflow::Truncate };
    let scored = endpoint.inference.rerank(&parsed.model, parsed.query, documents, overflow, &caller).await;
    let scored = scored.map_err(|error| ApiError::of_model(error, "documents"))?;

    let usage = Usage::from(&scored.receipt);
    let about_bytes = 64 * count + returned.iter().flatten().map(String::len).sum::<usize>();
    let results = ranked(&scored.scores, parsed.top_n.unwrap_or(count), returned);
    let mut response = respond(RerankResponse { model: parsed.model, results, usage }, about_bytes).await;
    set_inference_receipt(&mut response, scored.receipt);
    Ok(response)
}

impl Document {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

/// Returns the best results, best first; equal scores keep the order of the documents.
fn ranked(scores: &[f32], top: usize, mut documents: Option<Vec<String>>) -> Vec<RerankResult> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(top);
    let result = |index: usize| RerankResult {
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
        let best = RerankResult { index: 1, relevance_score: 0.5, document: Some(Text { text: "b".to_owned() }) };
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
