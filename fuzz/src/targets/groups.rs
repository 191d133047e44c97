//! A guest's answers to a group of inputs.

use bireme::call::Payload;
use bireme::fuzzing::dispatch;

/// Output limit of the function.
const OUTPUT_BYTES_MAX: u64 = 64;

/// A number of inputs in the first byte, and the guest's answer; the same bytes, by lines, as inputs.
pub(super) fn answers(input: &[u8]) -> Result<(), String> {
    let (len, answer) = input.split_first().ok_or("no length")?;
    let len = usize::from(*len) % 32;
    inputs(answer);
    let answers = dispatch::answers(answer, len, OUTPUT_BYTES_MAX).map_err(|failure| failure.message)?;
    assert_eq!(answers.len(), len, "an answer for each input");
    for payload in answers.iter().flatten() {
        assert!(
            payload.content_type == "application/json" && payload.data.len() as u64 <= OUTPUT_BYTES_MAX,
            "an output over its limit"
        );
        let read: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(&payload.data);
        assert!(read.is_ok(), "an output that is no JSON: {:?}", payload.data);
    }
    Ok(())
}

/// No input breaks out of its place in a group.
fn inputs(lines: &[u8]) {
    let payload = |line: &[u8]| Payload { content_type: "application/json".to_owned(), data: line.to_vec().into() };
    let inputs: Vec<Payload> = lines.split(|byte| *byte == b'\n').map(payload).collect();
    let Ok(group) = dispatch::group(&inputs) else { return };
    let places: Vec<&serde_json::value::RawValue> = serde_json::from_slice(&group.data).expect("a group is JSON");
    assert_eq!(places.len(), inputs.len(), "one place for each input");
    for (place, input) in places.iter().zip(&inputs) {
        let sent = input.data.trim_ascii();
        assert_eq!(place.get().as_bytes(), if sent.is_empty() { b"{}" } else { sent });
    }
}
