//! Readers of requests, for the targets in `fuzz/`.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri};

use super::csrf::{check_csrf, check_host};
use super::headers;
use super::map_inputs::parse_input;
use super::oip;
use super::openai;
use super::problem::Problem;
use super::router;
use super::upload::next_line;
use crate::call::Payload;
use crate::wire::Tensor;

/// Target of a request.
#[derive(Debug)]
pub enum Target {
    /// A route of the host's own.
    Operation {
        /// Path of the route.
        path: &'static str,
        /// Whether it needs the operator's token.
        needs_token: bool,
        /// Parameters of the query.
        query: Vec<(String, String)>,
        /// Names of the parameters that the route has.
        known: Vec<&'static str>,
    },
    /// A path below an app's name.
    App,
    /// A path of the host that leads nowhere, or takes other methods.
    Refused,
}

/// Returns the detail of a refusal. A client's fault is a status of 400 to 499.
fn refusal(problem: &Problem) -> String {
    assert!(
        problem.status.is_client_error(),
        "{} is answered to what a client sent: {}",
        problem.status,
        problem.detail
    );
    problem.detail.clone()
}

/// Finds the target of a request.
pub fn target(method: &Method, uri: &Uri) -> Result<Target, String> {
    match router::find(method, uri).map_err(|problem| refusal(&problem))? {
        router::Target::Operation(matched) => Ok(Target::Operation {
            path: matched.route.path,
            needs_token: matched.route.needs_token(),
            query: matched.query().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            known: matched.route.query().collect(),
        }),
        router::Target::App => Ok(Target::App),
        router::Target::Nothing | router::Target::Method { .. } => Ok(Target::Refused),
    }
}

/// Whether a path is the operator's.
pub fn is_operators(path: &str) -> bool {
    router::is_operators(path)
}

/// Whether a request passes the checks against web pages.
pub fn passes(request: &Request<()>) -> Result<(), String> {
    check_host(request).and_then(|()| check_csrf(request)).map_err(|problem| refusal(&problem))
}

/// Returns the media type of a function's input.
pub fn media_type(headers: &HeaderMap, takes_bytes: bool) -> Result<String, String> {
    headers::input_media_type(headers, takes_bytes).map_err(|problem| refusal(&problem))
}

/// Returns the wait that a client prefers.
pub fn wait(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Duration>, String> {
    headers::preferred_wait(headers, query).map_err(|problem| refusal(&problem))
}

/// Returns idempotency key and declared length of a body that is not compressed.
pub fn key_and_length(headers: &HeaderMap) -> Result<(Option<String>, Option<u64>), String> {
    let refused = |problem: Problem| refusal(&problem);
    headers::refuse_encoding(headers).map_err(refused)?;
    Ok((headers::idempotency_key(headers).map_err(refused)?, headers::content_length(headers)))
}

/// Returns the lines of a body that arrives in `parts`, each with its end.
pub fn lines<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let (mut buffer, mut scanned, mut lines) = (BytesMut::new(), 0, Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        lines.extend(std::iter::from_fn(|| next_line(&mut buffer, &mut scanned)));
    }
    let rest = buffer.copy_to_bytes(buffer.len());
    lines.extend((!rest.is_empty()).then_some(rest));
    lines
}

/// Parses an input of a map from its line.
pub fn map_input(line: &[u8], takes_bytes: bool) -> Result<Payload, String> {
    parse_input(line, takes_bytes)
}

/// Parses an inference request; the first `header_length` bytes are its JSON, or all.
pub fn infer(body: &[u8], header_length: Option<usize>) -> Result<Vec<Tensor>, String> {
    let parsed = oip::parse_request(&Bytes::copy_from_slice(body), header_length);
    parsed.map(|request| request.inputs).map_err(|error| refusal(&error.into()))
}

/// Writes the tensors of a response, with the length of its JSON if binary data follows.
pub fn inferred(tensors: Vec<Tensor>, is_binary: bool) -> Result<(Vec<u8>, Option<usize>), String> {
    let request = oip::InferRequest { is_binary, ..oip::InferRequest::of(Vec::new()) };
    let written = oip::write_response("m", &request, &tensors);
    written.map(|written| (written.body, written.header_length)).map_err(|error| refusal(&error.into()))
}

/// Parses a request for embeddings; returns the number of its inputs.
pub fn embeddings(body: &[u8]) -> Result<usize, String> {
    openai::fuzzing::embeddings(body)
}

/// Parses a request to rerank; returns the number of its documents.
pub fn rerank(body: &[u8]) -> Result<usize, String> {
    openai::fuzzing::rerank(body)
}
