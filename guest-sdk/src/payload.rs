//! Payloads of calls, decoded to parameters and encoded from results: JSON or raw bytes.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::arguments::{Arguments, ArgumentsWriter};
use crate::bytes::Bytes;
use crate::failure::{Code, Failure, Result};
pub use crate::host::Payload;
use crate::schemas::SchemasBuilder;

/// Media type of JSON.
pub(crate) const JSON: &str = "application/json";

/// Type of a function's only parameter: `Serialize`, `Deserialize` and `JsonSchema`, or [`Bytes`].
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Text {
///     words: Vec<String>,
/// }
///
/// #[function]
/// fn join(text: Text) -> String {
///     text.words.join(" ")
/// }
///
/// assert_eq!(join::call(Text { words: vec!["two".to_owned(), "decks".to_owned()] })?, "two decks");
/// # Ok::<(), Failure>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a function's parameter",
    note = "a parameter is `Bytes`, or a type with `#[derive(Serialize, Deserialize, JsonSchema)]`, all of whose \
        parts have them, too"
)]
pub trait Input: Sized {
    /// Decodes it from a call's input.
    #[doc(hidden)]
    fn read(payload: Payload, parameters: &'static [&'static str]) -> Result<Self>;
    /// Encodes it as a call's input.
    #[doc(hidden)]
    fn write(&self, parameter: &'static str) -> Result<Payload>;
    /// Adds its schema.
    #[doc(hidden)]
    fn describe(parameter: &'static str, schemas: &mut SchemasBuilder);
}

/// Result type of a function: `Serialize`, `Deserialize` and `JsonSchema`, or [`Bytes`].
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Text {
///     words: Vec<String>,
/// }
///
/// #[function]
/// fn split(text: String) -> Text {
///     Text { words: text.split_whitespace().map(str::to_owned).collect() }
/// }
///
/// assert_eq!(split::call("two decks".to_owned())?.words, ["two", "decks"]);
/// # Ok::<(), Failure>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a function's result",
    note = "a result is `Bytes`, or a type with `#[derive(Serialize, Deserialize, JsonSchema)]`, all of whose parts \
        have them, too"
)]
pub trait Output: Sized {
    /// Encodes it as a call's result.
    #[doc(hidden)]
    fn write(self) -> Result<Payload>;
    /// Decodes it from the result of `function`.
    #[doc(hidden)]
    fn read(function: &str, payload: Payload) -> Result<Self>;
    /// Returns its schema.
    #[doc(hidden)]
    fn schema() -> Value;
}

impl<T: Serialize + DeserializeOwned + JsonSchema> Input for T {
    fn read(payload: Payload, parameters: &'static [&'static str]) -> Result<Self> {
        Arguments::read(json_of(&payload)?, parameters)?.take(0)
    }

    fn write(&self, parameter: &'static str) -> Result<Payload> {
        let mut writer = ArgumentsWriter::new();
        writer.put(parameter, self)?;
        Ok(writer.finish())
    }

    fn describe(parameter: &'static str, schemas: &mut SchemasBuilder) {
        schemas.parameter::<T>(parameter);
    }
}

impl Input for Bytes {
    fn read(payload: Payload, _: &'static [&'static str]) -> Result<Self> {
        if essence(&payload.content_type).eq_ignore_ascii_case(JSON) {
            return Err(Failure::new(
                Code::InvalidInput,
                format!(
                    "the input is `{JSON}`, and this function takes raw bytes; send a file with its own content \
                     type, or as `application/octet-stream`"
                ),
            ));
        }
        Ok(Self::new(payload.content_type, payload.data))
    }

    fn write(&self, _: &'static str) -> Result<Payload> {
        Ok(Payload { content_type: self.content_type().to_owned(), data: self.to_vec() })
    }

    fn describe(_: &'static str, schemas: &mut SchemasBuilder) {
        schemas.whole(bytes_schema());
    }
}

impl<T: Serialize + DeserializeOwned + JsonSchema> Output for T {
    fn write(self) -> Result<Payload> {
        match serde_json::to_vec(&self) {
            Ok(data) => Ok(Payload { content_type: JSON.to_owned(), data }),
            Err(error) => Err(unwritable(&error)),
        }
    }

