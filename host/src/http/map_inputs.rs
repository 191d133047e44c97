//! Inputs of a map as lines: JSON, or for functions of bytes a string or an object with Base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::problem::Problem;
use super::respond::OCTET_STREAM;
use crate::call::Payload;
use crate::codes::Code;

/// Parses an input of a map from its line.
pub(crate) fn parse_input(line: &[u8], takes_bytes: bool) -> Result<Payload, String> {
    if !takes_bytes {
        return Ok(Payload::json(line.to_vec()));
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("is no JSON ({error})"))?;
    if let Some(text) = value.as_str() {
        return Ok(Payload { content_type: "text/plain".to_owned(), data: text.to_owned().into() });
    }
    let bytes = value["base64"].as_str().and_then(|text| BASE64.decode(text).ok());
    let content_type = value["content_type"].as_str().unwrap_or(OCTET_STREAM).to_owned();
    match bytes {
        Some(bytes) => Ok(Payload { content_type, data: bytes.into() }),
        None => {
            Err("is neither a string nor {\"content_type\": …, \"base64\": …}, as a function of bytes takes".to_owned())
        }
    }
}

/// An input that cannot be parsed. Those before it in the request are accepted.
pub(crate) fn bad_input(index: u64, reason: &str) -> Problem {
    Problem::new(
        Code::InvalidInput,
        format!("input {index} {reason}; nothing of this request from there on was accepted"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_as_a_string_or_in_base64() {
        assert_eq!(parse_input(b"[1]", false).unwrap(), Payload::json("[1]"));
        assert_eq!(parse_input(b"\"a\"", true).unwrap().data, "a");
        let image = parse_input(b"{\"content_type\":\"image/png\",\"base64\":\"AAE=\"}", true).unwrap();
        assert_eq!((image.content_type.as_str(), image.data.as_ref()), ("image/png", &[0, 1][..]));
        assert!(parse_input(b"[1]", true).is_err());
    }
}
