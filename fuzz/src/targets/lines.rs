//! Inputs of a map as lines.

use bireme::fuzzing::{cli, http};
use serde_json::value::RawValue;

/// A size of parts in the first byte, and lines. Lines are the same however they arrive.
pub(super) fn map_lines(input: &[u8]) -> Result<(), String> {
    let (size, text) = input.split_first().ok_or("no size of parts")?;
    let size = usize::from(*size) + 1;
    let expected: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(http::lines(text.chunks(size)), expected, "parts of {size} bytes");

    let said = |error: std::io::Error| error.to_string();
    let filled: Vec<&[u8]> = expected.iter().map(|line| line.trim_ascii()).filter(|line| !line.is_empty()).collect();
    let inputs = cli::inputs(text, size, false).map_err(said)?;
    assert!(inputs.iter().map(|input| &input.data[..]).eq(filled.iter().copied()), "inputs through {size} bytes");
    let bytes = cli::inputs(text, size, true).map_err(said)?;
    assert_eq!(bytes.len(), filled.len(), "inputs of bytes");
    assert_eq!(cli::count(text, size).map_err(said)?, filled.len() as u64, "the count of inputs");

    let mut refused = None;
    for line in filled {
        let json = http::map_input(line, false)?;
        assert!(json.content_type == "application/json" && json.data == line);
        match http::map_input(line, true) {
            Err(reason) => refused = Some(reason),
            Ok(payload) => {
                let read: Result<&RawValue, _> = serde_json::from_slice(line);
                assert!(read.is_ok(), "an input of bytes from no JSON");
                assert!(payload.data.len() <= line.len(), "an input longer than its line");
            }
        }
    }
    refused.map_or(Ok(()), Err)
}
