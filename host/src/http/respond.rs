//! Responses: their bodies, their content types, and the headers with the call, its version and its receipt.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use crate::call::{JSON, Payload, Receipt};
use crate::ids::{CallId, Version};

/// Media type of bytes of unknown content.
pub(crate) const OCTET_STREAM: &str = "application/octet-stream";

/// Header with the receipt of a call, as JSON.
pub(crate) const RECEIPT: HeaderName = HeaderName::from_static("bireme-receipt");

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Reason for a body that ends early; the connection is closed for it.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// Body of a response, whole or a stream.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BodyError>;

/// Returns a body whose bytes are all there.
pub(crate) fn full_body(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Returns a response of plain text.
pub(crate) fn text_response(text: &'static str) -> Response<ResponseBody> {
    typed_response(HeaderValue::from_static("text/plain; charset=utf-8"), full_body(text))
}

/// Returns a response of a payload, with its media type.
pub(crate) fn payload_response(payload: Payload) -> Response<ResponseBody> {
    let content_type = HeaderValue::from_str(&payload.content_type).unwrap_or(HeaderValue::from_static(OCTET_STREAM));
    typed_response(content_type, full_body(payload.data))
}

/// Returns a response of one JSON document.
pub(crate) fn json_response(document: &impl Serialize) -> Response<ResponseBody> {
    json_text_response(serde_json::to_vec(document).expect("documents have string keys only"))
}

/// Returns a response of one JSON document, with another status than 200.
pub(crate) fn json_response_as(status: StatusCode, document: &impl Serialize) -> Response<ResponseBody> {
    let mut response = json_response(document);
    *response.status_mut() = status;
    response
}

/// Returns the bytes that a document takes as JSON.
pub(crate) fn json_bytes(document: &impl Serialize) -> usize {
    serde_json::to_vec(document).expect("documents have string keys only").len()
}

/// Returns a response of JSON that is written already.
pub(crate) fn json_text_response(json: impl Into<Bytes>) -> Response<ResponseBody> {
    typed_response(HeaderValue::from_static(JSON), full_body(json))
}

/// Returns a response of JSON Lines that are all there.
pub(crate) fn json_lines(lines: String) -> Response<ResponseBody> {
    typed_response(NDJSON, full_body(lines))
}

/// Returns a response of JSON Lines that are sent as they come.
pub(crate) fn json_lines_stream(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response<ResponseBody> {
    let frames = lines.map(|lines| Ok::<_, Infallible>(Frame::data(lines)));
    typed_response(NDJSON, StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync())
}

/// Returns a response of server-sent events.
pub(crate) fn event_stream(events: impl Stream<Item = Bytes> + Send + 'static) -> Response<ResponseBody> {
    let frames = events.map(|events| Ok::<_, Infallible>(Frame::data(events)));
    let mut response =
        typed_response(EVENT_STREAM, StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn typed_response(content_type: HeaderValue, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Sets the headers of a call: its id, its version, and its receipt once the call has ended.
pub(crate) fn set_call_headers(headers: &mut HeaderMap, call: CallId, version: &Version, receipt: Option<&Receipt>) {
    // A guest cannot forge its own receipt.
    headers.remove(RECEIPT);
    if let Some(receipt) = receipt {
        set_receipt(headers, receipt);
    }
    for (name, value) in [("bireme-call", call.to_string()), ("bireme-version", version.to_string())] {
        headers.insert(name, HeaderValue::from_str(&value).expect("ids are ASCII"));
    }
}

/// Sets the receipt's header.
pub(crate) fn set_receipt(headers: &mut HeaderMap, receipt: &Receipt) {
    let json = serde_json::to_string(receipt).expect("a receipt has string keys only");
    headers.insert(RECEIPT, HeaderValue::from_str(&json).expect("numbers and ASCII names only"));
}
