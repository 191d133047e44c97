//! Embeddings of texts or tokens, `POST /v1/embeddings`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use hyper::body::Incoming;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::endpoint::{Endpoint, EndpointResult, INPUTS_MAX, Usage, respond, set_inference_receipt};
use super::error::ApiError;
use crate::inference::{Inputs, Overflow};

#[derive(Deserialize)]
pub(super) struct Parameters {
    model: String,
    pub(super) input: Input,
    #[serde(default)]
    encoding_format: Option<Format>,
    dimensions: Option<usize>,
    /// Extension: true truncates inputs that are too long; else the request is refused.
    truncate: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Float,
    /// Bytes of the numbers, little-endian.
    Base64,
}

#[derive(Serialize)]
struct Embeddings {
    object: &'static str,
    data: Vectors,
    model: String,
    usage: Usage,
}

/// Vectors, concatenated.
struct Vectors {
    values: Vec<f32>,
    dimension: usize,
    format: Format,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    /// Not as doubles, which would print digits without meaning.
    Float(&'a [f32]),
    Base64(String),
}

/// Answers a request.
pub(crate) async fn create(endpoint: &Endpoint, request: Request<Incoming>) -> EndpointResult {
    let (parsed, caller, _body): (Parameters, _, _) = endpoint.read(request).await?;
    let inputs = parsed.input.0;
    if inputs.is_empty() {
        return Err(ApiError::invalid("`input` is empty", Some("input")));
    }
    let overflow = if parsed.truncate == Some(true) { Overflow::Truncate } else { Overflow::Reject };
    let embedded = endpoint.inference.embed(&parsed.model, inputs, overflow, &caller).await;
    let embedded = embedded.map_err(|error| ApiError::of_model(error, "input"))?;

    let whole = embedded.dimension as usize;
    let dimension = parsed.dimensions.unwrap_or(whole);
    if !(1..=whole).contains(&dimension) {
        let message = format!("`dimensions` is {dimension}; the vectors of `{}` have {whole}", parsed.model);
        return Err(ApiError::invalid(message, Some("dimensions")));
    }
    let values = truncated(embedded.values, whole, dimension);
    let format = parsed.encoding_format.unwrap_or_default();
    let about_bytes = values.len() * if matches!(format, Format::Float) { 13 } else { 6 };
    let data = Vectors { values, dimension, format };
    let usage = Usage::from(&embedded.receipt);
    let answer = Embeddings { object: "list", data, model: parsed.model, usage };
    let mut response = respond(answer, about_bytes).await;
    set_inference_receipt(&mut response, embedded.receipt);
    Ok(response)
}

/// Truncates vectors and normalises them to length 1.
fn truncated(values: Vec<f32>, whole: usize, dimension: usize) -> Vec<f32> {
    if dimension == whole {
        return values;
    }
    let mut short = Vec::with_capacity(values.len() / whole * dimension);
    for vector in values.chunks_exact(whole) {
        let vector = &vector[..dimension];
        let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        // A zero vector stays as it is.
        let length = if length > 0.0 { length } else { 1.0 };
        short.extend(vector.iter().map(|value| (f64::from(*value) / length) as f32));
    }
    short
}

impl Serialize for Vectors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vectors = self.values.chunks_exact(self.dimension).enumerate();
        serializer.collect_seq(vectors.map(|(index, vector)| {
            let embedding = match self.format {
                Format::Float => Vector::Float(vector),
                // The host is little-endian, as `wire` asserts.
                Format::Base64 => Vector::Base64(STANDARD.encode(bytemuck::cast_slice::<f32, u8>(vector))),
            };
            Item { object: "embedding", index, embedding }
        }))
    }
}

