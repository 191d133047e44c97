//! Open Inference Protocol over HTTP, `/v2`, as KServe and Triton speak it, with Triton's binary tensors.
//!
//! Follows the protocol's `inference_rest.md` and, of Triton's extensions, `extension_binary_data.md`,
//! `extension_schedule_policy.md`, `extension_model_configuration.md` and the index of `extension_model_repository.md`.
//! Choices where they leave room: a model has one version, `1`; an installed model is ready, since a request loads it;
//! Triton's priority levels from 3 on are `low`; a `timeout` is at most `TENSORS_TIMEOUT_MAX`. Errors are `{"error":
//! …}` with the status that the same error has elsewhere on this host.
//!
//! Not here: inference itself (`inference`), encoders as models of tensors (`inference::tensors`).
//!
//! Limits: `TENSORS_BODY_BYTES_MAX` for a body. Bodies and responses over `INLINE_BYTES_MAX` are parsed and written on
//! a blocking thread.

mod data;
mod request;
mod response;

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::data::{JsonElements, read as read_elements};
pub(crate) use self::request::{InferRequest, RequestError, parse as parse_request};
pub(crate) use self::response::write as write_response;
use self::response::{EncodedResponse, MODEL_VERSION, ResponseError};
use super::handler::HandlerResult;
use super::problem::Problem;
use super::request_body::RequestBodies;
use super::respond::{OCTET_STREAM, ResponseBody, full_body, json_response, set_receipt};
use super::router::Matched;
use crate::api::Operation;
use crate::budgets::Holder;
use crate::call::{JSON, Receipt, micros};
use crate::codes::Code;
use crate::inference::catalogue::LocatedModel;
use crate::inference::{Caller, Description, Inference, InferenceError, Tenant, tensors};
use crate::limits;
use crate::tasks::blocking;
use crate::wire::{Datatype, Signature, TensorSpec};

/// Header with the length of the JSON at the start of a request's or response's body.
const HEADER_LENGTH: &str = "inference-header-content-length";
/// Bytes that a thread of the runtime parses or writes at most: about a millisecond's work.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the body of an index request.
const INDEX_BODY_BYTES_MAX: u64 = 4 << 10;
/// Bytes of an error's text, which may quote the request.
const ERROR_BYTES_MAX: usize = 2 << 10;

/// Protocol over one host's models.
pub(crate) struct Oip {
    inference: Arc<Inference>,
    bodies: Arc<RequestBodies>,
}

impl Oip {
    pub(crate) fn new(inference: Arc<Inference>, bodies: Arc<RequestBodies>) -> Self {
        Self { inference, bodies }
    }

    /// Answers an operation of this API.
    pub(crate) async fn answer(&self, matched: &Matched, request: Request<Incoming>) -> Response<ResponseBody> {
        self.try_answer(matched, request).await.unwrap_or_else(error_response)
    }

    async fn try_answer(&self, matched: &Matched, request: Request<Incoming>) -> HandlerResult {
        let (model, version) = (matched.path("model"), matched.path("version"));
        if !version.is_empty() && version != MODEL_VERSION {
            let detail = format!("model `{model}` has no version `{version}`; there is `{MODEL_VERSION}`");
            return Err(Problem::new(Code::UnknownModel, detail));
        }
        match matched.route.operation {
            Operation::GetServerLive => Ok(json_response(&json!({ "live": true }))),
            Operation::GetServerReady => Ok(json_response(&json!({ "live": true, "ready": true }))),
            Operation::ListRepository => self.list(false).await,
            Operation::SearchRepository => self.search(request).await,
            Operation::Infer => self.infer(model, request).await,
            Operation::GetModelReady => self.ready(model).await,
            Operation::DescribeModel => Ok(json_response(&metadata(&self.describe(model).await?))),
            Operation::ConfigureModel => Ok(json_response(&config(&self.describe(model).await?))),
            _ => Ok(json_response(&server_metadata())),
        }
    }

    /// Answers whether a model is ready: it is once it is on disk, since the first request loads it.
    async fn ready(&self, model: &str) -> HandlerResult {
        let (located, _) = self.located().await?;
        if located.iter().any(|located| located.name == model) && !self.inference.is_refused(model) {
            return Ok(json_response(&json!({ "name": model, "ready": true })));
        }
        Err(model_problem(InferenceError::UnknownModel { model: model.to_owned() }))
    }

