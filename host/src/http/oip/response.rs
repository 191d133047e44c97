//! Response of `infer`: JSON, followed by the data of the outputs that the request wants as binary.

use serde::{Serialize, Serializer};

use super::data::JsonElements;
use super::request::InferRequest;
use crate::wire::{Datatype, Tensor};

/// Version of every model: there is one.
pub(crate) const MODEL_VERSION: &str = "1";

/// Body of a response.
#[derive(Debug)]
pub(crate) struct EncodedResponse {
    pub body: Vec<u8>,
    /// Length of the JSON, where binary data follows it.
    pub header_length: Option<usize>,
}

/// Outputs that cannot be written as requested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ResponseError {
    #[error("model `{model}` gave no output `{output}`")]
    Missing { model: String, output: String },
    #[error("{source}; ask for it with `binary_data`")]
    Json {
        #[source]
        source: serde_json::Error,
    },
}

/// Writes the outputs of a model, as `request` wants them.
pub(crate) fn write(model: &str, request: &InferRequest, tensors: &[Tensor]) -> Result<EncodedResponse, ResponseError> {
    let outputs: Vec<(&Tensor, bool)> = if request.outputs.is_empty() {
        tensors.iter().map(|tensor| (tensor, request.is_binary)).collect()
    } else {
        let wanted = request.outputs.iter().map(|output| {
            let tensor = tensors.iter().find(|tensor| tensor.name == output.name);
            let missing = || ResponseError::Missing { model: model.to_owned(), output: output.name.clone() };
            Ok((tensor.ok_or_else(missing)?, output.is_binary))
        });
        wanted.collect::<Result<_, _>>()?
    };
    let is_mixed = outputs.iter().any(|(_, is_binary)| *is_binary);
    let response = Response {
        model_name: model,
        model_version: MODEL_VERSION,
        id: request.id.as_deref(),
        outputs: outputs.iter().map(|&(tensor, is_binary)| Output::new(tensor, is_binary)).collect(),
    };
    let mut body = serde_json::to_vec(&response).map_err(|source| ResponseError::Json { source })?;
    let header_length = is_mixed.then_some(body.len());
    for (tensor, _) in outputs.iter().filter(|(_, is_binary)| *is_binary) {
        body.extend_from_slice(&tensor.data);
    }
    Ok(EncodedResponse { body, header_length })
}

#[derive(Serialize)]
struct Response<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    #[serde(serialize_with = "by_name")]
    datatype: Datatype,
    shape: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<JsonElements<'a>>,
}

#[derive(Serialize)]
struct Parameters {
    binary_data_size: usize,
}

impl<'a> Output<'a> {
    fn new(tensor: &'a Tensor, is_binary: bool) -> Self {
        Self {
            name: &tensor.name,
            datatype: tensor.datatype,
            shape: &tensor.shape,
            parameters: is_binary.then_some(Parameters { binary_data_size: tensor.data.len() }),
            data: (!is_binary).then_some(JsonElements(tensor)),
        }
    }
}

fn by_name<S: Serializer>(datatype: &Datatype, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(datatype.as_str())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::request;
    use super::*;

    fn tensors() -> [Tensor; 2] {
        let scores = [0.25f32, -1.0].map(f32::to_le_bytes).concat();
        [
            Tensor { name: "scores".into(), datatype: Datatype::Fp32, shape: vec![1, 2], data: scores.into() },
            Tensor {
                name: "label".into(),
                datatype: Datatype::Bytes,
                shape: vec![1],
                data: Bytes::from_static(b"\x02\0\0\0ok"),
            },
        ]
    }

    fn respond(request: &str) -> Result<EncodedResponse, ResponseError> {
        write("m", &request::parse(&Bytes::copy_from_slice(request.as_bytes()), None).unwrap(), &tensors())
    }

    #[track_caller]
    fn check(request: &str, json: &str, binary: &[u8]) {
        let EncodedResponse { body, header_length } = respond(request).unwrap();
        let (head, rest) = body.split_at(header_length.unwrap_or(body.len()));
        assert_eq!((std::str::from_utf8(head).unwrap(), rest), (json, binary));
    }

    #[test]
    fn outputs_are_written_as_they_are_wanted() {
        let scores = r#"{"name":"scores","datatype":"FP32","shape":[1,2],"data":[0.25,-1.0]}"#;
        let label = r#"{"name":"label","datatype":"BYTES","shape":[1],"data":["ok"]}"#;
        let binary = r#"{"name":"scores","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}"#;
        let data = &tensors()[0].data;
        let head = r#"{"model_name":"m","model_version":"1""#;
        check(r#"{"inputs":[]}"#, &format!(r#"{head},"outputs":[{scores},{label}]}}"#), b"");
        check(
            r#"{"id":"7","inputs":[],"outputs":[{"name":"label"}],"parameters":{}}"#,
            &format!(r#"{head},"id":"7","outputs":[{label}]}}"#),
            b"",
        );
        check(
            r#"{"inputs":[],"outputs":[{"name":"label","parameters":{"binary_data":false}},{"name":"scores"}],"parameters":{"binary_data_output":true}}"#,
            &format!(r#"{head},"outputs":[{label},{binary}]}}"#),
            data,
        );
        let both = [data, &tensors()[1].data[..]].concat();
        let label = r#"{"name":"label","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}"#;
        check(
            r#"{"inputs":[],"parameters":{"binary_data_output":true}}"#,
            &format!(r#"{head},"outputs":[{binary},{label}]}}"#),
            &both,
        );
    }

    #[test]
    fn an_output_that_is_not_there_is_named() {
        let error = respond(r#"{"inputs":[],"outputs":[{"name":"embedding"}]}"#).unwrap_err();
        assert_eq!(error.to_string(), "model `m` gave no output `embedding`");
    }

    #[test]
    fn what_has_no_json_says_how_it_can_be_had() {
        let nan = Tensor {
            name: "x".into(),
            datatype: Datatype::Fp32,
            shape: vec![],
            data: f32::NAN.to_le_bytes().to_vec().into(),
        };
        let request = request::parse(&Bytes::from_static(br#"{"inputs":[]}"#), None).unwrap();
        let error = write("m", &request, &[nan]).unwrap_err().to_string();
        assert!(error.contains("not finite") && error.contains("`binary_data`"), "{error}");
    }
}