    fn read(function: &str, payload: Payload) -> Result<Self> {
        crate::call::decode(function, &payload)
    }

    fn schema() -> Value {
        crate::schemas::of_output::<T>()
    }
}

impl Output for Bytes {
    fn write(self) -> Result<Payload> {
        Ok(Payload { content_type: self.content_type().to_owned(), data: self.into_vec() })
    }

    fn read(_: &str, payload: Payload) -> Result<Self> {
        Ok(Self::new(payload.content_type, payload.data))
    }

    fn schema() -> Value {
        bytes_schema()
    }
}

/// Not generic, so that it is compiled once for all types.
fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::terminal(format!("the result cannot be written as JSON: {error}"))
}

fn bytes_schema() -> Value {
    json!({ "type": "string", "format": "binary", "contentMediaType": "application/octet-stream" })
}

/// Returns an input as JSON. A missing content type counts as JSON.
///
/// # Errors
/// [`Code::InvalidInput`].
pub fn json_of(payload: &Payload) -> Result<&[u8]> {
    let essence = essence(&payload.content_type);
    if essence.is_empty() || essence.eq_ignore_ascii_case(JSON) {
        return Ok(&payload.data);
    }
    Err(Failure::new(Code::InvalidInput, format!("the input is `{essence}`, and this function takes `{JSON}`")))
}

pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[function]
    fn double(data: Bytes) -> Bytes {
        Bytes::new(data.content_type(), [&data[..], &data].concat())
    }

    #[function]
    fn count(data: Bytes) -> usize {
        data.len()
    }

    #[function]
    fn zeros(count: usize) -> Result<Bytes> {
        Ok(vec![0; count].into())
    }

    fn run(function: &str, content_type: &str, data: &[u8]) -> Result<Payload> {
        crate::host::call(function, &Payload { content_type: content_type.to_owned(), data: data.to_vec() })
    }

    #[test]
    fn bytes_pass_as_they_are_with_their_content_type() {
        let doubled = run("double", "image/png", b"\xff\x00").expect("bytes are bytes");
        assert_eq!((doubled.content_type.as_str(), &doubled.data[..]), ("image/png", &b"\xff\x00\xff\x00"[..]));
        assert_eq!(run("double", "", b"").expect("nothing is bytes, too").content_type, "application/octet-stream");
        assert_eq!(run("count", "text/plain", b"abc").expect("the result is JSON").data, b"3");
        assert_eq!(zeros::call(2), Ok(Bytes::from(vec![0, 0])));
        assert_eq!(double::call("a".into()), Ok("aa".into()));
    }

    #[test]
    fn bytes_can_be_mapped() {
        let inputs = ["a", "bc"].map(Bytes::from);
        assert_eq!(count::map(inputs.clone()).collect::<Result<Vec<_>>>(), Ok(vec![1, 2]));
        let doubled: Result<Vec<Bytes>> = double::map(inputs).collect();
        assert_eq!(doubled, Ok(["aa", "bcbc"].map(Bytes::from).to_vec()));
    }

    #[test]
    fn json_for_bytes_and_bytes_for_json_are_refused_with_the_way_out() {
        let failure = run("count", "application/json; charset=utf-8", b"1").expect_err("it is JSON");
        assert_eq!(failure.code, Code::InvalidInput);
        assert!(failure.message.contains("this function takes raw bytes"), "{failure}");
        let failure = run("zeros", "image/png", b"1").expect_err("it is not JSON");
        assert_eq!(failure.message, "the input is `image/png`, and this function takes `application/json`");
    }

    #[test]
    fn the_document_says_binary() {
        let document: Value = serde_json::from_str(&crate::describe()).expect("it is JSON");
        let functions = document["functions"].as_array().expect("there are some");
        let double = functions.iter().find(|function| function["name"] == "double").expect("it is there");
        assert_eq!(double["input"], bytes_schema());
        assert_eq!(double["output"], bytes_schema());
        assert_eq!(double["parameters"], json!(["data"]));
    }
}
