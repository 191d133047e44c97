//! Batched functions: runs on groups of single inputs.
//!
//! The host sends a group as one JSON array of the inputs, each as its caller sent it, and takes one result for each:
//! its output or its failure. `docs/metadata.md` is the contract. A lone input comes like any function's input.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::arguments::Arguments;
use crate::failure::{Code, Failure, Result};
use crate::payload::{Output, Payload, essence, json_of};

/// Media type of a group, and of its results.
const GROUP: &str = "application/vnd.bireme.batch+json";

/// Input or output type of a batched function: `Serialize`, `Deserialize` and `JsonSchema`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be one input or one output of a batched function",
    note = "a group travels as one JSON array, so `Bytes` cannot be batched; take a type with `#[derive(Serialize, \
        Deserialize, JsonSchema)]`"
)]
pub trait Item: Serialize + DeserializeOwned + JsonSchema {}

impl<T: Serialize + DeserializeOwned + JsonSchema> Item for T {}

/// Runs `function` on a group, or on one input as a group of one.
///
/// # Errors
/// The failure of the whole group, or of the one input.
pub fn run<I: Item, O: Item>(
    input: Payload,
    parameters: &'static [&'static str],
    function: impl FnOnce(Vec<I>) -> Result<Vec<Result<O>>>,
) -> Result<Payload> {
    if essence(&input.content_type) != GROUP {
        let one = Arguments::read(json_of(&input)?, parameters)?.take(0)?;
        let mut outputs = function(vec![one])?;
        check_count(outputs.len(), 1)?;
        return outputs.remove(0)?.write();
    }
    let inputs: Vec<&RawValue> = serde_json::from_slice(&input.data).map_err(|error| not_a_group(&error))?;
    let mut fitting = Vec::with_capacity(inputs.len());
    // A misfit fails alone, and the function never sees it.
    let misfits: Vec<Option<Failure>> = inputs
        .iter()
        .map(|raw| match Arguments::read(raw.get().as_bytes(), parameters).and_then(|mut one| one.take(0)) {
            Ok(one) => {
                fitting.push(one);
                None
            }
            Err(failure) => Some(failure),
        })
        .collect();
    drop(inputs);
    drop(input);
    let fitting_len = fitting.len();
    let outputs = if fitting.is_empty() { Vec::new() } else { function(fitting)? };
    check_count(outputs.len(), fitting_len)?;
    let mut answers = Answers::default();
    let mut outputs = outputs.into_iter();
    for misfit in misfits {
        match misfit.map_or_else(|| outputs.next().unwrap_or_else(|| Err(count(0, 1))), Err) {
            Ok(output) => answers.ok(&output),
            Err(failure) => answers.err(&failure),
        }
    }
    Ok(answers.finish())
}

/// Not generic, so that it is compiled once for all types.
fn not_a_group(error: &serde_json::Error) -> Failure {
    Failure::new(Code::InvalidInput, format!("the group of inputs is no JSON array: {error}"))
}

fn check_count(outputs: usize, inputs: usize) -> Result<()> {
    if outputs == inputs { Ok(()) } else { Err(count(outputs, inputs)) }
}

fn count(outputs: usize, inputs: usize) -> Failure {
    Failure::terminal(format!(
        "the function returned {outputs} outputs for a group of {inputs} inputs; a batched function returns one for \
         each, in their order"
    ))
}

