//! Cases: a call that was kept, with its input and its outcome, as a JSON file. `bireme call --save-case` writes them,
//! `bireme test` replays them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::exit::Exit;
use crate::call::Payload;
use crate::codes::Code;

/// Directory of an app's cases, in the crate's.
pub(crate) const CASES: &str = "cases";
/// Largest file of a case: it is kept beside the sources, and read by people.
const CASE_BYTES_MAX: u64 = 8 << 20;
/// Cases of one function that get a name of their own.
const NUMBER_MAX: u32 = 9_999;

/// A kept call. A payload is JSON text as it travelled, so that numbers keep their digits, or bytes.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub function: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json_or_null")]
    input: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_bytes: Option<CaseBytes>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json_or_null")]
    output: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_bytes: Option<CaseBytes>,
    /// Failure of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<CaseError>,
    /// Code of the error that the call must fail with; written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expect: Option<String>,
}

/// Reads a field that is present, `null` included: only an absent field is `None`.
fn json_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Bytes that are no JSON.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CaseBytes {
    content_type: String,
    base64: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CaseError {
    code: String,
    message: String,
}

/// Outcome of a call, as a case compares it.
pub(crate) type Outcome<'a> = Result<&'a Payload, (Code, &'a str)>;

impl Case {
    /// Makes the case of a call that has ended.
    pub(crate) fn of_call(function: &str, input: &Payload, outcome: Outcome<'_>) -> Result<Self, Exit> {
        let (input, input_bytes) = split(input)?;
        let mut case = Self {
            function: function.to_owned(),
            input,
            input_bytes,
            output: None,
            output_bytes: None,
            error: None,
            expect: None,
        };
        match outcome {
            Ok(output) => (case.output, case.output_bytes) = split(output)?,
            Err((code, message)) => {
                case.error = Some(CaseError { code: code.to_string(), message: message.to_owned() });
            }
        }
        Ok(case)
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
        if bytes > CASE_BYTES_MAX {
            return Err(format!("it has {bytes} bytes, over the limit of {CASE_BYTES_MAX}"));
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let case: Self = serde_json::from_str(&text).map_err(|error| format!("it is no case: {error}"))?;
        match &case.expect {
            Some(code) if Code::find(code).is_none() => Err(format!("`expect` names no error: `{code}`")),
            _ => Ok(case),
        }
    }

    /// Returns the input of the call.
    pub(crate) fn input(&self) -> Result<Payload, String> {
        match (&self.input, &self.input_bytes) {
            (Some(json), None) => Ok(Payload::json(json.get().to_owned())),
            (None, Some(bytes)) => bytes.to_payload(),
            _ => Err("it needs either `input` or `input_bytes`".to_owned()),
        }
    }

    /// Compares the case with the outcome of its call now. The error says what differs.
    pub(crate) fn compare(&self, outcome: Outcome<'_>) -> Result<(), String> {
        match (&self.expect, outcome) {
            (Some(code), Err((now, _))) if now.as_str() == code => Ok(()),
            (Some(code), Err((now, message))) => Err(format!("expected the error {code}, found {now}: {message}")),
            (Some(code), Ok(_)) => Err(format!("expected the error {code}, and the call succeeded")),
            (None, Err((now, message))) => {
                let hint = match &self.error {
                    Some(kept) if kept.code == now.as_str() => "still ",
                    _ => "",
                };
                Err(format!("it {hint}fails with {now}: {message}"))
            }
            // A case kept from a failure: the call succeeds now.
            (None, Ok(_)) if self.output.is_none() && self.output_bytes.is_none() => Ok(()),
            (None, Ok(output)) => self.compare_output(output),
        }
    }

    fn compare_output(&self, output: &Payload) -> Result<(), String> {
        if let Some(kept) = &self.output_bytes {
            let kept = kept.to_payload()?;
            let is_same = kept.data == output.data && kept.content_type == output.content_type;
            return if is_same {
                Ok(())
            } else {
                Err("the output is other bytes, or has another media type".to_owned())
            };
        }
        let kept = self.output.as_ref().map_or("null", |kept| kept.get());
        let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text);
        match (value(kept.as_bytes()), value(&output.data)) {
            (Ok(kept), Ok(now)) if kept == now => Ok(()),
            (_, Ok(now)) => Err(format!("expected {}, found {now}", one_line(kept))),
            (_, Err(_)) => Err(format!("expected JSON, found {} of `{}`", output.data.len(), output.content_type)),
        }
    }

    /// Writes the case to `path`, or to the first free `cases/FUNCTION-N.json` of the current directory. Returns the
    /// path.
    pub(crate) fn write(&self, path: Option<&Path>) -> Result<PathBuf, Exit> {
        let text = indent(&serde_json::to_string(self).map_err(io::Error::from)?);
        if text.len() as u64 > CASE_BYTES_MAX {
            return Err(Exit::usage(format!(
                "the case has {} bytes, over the limit of {CASE_BYTES_MAX}; keep a call with a smaller input",
                text.len()
            )));
        }
        let about = |path: &Path, error: io::Error| Exit::from(error).about(&path.display().to_string());
        if let Some(path) = path {
            fs::write(path, text).map_err(|error| about(path, error))?;
            return Ok(path.to_owned());
        }
        fs::create_dir_all(CASES).map_err(|error| about(Path::new(CASES), error))?;
        for number in 1..=NUMBER_MAX {
            let path = Path::new(CASES).join(format!("{}-{number}.json", self.function));
            match File::options().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(text.as_bytes()).map_err(|error| about(&path, error))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(about(&path, error)),
            }
        }
        Err(Exit::usage(format!("`{}` has {NUMBER_MAX} cases already; name a file", self.function)))
    }
}

impl CaseBytes {
    fn to_payload(&self) -> Result<Payload, String> {
        let data = BASE64_STANDARD.decode(&self.base64).map_err(|error| format!("its bytes are no Base64: {error}"))?;
        Ok(Payload { content_type: self.content_type.clone(), data: data.into() })
    }
}

/// Returns a payload as JSON or as bytes.
fn split(payload: &Payload) -> Result<(Option<Box<RawValue>>, Option<CaseBytes>), Exit> {
    if payload.is_json() {
        let json = serde_json::from_slice::<Box<RawValue>>(&payload.data);
        return Ok((Some(json.map_err(|error| Exit::usage(format!("the call has no JSON to keep: {error}")))?), None));
    }
    let base64 = BASE64_STANDARD.encode(&payload.data);
    Ok((None, Some(CaseBytes { content_type: payload.content_type.clone(), base64 })))
}

/// Returns JSON text on one line.
fn one_line(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json).map_or_else(|_| json.to_owned(), |value| value.to_string())
}

