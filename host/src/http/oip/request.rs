//! Request of `infer`: JSON, followed by the binary data of the inputs that declare some.
//!
//! The JSON is the Open Inference Protocol's `inference_request`; `binary_data_size`, `binary_data` and
//! `binary_data_output` are those of Triton's binary tensor data extension, `priority` and `timeout` those of its
//! schedule policy extension. Unknown parameters are ignored, as models define their own; those that would change the
//! meaning or the destination of the response (sequences, shared memory, classification) are refused.
//!
//! Not here: elements as JSON (`data`), inference itself.
//!
//! Limits: `TENSORS_MAX` inputs and outputs, `RANK_MAX` dimensions. Binary data is shared with the body, not copied.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::data::{self, DataError};
use crate::call::Priority;
use crate::wire::{Datatype, RANK_MAX, TENSORS_MAX, Tensor, TensorError};

/// Inference request to one model.
#[derive(Debug)]
pub(crate) struct InferRequest {
    /// Echoed in the response.
    pub id: Option<String>,
    pub inputs: Vec<Tensor>,
    /// Empty for all outputs.
    pub outputs: Vec<RequestedOutput>,
    /// Whether outputs that are not in `outputs` are binary.
    pub is_binary: bool,
    pub priority: Priority,
    /// None for the default.
    pub timeout: Option<Duration>,
}

impl InferRequest {
    /// Returns a request for all outputs, by default settings.
    pub(crate) fn of(inputs: Vec<Tensor>) -> Self {
        Self { id: None, inputs, outputs: Vec::new(), is_binary: false, priority: Priority::Normal, timeout: None }
    }
}

/// Output that the request names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestedOutput {
    pub name: String,
    pub is_binary: bool,
}

/// Body that is not a valid request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RequestError {
    #[error("the request's JSON is said to have {length} bytes, and the body has {body}")]
    HeaderLength { length: usize, body: usize },
    #[error("the request is not what the protocol says: {source}")]
    Json {
        #[source]
        source: serde_json::Error,
    },
    #[error("input `{name}` has datatype `{datatype}`; there are {}", Datatype::ALL.map(Datatype::as_str).join(", "))]
    Datatype { name: String, datatype: String },
    #[error("input `{name}`: {source}")]
    Data {
        name: String,
        #[source]
        source: DataError,
    },
    #[error("input `{name}` has neither `data` nor a `binary_data_size`")]
    NoData { name: String },
    #[error("input `{name}` has both `data` and a `binary_data_size`")]
    TwiceData { name: String },
    #[error("input `{name}` has binary data, and the request no `inference-header-content-length`")]
    NoHeaderLength { name: String },
    #[error("input `{name}` is said to have {asked} bytes of binary data, and {left} are left of the body")]
    CutOff { name: String, asked: u64, left: usize },
    #[error("{left} bytes of binary data belong to no input")]
    LeftOver { left: usize },
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error("output `{name}` is asked for twice")]
    OutputTwice { name: String },
    #[error("this host does not do {what} (`{parameter}`)")]
    Unsupported { what: &'static str, parameter: &'static str },
}

