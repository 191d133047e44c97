//! What the paths of durable calls and maps have in common: their documents, their errors, and how long a client waits.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::control::bad_query;
use super::problem::Problem;
use crate::call::{Failure, Payload, Priority};
use crate::codes::Code;
use crate::dispatch::DurableError;
use crate::journal::{CallRecord, JournalError, MapRecord};

/// The longest that a request waits for a call to end; a client that wants to wait longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A call as clients see it.
pub fn call(record: &CallRecord) -> Value {
    let mut value = json!(record);
    value["kind"] = json!("call");
    value["function"] = json!(record.function_id().to_string());
    value["priority"] = json!(record.priority);
    value
}

/// A map as clients see it.
pub fn map(record: &MapRecord) -> Value {
    let MapRecord { header, progress } = record;
    json!({
        "kind": "map",
        "id": header.id,
        "app": header.app,
        "function": header.function_id().to_string(),
        "state": record.state(),
        "priority": header.priority,
        "created_ms": header.created_ms,
        "ended_ms": progress.ended_ms,
        "closed": header.is_closed,
        "counts": {
            "accepted": header.accepted,
            "done": progress.done,
            "failed": progress.failed,
            "dead": progress.dead,
            "cancelled": record.cancelled(),
            "retried": progress.retried,
        },
        "parent": header.parent,
        "idempotency_key": header.idempotency_key,
        "receipt": progress.receipt,
    })
}

/// An output as JSON: as it is if it is JSON, else an object with its media type and its bytes in Base64.
pub fn output(payload: &Payload) -> Box<RawValue> {
    let json = payload.is_json().then(|| serde_json::from_slice::<Box<RawValue>>(&payload.data).ok()).flatten();
    json.unwrap_or_else(|| {
        let object = json!({ "content_type": payload.content_type, "base64": BASE64.encode(&payload.data) });
        serde_json::value::to_raw_value(&object).expect("string keys only")
    })
}

/// An output within a document. What `serde_json` cannot hold (a number that no float is, deep nesting) is its text.
pub fn output_value(payload: &Payload) -> Value {
    let raw = output(payload);
    serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from(raw.get()))
}

/// A failure as clients see it.
pub fn error(failure: &Failure) -> Value {
    let mut error = json!({ "code": failure.code, "message": failure.message });
    if !failure.causes.is_empty() {
        error["causes"] = json!(failure.causes);
    }
    error
}

/// Reads an input of a map from its line.
pub fn input(line: &[u8], takes_bytes: bool) -> Result<Payload, String> {
    if !takes_bytes {
        return Ok(Payload::json(line.to_vec()));
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("is no JSON ({error})"))?;
    if let Some(text) = value.as_str() {
        return Ok(Payload { content_type: "text/plain".to_owned(), data: text.to_owned().into() });
    }
    let bytes = value["base64"].as_str().and_then(|text| BASE64.decode(text).ok());
    let content_type = value["content_type"].as_str().unwrap_or("application/octet-stream").to_owned();
    match bytes {
        Some(bytes) => Ok(Payload { content_type, data: bytes.into() }),
        None => {
            Err("is neither a string nor {\"content_type\": …, \"base64\": …}, as a function of bytes takes".to_owned())
        }
    }
}

/// How long the client asks to wait (`Prefer: wait=SECONDS`, or `wait` in the query); nothing if it does not.
pub fn wait(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Duration>, Problem> {
    let preferred = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferred = preferred.flat_map(|value| value.split([',', ';']));
    let preferred = preferred.find_map(|part| part.trim().strip_prefix("wait="));
    let Some(text) = query.or(preferred) else { return Ok(None) };
    let seconds: f64 = text.trim_end_matches('s').parse().unwrap_or(f64::NAN);
    if !(0.0..=1e9).contains(&seconds) {
        return Err(bad_query(format!("`wait` is a number of seconds, not `{text}`")));
    }
    Ok(Some(Duration::from_secs_f64(seconds).min(WAIT_MAX)))
}

pub fn priority(text: &str) -> Result<Priority, Problem> {
    let found = Priority::ALL.into_iter().find(|priority| json!(priority) == text);
    found.ok_or_else(|| bad_query(format!("`priority` is high, normal or low, not `{text}`")))
}

/// The client's idempotency key.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map_err(|_| bad_query("an `idempotency-key` is visible ASCII"))?;
    // The draft standard has it as a structured string, in quotes.
    Ok(Some(key.trim().trim_matches('"').to_owned()))
}

impl From<DurableError> for Problem {
    fn from(error: DurableError) -> Self {
        let code = match &error {
            DurableError::Refused(failure) => return failure.clone().into(),
            DurableError::Journal(JournalError::Store(error)) => error.code(),
            DurableError::Journal(_) => Code::Store,
            DurableError::UnknownCall { .. } => Code::UnknownCall,
            DurableError::UnknownMap { .. } | DurableError::NoInput { .. } => Code::UnknownMap,
            DurableError::KeyReused { .. } => Code::KeyReused,
            DurableError::KeyLength { .. } => Code::BadQuery,
            DurableError::TooMany { .. } => Code::Overloaded,
            DurableError::Gap { .. } => Code::InputGap,
            DurableError::Differs { .. } => Code::InputDiffers,
            DurableError::Closed { .. } => Code::MapClosed,
            DurableError::NotEnded { .. } => Code::MapNotEnded,
        };
        let member = match &error {
            DurableError::Gap { accepted, .. } => Some(("accepted", json!(accepted))),
            _ => None,
        };
        let causes = anyhow::Error::from(error);
        let detail = causes.to_string();
        let causes = causes.chain().skip(1).map(ToString::to_string).filter(|cause| *cause != detail).collect();
        Self { causes, member: member.map(Box::new), ..Self::new(code, detail) }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_wait_is_read_from_either_place_and_bounded() {
        let mut headers = HeaderMap::new();
        assert_eq!(wait(&headers, None).unwrap(), None);
        headers.insert("prefer", HeaderValue::from_static("respond-async, wait=1.5"));
        assert_eq!(wait(&headers, None).unwrap(), Some(Duration::from_millis(1_500)));
        assert_eq!(wait(&headers, Some("3s")).unwrap(), Some(Duration::from_secs(3)));
        assert_eq!(wait(&headers, Some("86400")).unwrap(), Some(WAIT_MAX));
        for bad in ["-1", "soon", "nan", "inf", ""] {
            assert!(wait(&headers, Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_come_as_a_string_or_in_base64() {
        assert_eq!(input(b"[1]", false).unwrap(), Payload::json("[1]"));
        assert_eq!(input(b"\"a\"", true).unwrap().data, "a");
        let image = input(b"{\"content_type\":\"image/png\",\"base64\":\"AAE=\"}", true).unwrap();
        assert_eq!((image.content_type.as_str(), image.data.as_ref()), ("image/png", &[0, 1][..]));
        assert!(input(b"[1]", true).is_err());
    }

    #[test]
    fn an_output_that_no_document_holds_is_its_text() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in ["1e999", &deep] {
            assert_eq!(output_value(&Payload::json(text.to_owned())), Value::from(text));
        }
        assert_eq!(output_value(&Payload::json("[1]")), json!([1]));
    }
}