/// Input in one of four shapes: a text, a list of texts, a list of tokens, or a list of such lists.
pub(super) struct Input(pub(super) Inputs);

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of texts, a list of tokens, or a list of such lists")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Input, E> {
        Ok(Input(Inputs::Texts(vec![text.to_owned()])))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Input, A::Error> {
        let Some(first) = items.next_element::<Element>()? else {
            return Ok(Input(Inputs::Texts(Vec::new())));
        };
        Ok(Input(match first {
            Element::Text(first) => Inputs::Texts(rest(first, items, INPUTS_MAX)?),
            Element::Row(first) => Inputs::Tokens(rest(first, items, INPUTS_MAX)?),
            // Tokens of one text; the model bounds their number.
            Element::Token(first) => Inputs::Tokens(vec![rest(first, items, usize::MAX)?]),
        }))
    }
}

/// Parses the elements after the first, which are of its type.
fn rest<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(first: T, mut items: A, max: usize) -> Result<Vec<T>, A::Error> {
    let mut all = vec![first];
    while let Some(next) = items.next_element()? {
        if all.len() == max {
            return Err(de::Error::custom(format_args!("more than {max} inputs in one request")));
        }
        all.push(next);
    }
    Ok(all)
}

/// First element of a list.
enum Element {
    Text(String),
    Token(u32),
    Row(Vec<u32>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a token or a list of tokens")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, token: u64) -> Result<Element, E> {
                u32::try_from(token)
                    .map(Element::Token)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(token), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Element, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(items)).map(Element::Row)
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(json: &str) -> Result<Inputs, String> {
        serde_json::from_str::<Input>(json).map(|input| input.0).map_err(|error| error.to_string())
    }

    #[test]
    fn an_input_has_one_of_four_shapes() {
        let texts = |texts: &[&str]| Ok(Inputs::Texts(texts.iter().map(|&text| text.to_owned()).collect()));
        assert_eq!(input(r#""a""#), texts(&["a"]));
        assert_eq!(input(r#"["a", "b\n"]"#), texts(&["a", "b\n"]));
        assert_eq!(input("[]"), texts(&[]));
        assert_eq!(input("[1, 2]"), Ok(Inputs::Tokens(vec![vec![1, 2]])));
        assert_eq!(input("[[1], [], [2, 3]]"), Ok(Inputs::Tokens(vec![vec![1], vec![], vec![2, 3]])));
    }

    #[test]
    fn what_has_another_shape_is_refused_with_what_was_expected() {
        for (json, words) in [
            ("null", "expected a text, a list of texts"),
            ("7", "expected a text, a list of texts"),
            (r#"[{}]"#, "expected a text, a token or a list of tokens"),
            (r#"["a", 1]"#, "expected a string"),
            (r#"[1, "a"]"#, "expected u32"),
            ("[-1]", "expected a text, a token"),
            ("[4294967296]", "expected a text, a token"),
            ("[[1], 2]", "expected a sequence"),
        ] {
            let error = input(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
        let many = format!("[{}\"x\"]", "\"x\",".repeat(INPUTS_MAX));
        assert!(input(&many).unwrap_err().contains("more than 2048 inputs"));
        assert!(input(&many.replace("\"x\"", "7")).is_ok());
    }

    #[test]
    fn an_answer_prints_floats_as_short_as_they_are() {
        let answer = |format| {
            let data = Vectors { values: vec![0.1, -1e-8, 3.0, 0.0], dimension: 2, format };
            let usage = Usage { prompt_tokens: 3, total_tokens: 3 };
            let answer = Embeddings { object: "list", data, model: "m".to_owned(), usage };
            serde_json::to_string(&answer).unwrap()
        };
        let float = answer(Format::Float);
        assert!(float.contains(r#"{"object":"embedding","index":0,"embedding":[0.1,-1e-8]}"#), "{float}");
        assert!(float.ends_with(r#""model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#), "{float}");
        let base64 = answer(Format::Base64);
        assert!(base64.contains(r#""index":1,"embedding":"AABAQAAAAAA="}"#), "{base64}");
    }

    #[test]
    fn a_truncated_vector_has_length_1_again() {
        assert_eq!(truncated(vec![3.0, 4.0, 12.0, 0.0, 0.0, 1.0], 3, 2), [0.6, 0.8, 0.0, 0.0]);
    }
}
