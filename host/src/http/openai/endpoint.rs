//! Shared parts of the endpoints: request parsing, the client's timeout, responses with their usage and receipt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::budgets::Holder;
use crate::call::{InferenceReceipt, Receipt};
use crate::http::request_body::{BufferedBody, RequestBodies};
use crate::http::respond::{ResponseBody, json_text_response, set_receipt};
use crate::inference::{Caller, Inference, Tenant};
use crate::limits;
use crate::tasks::blocking;

/// Inputs of one request, as many as OpenAI takes.
pub(crate) const INPUTS_MAX: usize = 2_048;
/// Bodies and responses of more bytes than this are parsed and written on a blocking thread.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Header with the timeout of OpenAI's own clients, in seconds.
const READ_TIMEOUT: &str = "x-stainless-read-timeout";

/// Result of an endpoint.
pub(crate) type EndpointResult = Result<Response<ResponseBody>, ApiError>;

/// Parts of the host that the endpoints use.
pub(crate) struct Endpoint {
    pub inference: Arc<Inference>,
    pub bodies: Arc<RequestBodies>,
}

/// Tokens of a request, as such clients count them.
#[derive(Serialize)]
pub(crate) struct Usage {
    pub prompt_tokens: u64,
    pub total_tokens: u64,
}

impl From<&InferenceReceipt> for Usage {
    fn from(receipt: &InferenceReceipt) -> Self {
        Self { prompt_tokens: receipt.tokens, total_tokens: receipt.tokens }
    }
}

impl Endpoint {
    /// Reads and parses a request. The last part keeps the body charged to its budget until it is dropped.
    pub(crate) async fn read<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request<Incoming>,
    ) -> Result<(T, Caller, BufferedBody), ApiError> {
        let timeout = timeout(request.headers())?;
        let caller = Caller::new(Tenant::way_in("api"), Instant::now() + timeout);
        let bytes_max = limits::INFERENCE_BODY_BYTES_MAX;
        let body = self.bodies.read(Holder::Host, request, bytes_max, "the limit of a request to a model").await?;
        let is_short = body.bytes.len() <= INLINE_BYTES_MAX;
        let parse = move || (parse(&body.bytes), body);
        let (parsed, body) = if is_short { parse() } else { blocking(parse).await };
        Ok((parsed?, caller, body))
    }
}

/// Parses one JSON document.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| ApiError::body(&error))?;
    json.end().map_err(|error| ApiError::invalid(format!("behind the body's JSON: {error}"), None))?;
    Ok(parsed)
}

/// Returns the client's timeout, at most the host's.
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

/// Writes a response of about `about_bytes`, on a blocking thread if it is long.
pub(crate) async fn respond<T: Serialize + Send + 'static>(answer: T, about_bytes: usize) -> Response<ResponseBody> {
    let write = move || {
        let mut bytes = Vec::with_capacity(about_bytes + 256);
        serde_json::to_writer(&mut bytes, &answer).expect("string keys and numbers only");
        bytes
    };
    let bytes = if about_bytes <= INLINE_BYTES_MAX { write() } else { blocking(write).await };
    json_text_response(bytes)
}

/// Sets the header with the receipt.
pub(crate) fn set_inference_receipt(response: &mut Response<ResponseBody>, inference: InferenceReceipt) {
    set_receipt(response.headers_mut(), &Receipt { inference, ..Receipt::default() });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
