//! Models by OpenAI's API, `/v1`, and `rerank` as Jina, Cohere and vLLM have it.
//!
//! Not here: functions (`routes`), the Open Inference Protocol (`oip`), inference itself (`inference`).
//!
//! Unknown fields are ignored, as those clients expect. Errors have that API's shape (`error`). A client that
//! disconnects takes its request out of the queue.
//!
//! Limits: `INFERENCE_BODY_BYTES_MAX` for a body, `INPUTS_MAX` inputs, `INFERENCE_TIMEOUT` for a response, or less if
//! the client declares a shorter timeout.

mod embeddings;
mod endpoint;
mod error;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod models;
mod rerank;

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use self::endpoint::Endpoint;
use self::error::ApiError;
use super::request_body::RequestBodies;
use super::respond::ResponseBody;
use super::router::Matched;
use crate::api::Operation;
use crate::inference::Inference;

/// API over one host's models.
pub(crate) struct OpenAi(Endpoint);

impl OpenAi {
    pub(crate) fn new(inference: Arc<Inference>, bodies: Arc<RequestBodies>) -> Self {
        Self(Endpoint { inference, bodies })
    }

    /// Answers an operation of this API.
    pub(crate) async fn answer(&self, matched: &Matched, request: Request<Incoming>) -> Response<ResponseBody> {
        let endpoint = &self.0;
        let result = match matched.route.operation {
            Operation::CreateEmbeddings => embeddings::create(endpoint, request).await,
            Operation::Rerank => rerank::create(endpoint, request).await,
            Operation::GetModel => models::get_one(endpoint, matched.path("model")).await,
            _ => models::list(endpoint).await,
        };
        result.unwrap_or_else(ApiError::into_response)
    }

    /// Refuses a path that this API does not have.
    pub(crate) fn unknown_path(path: &str) -> Response<ResponseBody> {
        ApiError::path(path).into_response()
    }

    /// Refuses a method that a path does not take.
    pub(crate) fn method(method: &Method, allow: String) -> Response<ResponseBody> {
        ApiError::method(method, allow).into_response()
    }
}