/// Parses a body; the first `header_length` bytes are its JSON, or all.
pub(crate) fn parse(body: &Bytes, header_length: Option<usize>) -> Result<InferRequest, RequestError> {
    let length = header_length.unwrap_or(body.len());
    let json = body.get(..length).ok_or(RequestError::HeaderLength { length, body: body.len() })?;
    let request: Request<'_> = serde_json::from_slice(json).map_err(|source| RequestError::Json { source })?;
    let parameters = request.parameters.unwrap_or_default();
    refuse(parameters.sequence_id.is_some(), "sequences of requests", "sequence_id")?;

    let mut binary = Binary { body, at: length, is_declared: header_length.is_some() };
    let inputs = request.inputs.0.into_iter().map(|input| input.tensor(&mut binary)).collect::<Result<_, _>>()?;
    if binary.at < body.len() {
        return Err(RequestError::LeftOver { left: body.len() - binary.at });
    }

    let is_binary = parameters.binary_data_output.unwrap_or(false);
    let mut outputs: Vec<RequestedOutput> = Vec::new();
    for Output { name, parameters } in request.outputs.unwrap_or_default().0 {
        let parameters = parameters.unwrap_or_default();
        refuse(parameters.classification.is_some_and(|count| count > 0), "classification", "classification")?;
        refuse(parameters.shared_memory_region.is_some(), "shared memory", "shared_memory_region")?;
        if outputs.iter().any(|output| output.name == name) {
            return Err(RequestError::OutputTwice { name });
        }
        outputs.push(RequestedOutput { name, is_binary: parameters.binary_data.unwrap_or(is_binary) });
    }

    let priority = match parameters.priority.unwrap_or(0) {
        0 | 2 => Priority::Normal,
        1 => Priority::High,
        _ => Priority::Low,
    };
    let timeout = parameters.timeout.filter(|&timeout| timeout > 0).map(Duration::from_micros);
    Ok(InferRequest { id: request.id, inputs, outputs, is_binary, priority, timeout })
}

fn refuse(is_there: bool, what: &'static str, parameter: &'static str) -> Result<(), RequestError> {
    if is_there { Err(RequestError::Unsupported { what, parameter }) } else { Ok(()) }
}

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<String>,
    parameters: Option<RequestParameters>,
    #[serde(borrow)]
    inputs: BoundedVec<Input<'a>, TENSORS_MAX>,
    outputs: Option<BoundedVec<Output, TENSORS_MAX>>,
}

#[derive(Default, Deserialize)]
struct RequestParameters {
    binary_data_output: Option<bool>,
    priority: Option<u64>,
    /// Microseconds.
    timeout: Option<u64>,
    sequence_id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: BoundedVec<u64, RANK_MAX>,
    datatype: String,
    parameters: Option<InputParameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    binary_data_size: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    parameters: Option<OutputParameters>,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
}

/// Bytes after the JSON.
struct Binary<'a> {
    body: &'a Bytes,
    /// Offset of the next input's data.
    at: usize,
    is_declared: bool,
}

impl Input<'_> {
    fn tensor(self, binary: &mut Binary<'_>) -> Result<Tensor, RequestError> {
        let Self { name, shape: BoundedVec(shape), datatype, parameters, data } = self;
        let parameters = parameters.unwrap_or_default();
        refuse(parameters.shared_memory_region.is_some(), "shared memory", "shared_memory_region")?;
        let Some(datatype) = Datatype::parse(&datatype) else {
            return Err(RequestError::Datatype { name, datatype });
        };
        let data = match (data, parameters.binary_data_size) {
            (Some(json), None) => match data::read(json, datatype, &shape) {
                Ok(data) => data,
                Err(source) => return Err(RequestError::Data { name, source }),
            },
            (None, Some(_)) if !binary.is_declared => return Err(RequestError::NoHeaderLength { name }),
            (None, Some(asked)) => {
                let left = binary.body.len() - binary.at;
                let Some(asked) = usize::try_from(asked).ok().filter(|&asked| asked <= left) else {
                    return Err(RequestError::CutOff { name, asked, left });
                };
                let begin = binary.at;
                binary.at += asked;
                binary.body.slice(begin..binary.at)
            }
            (None, None) => return Err(RequestError::NoData { name }),
            (Some(_), Some(_)) => return Err(RequestError::TwiceData { name }),
        };
        let tensor = Tensor { name, datatype, shape, data };
        tensor.check()?;
        Ok(tensor)
    }
}

