//! `/v1`: the models, for clients that speak OpenAI's API, and `rerank` as Jina, Cohere and vLLM have it.
//!
//! Not here: functions (`routes`), the Open Inference Protocol, what a model does with what it is given (`inference`).
//!
//! Fields that are not known are passed over, as those clients expect. Errors have that API's shape (`error`). A client that
//! goes away takes its request out of the queue.
//!
//! Limits: `INFERENCE_BODY_BYTES_MAX` for a body, `INPUTS_MAX` inputs, `INFERENCE_TIMEOUT` for an answer, or less where the
//! client says that it waits less.

mod embeddings;
mod error;
mod models;
mod rerank;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::error::ApiError;
use super::body::{Held, RequestBodies, ResponseBody, whole};
use super::routes::receipt_header;
use crate::call::{InferenceReceipt, JSON, Receipt};
use crate::inference::{Caller, Inference, Tenant};
use crate::limits;
use crate::tasks::blocking;

/// Inputs of one request, as many as OpenAI takes.
const INPUTS_MAX: usize = 2_048;
/// Bodies and answers of more bytes than this are read and written off the runtime's threads.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// The seconds that a client of OpenAI's own waits for an answer.
const READ_TIMEOUT: &str = "x-stainless-read-timeout";

type Answer = Result<Response<ResponseBody>, ApiError>;

/// The models of one host.
pub struct OpenAi {
    inference: Arc<Inference>,
    bodies: Arc<RequestBodies>,
}

/// Tokens, as such clients count them.
#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

impl OpenAi {
    pub fn new(inference: Arc<Inference>, bodies: Arc<RequestBodies>) -> Self {
        Self { inference, bodies }
    }

    /// Answers a request; `path` is what follows `/v1`.
    pub async fn answer(&self, path: &[&str], request: Request<Incoming>) -> Response<ResponseBody> {
        let method = request.method().clone();
        let is_read = matches!(method, Method::GET | Method::HEAD);
        let answered = match path {
            ["embeddings"] if method == Method::POST => self.embeddings(request).await,
            ["rerank"] if method == Method::POST => self.rerank(request).await,
            ["embeddings" | "rerank"] => Err(ApiError::method(&method, "POST")),
            ["models"] if is_read => self.models().await,
            ["models", model] if is_read => self.one_model(model).await,
            ["models", ..] => Err(ApiError::method(&method, "GET, HEAD")),
            _ => Err(ApiError::path(request.uri().path())),
        };
        answered.unwrap_or_else(ApiError::into_response)
    }

    /// Reads a request's body, and says who asks. The body's room is held until the last is dropped.
    async fn read<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request<Incoming>,
    ) -> Result<(T, Caller, Held), ApiError> {
        let timeout = timeout(request.headers())?;
        let caller = Caller::new(Tenant::way_in("api"), Instant::now() + timeout);
        let bytes_max = limits::INFERENCE_BODY_BYTES_MAX;
        let held = self.bodies.read(request, bytes_max, "the limit of a request to a model").await?;
        let is_short = held.bytes.len() <= INLINE_BYTES_MAX;
        let parse = move || (parse(&held.bytes), held);
        let (read, held) = if is_short { parse() } else { blocking(parse).await };
        Ok((read?, caller, held))
    }
}

/// Reads one JSON document.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| ApiError::body(&error))?;
    json.end().map_err(|error| ApiError::invalid(format!("behind the body's JSON: {error}"), None))?;
    Ok(read)
}

/// Returns how long the client waits, or as long as the host lets it.
fn timeout(headers: &HeaderMap) -> Result<Duration, ApiError> {
    let Some(given) = headers.get(READ_TIMEOUT) else {
        return Ok(limits::INFERENCE_TIMEOUT);
    };
    let seconds = given.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(given) => Ok(given.min(limits::INFERENCE_TIMEOUT)),
        None => Err(ApiError::invalid(format!("`{READ_TIMEOUT}` is a number of seconds"), None)),
    }
}

/// Writes an answer of about so many bytes, off the runtime's threads where that takes long.
async fn json<T: Serialize + Send + 'static>(answer: T, about_bytes: usize) -> Response<ResponseBody> {
    let write = move || {
        let mut bytes = Vec::with_capacity(about_bytes + 256);
        serde_json::to_writer(&mut bytes, &answer).expect("string keys and numbers only");
        bytes
    };
    let bytes = if about_bytes <= INLINE_BYTES_MAX { write() } else { blocking(write).await };
    let mut response = Response::new(whole(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// Says what an answer cost.
fn stamp(response: &mut Response<ResponseBody>, inference: InferenceReceipt) {
    let receipt = Receipt { inference, ..Receipt::default() };
    response.headers_mut().insert("bireme-receipt", receipt_header(&receipt));
}

fn usage(receipt: &InferenceReceipt) -> Usage {
    Usage { prompt_tokens: receipt.tokens, total_tokens: receipt.tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_no_longer_than_it_says_nor_than_the_host_lets_it() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(READ_TIMEOUT, HeaderValue::from_str(value).unwrap());
            timeout(&headers).map_err(|error| error.message)
        };
        assert_eq!(check("2.5"), Ok(Duration::from_millis(2_500)));
        assert_eq!(check("600"), Ok(limits::INFERENCE_TIMEOUT));
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), limits::INFERENCE_TIMEOUT);
        for bad in ["", "soon", "-1", "NaN", "inf", "1e300"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
