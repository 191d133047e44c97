//! A group as a guest sees it: one JSON array of the inputs as they were sent, and its answer, one for each input.
//!
//! `docs/metadata.md` is the contract. Inputs are checked before they join, so none can break out of its place; the
//! answer is hostile until `answers` has read it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::call::{CallResult, Failure, FailureCode, Payload};
use crate::limits::FAILURE_BYTES_MAX;

/// The media type of a group, and of the answer to it.
pub(super) const GROUP: &str = "application/vnd.bireme.batch+json";

/// What an empty input is in a group: no argument was given.
const NOTHING: &[u8] = b"{}";

/// Refuses an input that is not exactly one JSON value. Nothing at all counts as no argument, as for any function.
pub(crate) fn check(function: &str, input: &Payload) -> Result<(), Failure> {
    let invalid = |message| Err(Failure::new(FailureCode::InvalidInput, message));
    if !input.is_json() {
        let essence: String =
            input.content_type.split(';').next().unwrap_or_default().trim().chars().take(80).collect();
        return invalid(format!("the input is `{essence}`, and `{function}` takes `{}`", crate::call::JSON));
    }
    if input.data.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    match serde_json::from_slice::<&RawValue>(&input.data) {
        Ok(_) => Ok(()),
        Err(error) => invalid(format!("the input of `{function}` is not JSON: {error}")),
    }
}

/// Joins inputs that were checked.
pub(crate) fn group<'a>(inputs: impl Iterator<Item = &'a Payload> + Clone) -> Payload {
    let bytes: usize = inputs.clone().map(|input| input.data.len().max(NOTHING.len()) + 1).sum();
    let mut data = Vec::with_capacity(bytes + 1);
    for input in inputs {
        data.push(if data.is_empty() { b'[' } else { b',' });
        let is_nothing = input.data.iter().all(u8::is_ascii_whitespace);
        data.extend_from_slice(if is_nothing { NOTHING } else { &input.data });
    }
    data.push(b']');
    Payload { content_type: GROUP.to_owned(), data: data.into() }
}

/// Takes a guest's answer to a group of `len` apart.
///
/// # Errors
/// It is not one answer for each input; then none is of use.
pub(crate) fn answers(
    function: &str,
    answer: &Payload,
    len: usize,
    output_bytes_max: u64,
) -> Result<Vec<CallResult>, Failure> {
    let broken = |reason: String| {
        let message =
            format!("`{function}` did not answer its group of {len} inputs with one answer for each: {reason}");
        Failure::new(FailureCode::Terminal, message)
    };
    if answer.content_type != GROUP {
        let given: String = answer.content_type.chars().take(80).collect();
        return Err(broken(format!("the answer is `{given}` and not `{GROUP}`")));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(&answer.data);
    let read = deserializer.deserialize_seq(AtMost(len));
    let answers = read.and_then(|answers| deserializer.end().map(|()| answers));
    let answers = answers.map_err(|error| broken(error.to_string()))?;
    if answers.len() != len {
        return Err(broken(format!("there are {}", answers.len())));
    }
    Ok(answers.into_iter().map(|answer| answer.result(function, output_bytes_max)).collect())
}

/// One answer, as it stands.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Answer<'a> {
    #[serde(borrow)]
    Ok(&'a RawValue),
    Err(Failure),
}

impl Answer<'_> {
    fn result(self, function: &str, output_bytes_max: u64) -> CallResult {
        match self {
            Self::Ok(output) if output.get().len() as u64 > output_bytes_max => {
                let message = format!(
                    "function `{function}` returned {} bytes for this input, over its output limit of {output_bytes_max}; return less, or in parts",
                    output.get().len()
                );
                Err(Failure::new(FailureCode::OutputTooLarge, message))
            }
            // A copy: a slice would keep the answers to all other inputs in memory, as long as somebody keeps this one.
            Self::Ok(output) => Ok(Payload::json(output.get().as_bytes().to_vec())),
            Self::Err(mut failure) => {
                failure.truncate(FAILURE_BYTES_MAX);
                Err(failure)
            }
        }
    }
}

/// Reads so many answers and no more: a guest decides how many it writes, the host how many it keeps.
struct AtMost(usize);