/// Array of at most `MAX` elements: one more is refused before it is parsed.
struct BoundedVec<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for BoundedVec<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedVec<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
            type Value = BoundedVec<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while elements.len() < MAX {
                    match array.next_element()? {
                        Some(element) => elements.push(element),
                        None => return Ok(BoundedVec(elements)),
                    }
                }
                match array.next_element::<IgnoredAny>()? {
                    None => Ok(BoundedVec(elements)),
                    Some(_) => Err(A::Error::custom(format_args!("an array of more than {MAX} elements"))),
                }
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses JSON, and the binary data behind it if there is any.
    fn body(json: &str, binary: Option<&[u8]>) -> Result<InferRequest, RequestError> {
        let body = [json.as_bytes(), binary.unwrap_or_default()].concat();
        parse(&body.into(), binary.map(|_| json.len()))
    }

    /// A request with this one input, less its name.
    fn input(rest: &str) -> String {
        format!(r#"{{"inputs":[{{"name":"x",{rest}}}]}}"#)
    }

    #[track_caller]
    fn check_refused(json: &str, binary: Option<&[u8]>, message: &str) {
        let error = body(json, binary).unwrap_err().to_string();
        assert!(error.contains(message), "no `{message}` in `{error}`");
    }

    #[test]
    fn binary_data_follows_in_the_order_of_the_inputs() {
        // Triton's own example, with an input of JSON between the two.
        let json = r#"{"model_name":"mymodel","inputs":[
            {"name":"input0","shape":[2,2],"datatype":"UINT32","parameters":{"binary_data_size":16}},
            {"name":"between","shape":[2],"datatype":"INT8","data":[1,-1],"parameters":{"content_type":"np"}},
            {"name":"input1","shape":[3],"datatype":"BOOL","parameters":{"binary_data_size":3}}],
            "outputs":[{"name":"output0","parameters":{"binary_data":true}}]}"#;
        let request = body(json, Some(&[&[7; 16][..], &[1, 0, 1]].concat())).unwrap();
        let data: Vec<&[u8]> = request.inputs.iter().map(|input| &input.data[..]).collect();
        assert_eq!(data, [&[7; 16][..], &[1, 255], &[1, 0, 1]]);
        assert_eq!(request.outputs, [RequestedOutput { name: "output0".into(), is_binary: true }]);
    }

    #[test]
    fn binary_data_is_not_copied() {
        let json = input(r#""shape":[4],"datatype":"FP16","parameters":{"binary_data_size":8}"#);
        let body = Bytes::from([json.as_bytes(), &[0; 8]].concat());
        let request = parse(&body, Some(json.len())).unwrap();
        assert_eq!(request.inputs[0].data.as_ptr(), body[json.len()..].as_ptr());
    }

    #[test]
    fn parameters_say_how_it_is_scheduled_and_answered() {
        let check = |parameters: &str, priority, timeout_us: Option<u64>, is_binary| {
            let request = body(&format!(r#"{{"id":"1","inputs":[],"parameters":{parameters}}}"#), None).unwrap();
            assert_eq!((request.priority, request.timeout), (priority, timeout_us.map(Duration::from_micros)));
            assert_eq!((request.is_binary, request.id.as_deref()), (is_binary, Some("1")));
        };
        check("null", Priority::Normal, None, false);
        check("{}", Priority::Normal, None, false);
        check(r#"{"priority":0,"timeout":0,"anything":{"at":["all"]}}"#, Priority::Normal, None, false);
        check(r#"{"priority":1,"timeout":1500000,"binary_data_output":true}"#, Priority::High, Some(1_500_000), true);
        check(r#"{"priority":2}"#, Priority::Normal, None, false);
        check(
            r#"{"priority":18446744073709551615,"timeout":18446744073709551615}"#,
            Priority::Low,
            Some(u64::MAX),
            false,
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (json, message) in [
            ("", "not what the protocol says: EOF"),
            ("[]", "not what the protocol says"),
            ("{}", "missing field `inputs`"),
            (r#"{"inputs":{}}"#, "expected an array of at most 256 elements"),
            (r#"{"inputs":[{}]}"#, "missing field `name`"),
            (r#"{"inputs":[],"inputs":[]}"#, "duplicate field `inputs`"),
            (r#"{"inputs":[]} {}"#, "trailing characters"),
            (r#"{"inputs":[],"id":7}"#, "expected a string"),
            (r#"{"inputs":[],"parameters":[]}"#, "not what the protocol says"),
            (r#"{"inputs":[],"parameters":{"priority":-1}}"#, "expected u64"),
            (r#"{"inputs":[],"parameters":{"timeout":1.5}}"#, "expected u64"),
            (r#"{"inputs":[],"parameters":{"binary_data_output":"yes"}}"#, "expected a boolean"),
            (r#"{"inputs":[],"parameters":{"sequence_id":7}}"#, "sequences of requests (`sequence_id`)"),
            (r#"{"inputs":[],"outputs":[{"name":"a"},{"name":"a"}]}"#, "output `a` is asked for twice"),
            (r#"{"inputs":[],"outputs":[{"name":"a","parameters":{"classification":3}}]}"#, "classification"),
            (r#"{"inputs":[],"outputs":[{"name":"a","parameters":{"shared_memory_region":"r"}}]}"#, "shared memory"),
        ] {
            check_refused(json, None, message);
        }
        for (rest, message) in [
            (r#""shape":[1],"datatype":"INT8""#, "input `x` has neither `data` nor"),
            (r#""shape":[1],"datatype":"INT8","data":null"#, "input `x` has neither `data` nor"),
            (r#""shape":[1],"datatype":"int8","data":[1]"#, "input `x` has datatype `int8`; there are BOOL, UINT8"),
            (r#""shape":[-1],"datatype":"INT8","data":[1]"#, "expected u64"),
            (r#""shape":[1.0],"datatype":"INT8","data":[1]"#, "expected u64"),
            (r#""shape":[18446744073709551616],"datatype":"INT8","data":[1]"#, "expected u64"),
            (r#""shape":[4294967296,4294967296,4],"datatype":"INT8","data":[1]"#, "more elements than its `data`"),
            (r#""shape":[2],"datatype":"INT8","data":[1]"#, "input `x`: its shape makes more elements"),
            (r#""shape":[1],"datatype":"INT8","data":[1],"parameters":{"binary_data_size":1}"#, "both `data` and"),
            (
                r#""shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}"#,
                "no `inference-header-content-length`",
            ),
            (r#""shape":[1],"datatype":"INT8","parameters":{"shared_memory_region":"r"}"#, "shared memory"),
            (r#""shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"datatype":"INT8","data":[1]"#, "more than 16 elements"),
        ] {
            check_refused(&input(rest), None, message);
        }
        let long = "x".repeat(257);
        check_refused(
            &format!(r#"{{"inputs":[{{"name":"{long}","shape":[0],"datatype":"INT8","data":[]}}]}}"#),
            None,
            "257 bytes long",
        );
    }

    #[test]
    fn sizes_that_lie_are_refused() {
        let sized = |shape: &str, datatype: &str, size: &str| {
            input(&format!(r#""shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}"#))
        };
        let check = |json: String, binary: &[u8], message: &str| check_refused(&json, Some(binary), message);
        check(sized("[2]", "FP32", "8"), &[0; 7], "said to have 8 bytes of binary data, and 7 are left");
        check(sized("[2]", "FP32", "8"), &[0; 9], "1 bytes of binary data belong to no input");
        check(sized("[2]", "FP32", "4"), &[0; 4], "has 4 bytes, not 8");
        check(sized("[2]", "FP32", "18446744073709551615"), &[0; 8], "18446744073709551615 bytes");
        check(sized("[2]", "FP32", "-1"), &[0; 8], "expected u64");
        check(sized("[18446744073709551615,2]", "UINT8", "0"), &[], "more elements than can be counted");
        check(sized("[4611686018427387905]", "FP32", "4"), &[0; 4], "more elements than can be counted");
        // Elements of BYTES that lie about their lengths, or are more or fewer than the shape says.
        check(sized("[1]", "BYTES", "5"), &[255, 255, 255, 255, 0], "do not end where its data does");
        check(sized("[1]", "BYTES", "5"), &[2, 0, 0, 0, 0], "do not end where its data does");
        check(sized("[2]", "BYTES", "4"), &[0; 4], "do not end where its data does");
        check(sized("[1]", "BYTES", "8"), &[0; 8], "do not end where its data does");
        check(sized("[1]", "BYTES", "3"), &[0; 3], "do not end where its data does");
        check(r#"{"inputs":[]}"#.into(), &[0], "1 bytes of binary data belong to no input");

        let error = parse(&Bytes::from_static(b"{}"), Some(3)).unwrap_err();
        assert_eq!(error.to_string(), "the request's JSON is said to have 3 bytes, and the body has 2");
        assert!(parse(&Bytes::from_static(b"{}"), Some(usize::MAX)).is_err());
        assert!(parse(&Bytes::from_static(b"\0\0\0\0"), Some(0)).is_err());
    }

    #[test]
    fn more_of_anything_than_its_limit_is_refused_at_the_limit() {
        let inputs = |count: usize| {
            let inputs = vec![r#"{"name":"x","shape":[0],"datatype":"INT8","data":[]}"#; count];
            format!(r#"{{"inputs":[{}]}}"#, inputs.join(","))
        };
        assert_eq!(body(&inputs(TENSORS_MAX), None).unwrap().inputs.len(), TENSORS_MAX);
        check_refused(&inputs(TENSORS_MAX + 1), None, "an array of more than 256 elements");
        let outputs = vec![r#"{"name":"x"}"#; TENSORS_MAX + 1].join(",");
        check_refused(&format!(r#"{{"inputs":[],"outputs":[{outputs}]}}"#), None, "an array of more than 256 elements");
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = "[".repeat(1_000_000);
        for json in [
            deep.clone(),
            format!(r#"{{"inputs":{deep}"#),
            format!(r#"{{"ignored":{deep}"#),
            format!(r#"{{"inputs":[],"parameters":{{"x":{deep}"#),
            format!(r#"{{"inputs":[],"parameters":{{"sequence_id":{deep}"#),
            input(&format!(r#""shape":[1],"datatype":"INT8","data":{deep}{}"#, "]".repeat(1_000_000))),
            input(&format!(r#""datatype":"INT8","data":[1],"shape":{deep}{}"#, "]".repeat(1_000_000))),
        ] {
            assert!(body(&json, None).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64), length in 0usize..80) {
            let _ = parse(&bytes.into(), Some(length));
        }

        #[test]
        fn a_request_survives_no_change_of_a_byte_unnoticed(at in 0usize..300, byte: u8, cut in 0usize..300) {
            let json = r#"{"id":"a","inputs":[{"name":"x","shape":[2,1],"datatype":"BYTES","parameters":{"binary_data_size":11}},{"name":"y","shape":[2],"datatype":"INT16","data":[1,-2]}],"outputs":[{"name":"z"}]}"#;
            let mut bytes = [json.as_bytes(), &[1, 0, 0, 0, b'a', 2, 0, 0, 0, b'b', b'c']].concat();
            prop_assert!(parse(&bytes.clone().into(), Some(json.len())).is_ok());
            let at = at % bytes.len();
            bytes[at] = byte;
            // A body that still parses has only consistent tensors.
            if let Ok(request) = parse(&bytes.clone().into(), Some(json.len())) {
                for input in &request.inputs {
                    prop_assert_eq!(input.check(), Ok(()));
                }
            }
            bytes.truncate(cut % bytes.len());
            prop_assert!(parse(&bytes.into(), Some(json.len())).is_err());
        }
    }
}
