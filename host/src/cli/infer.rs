//! `bireme infer`: a model on named tensors, without an app.

mod file;
mod tensor;

use std::io::{self, IsTerminal};

use clap::Args;

use self::file::read;
use super::exit::Exit;
use super::global::Global;
use super::model::OnModel;
use super::{output, table};
use crate::codes::Code;
use crate::http::oip::{JsonElements, RequestError, parse_request, write_response};
use crate::inference::tensors;
use crate::limits::TENSORS_BODY_BYTES_MAX;
use crate::wire::{Signature, Tensor, TensorSpec};

/// Run an ONNX model on named tensors and print its outputs.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme infer silero-vad --tensor input=@sound.f32 --tensor state=0 --tensor sr=16000\n  bireme infer my-model --tensor 'x=[[1, 2], [3, 4]]' --json\n  bireme infer my-model < request.json"
)]
pub(crate) struct Infer {
    #[command(flatten)]
    on: OnModel,
    /// Input tensor as JSON, or as @FILE with its raw elements, little-endian. Its type is the model's. A lone number
    /// fills the shape that the model declares, with 1 for dimensions of any length; a flat array takes that shape.
    #[arg(long = "tensor", value_name = "NAME=VALUES")]
    tensors: Vec<String>,
    /// Read a whole request from FILE (`-` for standard input, the default without --tensor): JSON as for POST
    /// /v2/models/MODEL/infer, {"inputs": [{"name": …, "datatype": …, "shape": […], "data": […]}]}.
    #[arg(long, value_name = "FILE", conflicts_with = "tensors")]
    file: Option<String>,
}

impl Infer {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let body = match (&self.file, self.tensors.is_empty()) {
            (None, false) => None,
            // Without any input the answer is the list of inputs.
            (None, true) if io::stdin().is_terminal() => None,
            (file, _) => Some(read(file.as_deref().unwrap_or("-"), TENSORS_BODY_BYTES_MAX)?),
        };
        let request = body.map(|body| parse_request(&body, None)).transpose().map_err(invalid)?;
        let answer = self.on.ask(global, async |inference, model, caller| {
            let signature = inference.describe(model, caller).await?.signature;
            let inputs = input_specs(model, &signature)?;
            let mut request = match request {
                Some(request) => request,
                None => tensor::request(model, &inputs, &self.tensors)?,
            };
            let inferred = inference.infer(model, std::mem::take(&mut request.inputs), caller).await?;
            Ok::<_, Exit>((request, inferred.tensors))
        });
        let (request, tensors) = answer.await?;
        if global.json {
            let response = write_response(self.on.model(), &request, &tensors);
            let response = response.map_err(|error| Exit::new(Code::InvalidInput, error.to_string()))?;
            output::bytes_and_newline(&response.body);
        } else {
            let wanted = |tensor: &&Tensor| {
                request.outputs.is_empty() || request.outputs.iter().any(|output| output.name == tensor.name)
            };
            let rows: Result<Vec<_>, Exit> = tensors.iter().filter(wanted).map(row).collect();
            output::line(&table::fitted(&rows?, &[2]));
        }
        Ok(())
    }
}

/// Returns the inputs of a model of tensors; for an encoder, the command that fits it.
fn input_specs(model: &str, signature: &Signature) -> Result<Vec<TensorSpec>, Exit> {
    let (is, instead) = match signature {
        Signature::Tensors { .. } => return Ok(tensors::specs(signature).0),
        Signature::Vector { .. } => ("an embedding model, which takes texts", "embed"),
        Signature::Scores { labels: 1 } => ("a reranker, which takes texts", "rerank"),
        Signature::Scores { .. } => ("a classifier, which takes texts", "classify"),
    };
    let exit = Exit::new(Code::InvalidInput, format!("`{model}` is {is} and no named tensors"));
    Err(exit.hint(format!("use `bireme {instead} {model}`")))
}

/// Returns name, type with shape, and elements of an output.
fn row(tensor: &Tensor) -> Result<Vec<String>, Exit> {
    let elements = serde_json::to_string(&JsonElements(tensor))
        .map_err(|error| Exit::new(Code::InvalidInput, format!("the output cannot be printed: {error}")))?;
    Ok(vec![tensor.name.clone(), format!("{} {:?}", tensor.datatype, tensor.shape), elements])
}

fn invalid(error: RequestError) -> Exit {
    let example = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1]}]}"#;
    Exit::new(Code::InvalidInput, error.to_string()).hint(format!("a request is JSON such as {example}"))
}