impl<'de> Visitor<'de> for AtMost {
    type Value = Vec<Answer<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {} answers", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut answers = Vec::with_capacity(self.0);
        while answers.len() < self.0 {
            let Some(answer) = sequence.next_element()? else { return Ok(answers) };
            answers.push(answer);
        }
        match sequence.next_element::<IgnoredAny>()? {
            None => Ok(answers),
            Some(_) => Err(A::Error::custom("there are more")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Payload {
        Payload::json(text.as_bytes().to_vec())
    }

    fn read(text: &str, len: usize) -> Result<Vec<CallResult>, String> {
        let answer = Payload { content_type: GROUP.to_owned(), data: text.as_bytes().to_vec().into() };
        answers("f", &answer, len, 10).map_err(|failure| {
            assert_eq!(failure.code, FailureCode::Terminal);
            failure.message
        })
    }

    #[test]
    fn an_input_that_is_not_exactly_one_value_is_refused() {
        for good in ["1", " {\"a\": [1, \"]\"]} \n", "\"a,b\"", "null", "", "  "] {
            assert_eq!(check("f", &json(good)), Ok(()), "{good}");
        }
        for bad in ["1,2", "1]", "[1", "\"a", "1 2", "{}}", "],[", "nul", "\u{feff}1", "1//", "'a'"] {
            assert_eq!(check("f", &json(bad)).unwrap_err().code, FailureCode::InvalidInput, "{bad}");
        }
        let not_utf8 = Payload::json(b"\"\xff\"".to_vec());
        assert!(check("f", &not_utf8).unwrap_err().message.contains("not JSON"));
        let image = Payload { content_type: "image/png".to_owned(), ..json("1") };
        assert_eq!(
            check("f", &image).unwrap_err().message,
            "the input is `image/png`, and `f` takes `application/json`"
        );
        let group = Payload { content_type: GROUP.to_owned(), ..json("[1]") };
        assert_eq!(check("f", &group).unwrap_err().code, FailureCode::InvalidInput);
    }

    #[test]
    fn inputs_are_joined_as_they_are() {
        let inputs = [json("1"), json(" {\"a\":2}\n"), json(""), json("\"]\"")];
        assert_eq!(&group(inputs.iter()).data[..], b"[1, {\"a\":2}\n,{},\"]\"]");
    }

    #[test]
    fn each_input_has_its_answer() {
        let results =
            read(r#" [{"ok":1}, {"err":{"code":"failed","message":"no","causes":["why"]}},{"ok":"12345678901"}]"#, 3);
        let results = results.unwrap();
        assert_eq!(results[0], Ok(json("1")));
        let failed = results[1].as_ref().unwrap_err();
        assert_eq!((failed.code, failed.to_string().as_str()), (FailureCode::Failed, "no: why"));
        assert_eq!(results[2].as_ref().unwrap_err().code, FailureCode::OutputTooLarge);
    }

    #[test]
    fn an_answer_that_is_no_answer_says_why() {
        let ok = r#"{"ok":1}"#;
        assert!(read(&format!("[{ok}]"), 2).unwrap_err().ends_with("one answer for each: there are 1"));
        assert!(read(&format!("[{ok},{ok},{ok}]"), 2).unwrap_err().contains("there are more"));
        for wrong in [
            "",
            "1",
            "{}",
            "[1,2]",
            "[{},{}]",
            r#"[{"ok":1},{"ok":1,"err":null}]"#,
            r#"[{"ok":1},{"yes":1}]"#,
            r#"[{"ok":1},{"ok":1}]]"#,
            r#"[{"ok":1},{"err":{"code":"bored","message":""}}]"#,
            r#"[{"ok":1},{"ok":1}"#,
        ] {
            assert!(read(wrong, 2).is_err(), "{wrong}");
        }
        let plain = answers("f", &json("[]"), 2, 10).unwrap_err();
        assert!(plain.message.contains("the answer is `application/json` and not"), "{plain}");
    }

    proptest! {
        /// Whatever text is taken as an input, as many inputs come out of the group as went in.
        #[test]
        fn no_input_breaks_out_of_its_place(texts in proptest::collection::vec(r#"[\[\]{}:,"\\ a1\n]{0,6}|[0-9]|"[a,\]]*""#, 1..6)) {
            let inputs: Vec<Payload> = texts.iter().map(|text| json(text)).filter(|input| check("f", input).is_ok()).collect();
            if !inputs.is_empty() {
                let group = group(inputs.iter());
                let parsed: Vec<serde_json::Value> = serde_json::from_slice(&group.data).unwrap();
                prop_assert_eq!(parsed.len(), inputs.len());
            }
        }

        #[test]
        fn no_answer_makes_the_reader_panic(text in r#"(\[|\]|\{|\}|,|"ok":|"err":|1|"code"|"failed"| ){0,20}"#, len in 0usize..4) {
            let _ = read(&text, len);
        }
    }
}
