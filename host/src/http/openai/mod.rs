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
mod models;
mod rerank;

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use self::endpoint::Endpoint;
use self::error::ApiError;
use super::handler::is_read;
use super::request_body::RequestBodies;
use super::respond::ResponseBody;
use crate::inference::Inference;

/// API over one host's models.
pub struct OpenAi(Endpoint);

impl OpenAi {
    pub fn new(inference: Arc<Inference>, bodies: Arc<RequestBodies>) -> Self {
        Self(Endpoint { inference, bodies })
    }

    /// Answers a request; `path` is the rest after `/v1`.
    pub async fn route(&self, path: &[&str], request: Request<Incoming>) -> Response<ResponseBody> {
        let (endpoint, method) = (&self.0, request.method().clone());
        let result = match path {
            ["embeddings"] if method == Method::POST => embeddings::create(endpoint, request).await,
            ["rerank"] if method == Method::POST => rerank::create(endpoint, request).await,
            ["embeddings" | "rerank"] => Err(ApiError::method(&method, "POST")),
            ["models"] if is_read(&method) => models::list(endpoint).await,
            ["models", model] if is_read(&method) => models::get_one(endpoint, model).await,
            ["models", ..] => Err(ApiError::method(&method, "GET, HEAD")),
            _ => Err(ApiError::path(request.uri().path())),
        };
        result.unwrap_or_else(ApiError::into_response)
    }
}