/// Results of a group, written one after another.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Answers {
    fn ok<T: Serialize>(&mut self, output: &T) {
        let len = self.0.len();
        self.begin(br#"{"ok":"#);
        match serde_json::to_writer(&mut self.0, output) {
            Ok(()) => self.0.push(b'}'),
            Err(error) => {
                self.0.truncate(len);
                self.err(&Failure::terminal(format!("the output cannot be written as JSON: {error}")));
            }
        }
    }

    fn err(&mut self, failure: &Failure) {
        self.begin(br#"{"err":"#);
        serde_json::to_writer(&mut self.0, failure).expect("a failure is strings");
        self.0.push(b'}');
    }

    fn begin(&mut self, head: &[u8]) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        self.0.extend_from_slice(head);
    }

    fn finish(mut self) -> Payload {
        if self.0.is_empty() {
            self.0.push(b'[');
        }
        self.0.push(b']');
        Payload { content_type: GROUP.to_owned(), data: self.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::prelude::*;

    /// Returns each number with the size of its group.
    #[function(batched(max_size = 4, wait = "10ms"))]
    fn sizes(numbers: Vec<u32>) -> Vec<(u32, usize)> {
        let len = numbers.len();
        numbers.into_iter().map(|number| (number, len)).collect()
    }

    #[function(batched(max_size = 4, wait = "0ms"), retries = 2)]
    fn halves(r#type: Vec<u32>) -> Vec<std::result::Result<u32, std::num::ParseIntError>> {
        r#type.into_iter().map(|n| if n % 2 == 0 { Ok(n / 2) } else { format!("{n} is odd").parse() }).collect()
    }

    #[function(batched(max_size = 4, wait = "1s"))]
    fn all_or_none(numbers: Vec<Option<u32>>) -> Result<Vec<u32>> {
        numbers.into_iter().map(|number| number.context("one is missing")).collect()
    }

    #[function(batched(max_size = 4, wait = "1s"))]
    fn forgets(numbers: Vec<u32>) -> Result<Vec<Result<u32>>> {
        Ok(numbers.into_iter().filter(|n| *n != 3).map(Ok).collect())
    }

    #[function(batched(max_size = 4, wait = "1s"))]
    fn unwritable(keys: Vec<u32>) -> Vec<BTreeMap<(u32, u32), u32>> {
        keys.into_iter().map(|key| if key == 0 { BTreeMap::new() } else { [((key, key), key)].into() }).collect()
    }

    fn group(function: &str, inputs: &Value) -> Result<Value> {
        let payload = Payload { content_type: GROUP.to_owned(), data: inputs.to_string().into_bytes() };
        let answer = crate::host::call(function, &payload)?;
        assert_eq!(answer.content_type, GROUP);
        Ok(serde_json::from_slice(&answer.data).expect("the answers are JSON"))
    }

    #[test]
    fn single_inputs_are_groups_of_one_natively() {
        assert_eq!(sizes(vec![1, 2]), [(1, 2), (2, 2)]);
        assert_eq!(sizes::call(7), Ok((7, 1)));
        assert_eq!(sizes::map([1, 2]).collect::<Result<Vec<_>>>(), Ok(vec![(1, 1), (2, 1)]));
        assert_eq!(sizes::for_each([1, 2]), Ok(()));
        assert_eq!(halves::call(4), Ok(2));
        assert_eq!(halves::call(3).map_err(|failure| failure.code), Err(Code::Failed));
        assert_eq!(all_or_none::call(None).map_err(|failure| failure.message), Err("one is missing".to_owned()));
        assert!(forgets::call(3).is_err_and(|failure| failure.message.contains("0 outputs for a group of 1 inputs")));
        assert_eq!(crate::call_by_name::<_, (u32, usize)>("sizes", &json!({ "numbers": 5 })), Ok((5, 1)));
    }

    #[test]
    fn a_group_is_answered_input_by_input() {
        let ok = |number: u32| json!({ "ok": [number, 3] });
        let inputs = json!([1, { "numbers": 2 }, "three", 4, { "number": 5 }]);
        let answers = group("sizes", &inputs).expect("it runs");
        let answers = answers.as_array().expect("it is an array");
        assert_eq!([&answers[0], &answers[1], &answers[3]], [&ok(1), &ok(2), &ok(4)]);
        assert_eq!(answers[2]["err"]["code"], "invalid-input");
        assert_eq!(answers[2]["err"]["message"], "$: expected an integer (`u32`), found \"three\"");
        assert!(
            answers[4]["err"]["message"].as_str().is_some_and(|message| message.contains("`numbers`")),
            "{answers:?}"
        );
        assert_eq!(group("sizes", &json!([])), Ok(json!([])));

        let answers = group("halves", &json!([2, 3, 8])).expect("it runs");
        assert_eq!((&answers[0], &answers[2]), (&json!({ "ok": 1 }), &json!({ "ok": 4 })));
        assert_eq!(answers[1]["err"]["code"], "failed");
    }

    #[test]
    fn a_group_fails_as_a_whole_where_the_function_says_so_or_miscounts() {
        assert_eq!(
            group("all_or_none", &json!([1, null])).map_err(|failure| failure.message),
            Err("one is missing".to_owned())
        );
        let failure = group("forgets", &json!([1, 2, 3, "x"])).expect_err("one output is missing");
        assert!(failure.is_terminal() && failure.message.contains("2 outputs for a group of 3 inputs"), "{failure}");
        let no_array = Payload { content_type: GROUP.to_owned(), data: b"[1} ".to_vec() };
        let failure = crate::host::call("sizes", &no_array).expect_err("it is no array");
        assert_eq!(failure.code, Code::InvalidInput);
    }

    #[test]
    fn an_output_that_is_no_json_fails_alone() {
        let answers = group("unwritable", &json!([0, 1, 0])).expect("it runs");
        assert_eq!((&answers[0], &answers[2]), (&json!({ "ok": {} }), &json!({ "ok": {} })));
        assert!(answers[1]["err"]["message"].as_str().is_some_and(|message| message.contains("cannot be written")));
    }

    #[test]
    fn the_document_describes_one_input_and_one_output() {
        let document: Value = serde_json::from_str(&crate::describe()).expect("it is JSON");
        let functions = document["functions"].as_array().expect("there are some");
        let function = |name: &str| functions.iter().find(|function| function["name"] == name).expect("it is there");
        let sizes = function("sizes");
        assert_eq!(sizes["input"]["properties"]["numbers"]["type"], "integer");
        assert_eq!(sizes["output"]["type"], "array");
        assert_eq!(sizes["attributes"]["batched"], json!({ "max_size": 4, "wait_ms": 10 }));
        assert_eq!(function("halves")["parameters"], json!(["type"]));
        assert_eq!(function("halves")["output"]["type"], "integer");
    }
}