    async fn search(&self, request: Request<Incoming>) -> HandlerResult {
        #[derive(Default, Deserialize)]
        struct Index {
            ready: Option<bool>,
        }
        let body = self.bodies.read(Holder::Host, request, INDEX_BODY_BYTES_MAX, "the limit of this request").await?;
        // tritonclient sends no body at all.
        let body = if body.bytes.is_empty() { b"{}" } else { &body.bytes[..] };
        let index: Index =
            serde_json::from_slice(body).map_err(|error| invalid(format!("the body is no index request: {error}")))?;
        self.list(index.ready == Some(true)).await
    }

    async fn list(&self, only_ready: bool) -> HandlerResult {
        let (located, mut broken) = self.located().await?;
        let (refused, ready): (Vec<_>, Vec<_>) =
            located.into_iter().map(|model| model.name).partition(|name| self.inference.is_refused(name));
        let ready =
            ready.iter().map(|name| json!({ "name": name, "version": MODEL_VERSION, "state": "READY", "reason": "" }));
        let mut models: Vec<Value> = ready.collect();
        if !only_ready {
            // The true reason has paths of this host in it.
            let reason = "its files cannot be used; see `bireme models list` and the log of the host";
            broken.extend(refused);
            let broken = broken.iter().map(|name| json!({ "name": name, "state": "UNAVAILABLE", "reason": reason }));
            models.extend(broken);
        }
        Ok(json_response(&Value::from(models)))
    }

    /// Returns the models on disk, and the names of directories that are none.
    async fn located(&self) -> Result<(Vec<LocatedModel>, Vec<String>), Problem> {
        let catalogue = self.inference.catalogue().clone();
        blocking(move || catalogue.located()).await.map_err(|error| {
            // The error names a directory of this host.
            tracing::warn!(%error, "cannot list the models");
            Problem::new(Code::Io, "the models on this host's disk cannot be listed; its log says why")
        })
    }

    async fn describe(&self, model: &str) -> Result<Description, Problem> {
        let caller = Caller::new(tenant(), Instant::now() + limits::INFERENCE_TIMEOUT);
        self.inference.describe(model, &caller).await.map_err(model_problem)
    }

    async fn infer(&self, model: &str, request: Request<Incoming>) -> HandlerResult {
        let began = Instant::now();
        let header_length = header_length(request.headers())?;
        let bytes_max = limits::TENSORS_BODY_BYTES_MAX;
        let buffered = self.bodies.read(Holder::Host, request, bytes_max, "the limit of an inference request").await?;
        let body = buffered.bytes.clone();
        let mut request = off_runtime(body.len(), move || parse_request(&body, header_length)).await?;

        let timeout = request.timeout.unwrap_or(limits::INFERENCE_TIMEOUT).min(limits::TENSORS_TIMEOUT_MAX);
        let caller = Caller { priority: request.priority, ..Caller::new(tenant(), began + timeout) };
        if !request.outputs.is_empty() {
            // Checked before the model runs in vain; loading it now costs the same as later.
            check_outputs(&self.inference.describe(model, &caller).await.map_err(model_problem)?, &request)?;
        }
        let inputs = std::mem::take(&mut request.inputs);
        let inferred = self.inference.infer(model, inputs, &caller).await.map_err(model_problem)?;
        drop(buffered);

        let receipt = Receipt { inference: inferred.receipt, ..Receipt::default() };
        let (name, tensors) = (model.to_owned(), inferred.tensors);
        let bytes = tensors.iter().map(|tensor| tensor.data.len()).sum();
        let EncodedResponse { body, header_length } =
            off_runtime(bytes, move || write_response(&name, &request, &tensors)).await?;
        let mut response = Response::new(full_body(body));
        let headers = response.headers_mut();
        let content_type = if header_length.is_some() { OCTET_STREAM } else { JSON };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(length) = header_length {
            headers.insert(HEADER_LENGTH, length.into());
        }
        set_receipt(headers, &Receipt { wall_us: micros(began.elapsed()), ..receipt });
        Ok(response)
    }
}

