//! `wasi:nn` by the words of its own WIT, as a component for any host of it would use them; each at a path of its own.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

use self::bindings::wasi::nn::errors::Error;
use self::bindings::wasi::nn::graph::{self, ExecutionTarget, GraphEncoding};
use self::bindings::wasi::nn::tensor::{Tensor, TensorType};

#[allow(unsafe_code, clippy::all, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit/deps/nn", world: "wasi:nn/ml" });
}

struct Stock;

#[allow(unsafe_code, reason = "generated")]
mod export {
    use super::Stock;
    wasip2::http::proxy::export!(Stock);
}

impl Guest for Stock {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let text = match parts[..] {
            ["named", model] => named(model),
            ["embed", model, ids] => embed(model, ids),
            ["wrong", model] => wrong(model),
            ["bytes"] => bytes(),
            ["tensor"] => tensor(),
            ["misfit", model] => misfit(model),
            ["hoard"] => {
                let tensors: Vec<Tensor> =
                    (0..1_000).map(|_| Tensor::new(&[1 << 20], TensorType::U8, &vec![0; 1 << 20])).collect();
                Ok(format!("{} MiB of tensors", tensors.len()))
            }
            ["again"] => {
                // One at a time; together they would be more than any call may have.
                (0..1_000).for_each(|_| drop(Tensor::new(&[1 << 20], TensorType::U8, &vec![0; 1 << 20])));
                Ok("1000 MiB in turn".to_owned())
            }
            _ => Ok("no such path".to_owned()),
        };
        let text = text.unwrap_or_else(|error| format!("{:?}: {}", error.code(), error.data()));
        finish(answer, text.as_bytes());
    }
}

fn named(model: &str) -> Result<String, Error> {
    graph::load_by_name(model)?.init_execution_context()?;
    Ok(format!("{model} is there"))
}

/// Runs an encoder over one row of ids, and tells each output.
fn embed(model: &str, ids: &str) -> Result<String, Error> {
    let ids: Vec<i64> = ids.split(',').map(|id| id.parse().unwrap()).collect();
    let shape = [1, ids.len() as u32];
    let tensor = |values: &[i64]| {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(&shape, TensorType::I64, &data)
    };
    let context = graph::load_by_name(model)?.init_execution_context()?;
    let inputs =
        vec![("input_ids".to_owned(), tensor(&ids)), ("attention_mask".to_owned(), tensor(&vec![1; ids.len()]))];
    let mut text = String::new();
    for (name, output) in context.compute(inputs)? {
        let values: Vec<f32> =
            output.data().chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect();
        text += &format!("{name} {:?} {:?}\n{values:?}\n", output.dimensions(), output.ty());
    }
    Ok(text)
}

/// Gives an input of a name and a type that no model has.
fn wrong(model: &str) -> Result<String, Error> {
    let context = graph::load_by_name(model)?.init_execution_context()?;
    let outputs = context.compute(vec![("nonsense".to_owned(), Tensor::new(&[1], TensorType::Bf16, &[0, 0]))])?;
    Ok(format!("{} outputs", outputs.len()))
}

/// Gives an input whose data is shorter than its dimensions say.
fn misfit(model: &str) -> Result<String, Error> {
    let context = graph::load_by_name(model)?.init_execution_context()?;
    let outputs = context.compute(vec![("input_ids".to_owned(), Tensor::new(&[1, 2], TensorType::I64, &[0; 15]))])?;
    Ok(format!("{} outputs", outputs.len()))
}

fn bytes() -> Result<String, Error> {
    graph::load(&[vec![8, 7, 18, 0]], GraphEncoding::Onnx, ExecutionTarget::Cpu)?;
    Ok("loaded".to_owned())
}

/// Every type, there and back.
fn tensor() -> Result<String, Error> {
    let types = [
        (TensorType::Fp16, 2),
        (TensorType::Fp32, 4),
        (TensorType::Fp64, 8),
        (TensorType::Bf16, 2),
        (TensorType::U8, 1),
        (TensorType::I32, 4),
        (TensorType::I64, 8),
    ];
    let kept = types.iter().all(|&(of, size)| {
        let data: Vec<u8> = (0..6 * size).map(|byte| byte as u8).collect();
        let tensor = Tensor::new(&[2, 3], of, &data);
        (tensor.dimensions(), tensor.ty(), tensor.data()) == (vec![2, 3], of, data)
    });
    Ok(format!("kept: {kept}"))
}

fn finish(answer: ResponseOutparam, bytes: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    for part in bytes.chunks(4_096) {
        if stream.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