/// Indents JSON text, token by token: every number keeps its digits.
fn indent(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut is_string, mut is_escaped) = (0usize, false, false);
    let mut characters = json.chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = characters.next() {
        if is_string {
            text.push(character);
            is_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            continue;
        }
        match character {
            '{' | '[' => {
                text.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(close) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(close);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(character);
            }
            ',' => {
                text.push(character);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            character if character.is_ascii_whitespace() => {}
            character => {
                is_string = character == '"';
                text.push(character);
            }
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Payload {
        Payload::json(text.to_owned())
    }

    #[test]
    fn indentation_keeps_every_token() {
        let text = r#"{"a":[1.10,{}, []],"b \"x\": [1,2]":{"c":12345678901234567890123}}"#;
        let expected = r#"{
  "a": [
    1.10,
    {},
    []
  ],
  "b \"x\": [1,2]": {
    "c": 12345678901234567890123
  }
}
"#;
        assert_eq!(indent(text), expected);
        assert_eq!(indent(expected), expected);
    }

    #[test]
    fn a_case_of_a_success_wants_the_same_json() {
        let case = Case::of_call("f", &json("1"), Ok(&json(r#"{"a": 1, "b": [2.50]}"#))).unwrap();
        assert_eq!(case.compare(Ok(&json(r#"{"b":[2.5],"a":1}"#))), Ok(()));
        assert_eq!(case.compare(Ok(&json("7"))).unwrap_err(), r#"expected {"a":1,"b":[2.5]}, found 7"#);
        assert_eq!(case.compare(Err((Code::Failed, "no"))).unwrap_err(), "it fails with failed: no");
    }

    #[test]
    fn a_case_of_a_failure_wants_success_or_the_error_that_it_expects() {
        let mut case = Case::of_call("f", &json("1"), Err((Code::Terminal, "gone"))).unwrap();
        assert_eq!(case.compare(Err((Code::Terminal, "gone"))).unwrap_err(), "it still fails with terminal: gone");
        assert_eq!(case.compare(Ok(&json("7"))), Ok(()));
        case.expect = Some("terminal".to_owned());
        assert_eq!(case.compare(Err((Code::Terminal, "gone"))), Ok(()));
        assert!(case.compare(Err((Code::Failed, "no"))).unwrap_err().starts_with("expected the error terminal, found"));
        assert!(case.compare(Ok(&json("7"))).is_err());
    }

    #[test]
    fn bytes_are_kept_with_their_media_type() {
        let bytes = Payload { content_type: "image/png".to_owned(), data: vec![0, 255].into() };
        let case = Case::of_call("f", &bytes, Ok(&bytes)).unwrap();
        assert_eq!(case.input().unwrap().data, bytes.data);
        assert_eq!(case.compare(Ok(&bytes)), Ok(()));
        assert!(case.compare(Ok(&json("1"))).is_err());
    }

    #[test]
    fn null_is_an_output_like_any_other() {
        let case = Case::of_call("f", &json("null"), Ok(&json("null"))).unwrap();
        let case: Case = serde_json::from_str(&serde_json::to_string(&case).unwrap()).unwrap();
        assert_eq!(case.compare(Ok(&json("null"))), Ok(()));
        assert_eq!(case.compare(Ok(&json("7"))).unwrap_err(), "expected null, found 7");
    }

    #[test]
    fn a_file_with_an_unknown_field_or_error_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = dir.path().join("case.json");
            fs::write(&path, text).unwrap();
            Case::read(&path).map(|case| case.function)
        };
        assert_eq!(read(r#"{"function": "f", "input": 1}"#).unwrap(), "f");
        assert!(read(r#"{"function": "f", "input": 1, "expct": "failed"}"#).unwrap_err().contains("expct"));
        assert!(read(r#"{"function": "f", "input": 1, "expect": "faild"}"#).unwrap_err().contains("faild"));
    }
}