fn tenant() -> Tenant {
    Tenant::way_in("api")
}

/// Runs work on this many bytes inline up to `INLINE_BYTES_MAX`, else on a blocking thread.
async fn off_runtime<T, E>(bytes: usize, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Send + 'static,
    Problem: From<E>,
{
    Ok(if bytes <= INLINE_BYTES_MAX { work() } else { blocking(work).await }?)
}

/// Metadata of the server.
fn server_metadata() -> Value {
    json!({
        "name": "bireme",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "schedule_policy", "model_configuration"],
    })
}

fn metadata(description: &Description) -> Value {
    let (inputs, outputs) = tensors::specs(&description.signature);
    let list = |specs: &[TensorSpec]| -> Value {
        let spec =
            |spec: &TensorSpec| json!({ "name": spec.name, "datatype": spec.datatype.as_str(), "shape": spec.shape });
        specs.iter().map(spec).collect()
    };
    json!({
        "name": description.name,
        "versions": [MODEL_VERSION],
        "platform": platform(&description.signature),
        "inputs": list(&inputs),
        "outputs": list(&outputs),
    })
}

/// Inputs and outputs as Triton's model configuration has them. A `max_batch_size` of 0 says that shapes include the
/// batch dimension.
fn config(description: &Description) -> Value {
    let (inputs, outputs) = tensors::specs(&description.signature);
    let is_encoder = description.signature.width().is_some();
    let list = |specs: &[TensorSpec], is_optional: bool| -> Value {
        let spec = |spec: &TensorSpec| {
            let name = if spec.datatype == Datatype::Bytes { "STRING" } else { spec.datatype.as_str() };
            let mut value = json!({ "name": spec.name, "data_type": format!("TYPE_{name}"), "dims": spec.shape });
            if is_optional {
                value["optional"] = true.into();
            }
            value
        };
        specs.iter().map(spec).collect()
    };
    json!({
        "name": description.name,
        "platform": platform(&description.signature),
        "backend": "bireme",
        "max_batch_size": 0,
        "input": list(&inputs, is_encoder),
        "output": list(&outputs, false),
    })
}

fn platform(signature: &Signature) -> &'static str {
    if signature.width().is_some() { "bireme_encoder" } else { "bireme_tensors" }
}

fn check_outputs(description: &Description, request: &InferRequest) -> Result<(), Problem> {
    let (_, outputs) = tensors::specs(&description.signature);
    let exists = |name: &str| outputs.iter().any(|output| output.name == name);
    match request.outputs.iter().find(|wanted| !exists(&wanted.name)) {
        None => Ok(()),
        Some(wanted) => {
            let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            let names = names.join("`, `");
            Err(invalid(format!("model `{}` has no output `{}`; it has `{names}`", description.name, wanted.name)))
        }
    }
}

/// Returns the length of the body's JSON, if the request declares it.
fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let length = length.and_then(|value| value.parse().ok());
    length.map(Some).ok_or_else(|| invalid(format!("`{HEADER_LENGTH}` is no number of bytes")))
}

/// Refuses a path that this API does not have.
pub(crate) fn unknown_path(path: &str) -> Response<ResponseBody> {
    let detail = format!("no `{path}` here; there are /v2/health, /v2/models/MODEL and /v2/repository/index");
    error_response(Problem::not_found(detail))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidInput, detail)
}

fn model_problem(error: InferenceError) -> Problem {
    Problem::new(error.code(), error.public_message())
}

/// Converts a problem to the protocol's error, with the problem's status and headers.
pub(crate) fn error_response(problem: Problem) -> Response<ResponseBody> {
    let mut detail = problem.detail.clone();
    detail.truncate(detail.floor_char_boundary(ERROR_BYTES_MAX));
    let mut response = problem.into_response();
    *response.body_mut() = full_body(json!({ "error": detail }).to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        invalid(error.to_string())
    }
}

impl From<ResponseError> for Problem {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Missing { .. } => Problem::new(Code::Unavailable, error.to_string()),
            ResponseError::Json { .. } => invalid(error.to_string()),
        }
    }
}
