//! JSON documents of calls, maps, outputs and failures, as clients of the control API see them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::call::{Failure, Payload};
use crate::dispatch::LiveCall;
use crate::ids::CallId;
use crate::journal::{CallRecord, MapRecord};

/// Document of a durable call, without its output.
pub fn call_document(record: &CallRecord) -> Value {
    let mut value = json!(record);
    value["kind"] = json!("call");
    value["function"] = json!(record.function_id().to_string());
    // Records leave defaults out.
    value["principal"] = json!(record.principal);
    value["priority"] = json!(record.priority);
    value
}

/// Document of a durable map.
pub fn map_document(record: &MapRecord) -> Value {
    let MapRecord { header, progress } = record;
    json!({
        "kind": "map",
        "id": header.id,
        "app": header.app,
        "function": header.function_id().to_string(),
        "state": record.state(),
        "principal": header.principal,
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

/// Document of a call under way.
pub fn live_call_document(id: CallId, call: &LiveCall) -> Value {
    json!({
        "id": id,
        "function": call.function.to_string(),
        "principal": call.principal,
        "depth": call.depth,
        "since_ms": u64::try_from(call.since.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Output as JSON text: JSON unchanged, else an object with the media type and the bytes in Base64.
pub fn output(payload: &Payload) -> Box<RawValue> {
    let json = payload.is_json().then(|| serde_json::from_slice::<Box<RawValue>>(&payload.data).ok()).flatten();
    json.unwrap_or_else(|| {
        let object = json!({ "content_type": payload.content_type, "base64": BASE64.encode(&payload.data) });
        serde_json::value::to_raw_value(&object).expect("string keys only")
    })
}

/// Output within a document. JSON that `serde_json` cannot hold (huge numbers, deep nesting) becomes its text.
pub fn output_value(payload: &Payload) -> Value {
    let raw = output(payload);
    serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from(raw.get()))
}

/// Document of a failure.
pub fn failure_document(failure: &Failure) -> Value {
    let mut error = json!({ "code": failure.code, "message": failure.message });
    if !failure.causes.is_empty() {
        error["causes"] = json!(failure.causes);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_no_document_holds_is_its_text() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in ["1e999", &deep] {
            assert_eq!(output_value(&Payload::json(text.to_owned())), Value::from(text));
        }
        assert_eq!(output_value(&Payload::json("[1]")), json!([1]));
    }

    #[test]
    fn a_call_shows_its_principal_and_priority_though_its_record_leaves_defaults_out() {
        let document = |principal: Value| {
            let id = "01a20e64-a124-707d-9175-a92a41304ffb";
            let mut record = json!({
                "id": id, "app": "blog", "function": "refresh", "state": "accepted", "accepted_ms": 1,
            });
            if !principal.is_null() {
                record["principal"] = principal;
            }
            call_document(&serde_json::from_value(record).unwrap())
        };
        assert_eq!(document(Value::Null)["principal"], "operator");
        assert_eq!(document(Value::Null)["priority"], "normal");
        assert_eq!(document(json!("app:blog"))["principal"], "app:blog");
    }
}
