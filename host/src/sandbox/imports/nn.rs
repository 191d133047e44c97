//! `wasi:nn`: components written for it run unchanged. A graph is a model of the host, by name.
//!
//! Not here: models as bytes. The operator installs models, so `load` is refused.
//!
//! Invariant: a tensor's bytes count against the function's memory for as long as the guest has it. A tensor is checked
//! when it is computed with, because a constructor cannot refuse. `U8` stands for both `UINT8` and `BOOL`, which are
//! bytes.

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::inference::InferenceError;
use crate::sandbox::model_access::ModelError;
use crate::sandbox::state::CallState;
use crate::wire::{self, Datatype};

use self::bindings::errors::ErrorCode;
use self::bindings::tensor::TensorType;
use self::bindings::{errors, graph, inference, tensor};

/// Rust types and traits generated from the WIT of `wasi:nn`. In this file because its resources are.
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "bireme:host/nn",
        imports: { default: async | trappable },
        with: {
            "wasi:nn/tensor.tensor": crate::sandbox::imports::nn::Tensor,
            "wasi:nn/graph.graph": crate::sandbox::imports::nn::Graph,
            "wasi:nn/inference.graph-execution-context": crate::sandbox::imports::nn::ExecutionContext,
            "wasi:nn/errors.error": crate::sandbox::imports::nn::Error,
        },
    });

    pub(crate) use self::wasi::nn::{errors, graph, inference, tensor};
}

/// A guest's tensor.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub struct Tensor {
    dimensions: Vec<u32>,
    of: TensorType,
    data: Bytes,
}

/// A model that the guest may use.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub struct Graph {
    model: String,
}

/// A context to run a model in: its name alone, since models have no state.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub struct ExecutionContext {
    model: String,
}

/// An error with its code and text.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "generated bindings re-export it")]
pub struct Error {
    code: ErrorCode,
    data: String,
}

impl Tensor {
    /// Returns the memory that the host holds for it.
    fn bytes(&self) -> usize {
        self.data.len() + self.dimensions.len() * size_of::<u32>()
    }
}

/// Bytes of an error's text, which may quote the guest's input.
const ERROR_BYTES_MAX: usize = 2 << 10;

type HostResult<T> = wasmtime::Result<Result<T, Resource<Error>>>;

impl CallState {
    fn answer<T>(&mut self, result: Result<T, Error>) -> HostResult<T> {
        Ok(match result {
            Ok(answer) => Ok(answer),
            Err(mut error) => {
                error.data.truncate(error.data.floor_char_boundary(ERROR_BYTES_MAX));
                error.data.shrink_to_fit();
                Err(self.table.push(error)?)
            }
        })
    }

    /// Puts a tensor into the table; its bytes count against the function's memory.
    fn hold(&mut self, tensor: Tensor) -> wasmtime::Result<Resource<Tensor>> {
        self.limiter.hold(tensor.bytes())?;
        Ok(self.table.push(tensor)?)
    }

    fn release(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Tensor> {
        let tensor = self.table.delete(tensor)?;
        self.limiter.release(tensor.bytes());
        Ok(tensor)
    }
}

impl tensor::Host for CallState {}

impl tensor::HostTensor for CallState {
    async fn new(&mut self, dimensions: Vec<u32>, of: TensorType, data: Vec<u8>) -> wasmtime::Result<Resource<Tensor>> {
        self.hold(Tensor { dimensions, of, data: data.into() })
    }

    async fn dimensions(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&tensor)?.dimensions.clone())
    }

    async fn ty(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<TensorType> {
        Ok(self.table.get(&tensor)?.of)
    }

    async fn data(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&tensor)?.data.to_vec())
    }

    async fn drop(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<()> {
        self.release(tensor).map(drop)
    }
}

impl graph::Host for CallState {
    async fn load(
        &mut self,
        _builder: Vec<Vec<u8>>,
        _encoding: graph::GraphEncoding,
        _target: graph::ExecutionTarget,
    ) -> HostResult<Resource<Graph>> {
        let data = "this host takes no models from components; its operator installs them, with `bireme models`: \
                    name one with `load-by-name`";
        self.answer(Err(Error { code: ErrorCode::UnsupportedOperation, data: data.to_owned() }))
    }

    async fn load_by_name(&mut self, name: String) -> HostResult<Resource<Graph>> {
        let model = &name;
        let described =
            self.call.request(model, async |inference, caller| inference.describe(model, &caller).await).await;
        match described {
            Ok(_) => Ok(Ok(self.table.push(Graph { model: name })?)),
            Err(refused) => self.answer(Err(Error::new(refused))),
        }
    }
}

impl graph::HostGraph for CallState {
    async fn init_execution_context(&mut self, graph: Resource<Graph>) -> HostResult<Resource<ExecutionContext>> {
        let model = self.table.get(&graph)?.model.clone();
        Ok(Ok(self.table.push(ExecutionContext { model })?))
    }

    async fn drop(&mut self, graph: Resource<Graph>) -> wasmtime::Result<()> {
        self.table.delete(graph)?;
        Ok(())
    }
}

impl inference::Host for CallState {}

impl inference::HostGraphExecutionContext for CallState {
    async fn compute(
        &mut self,
        context: Resource<ExecutionContext>,
        inputs: Vec<inference::NamedTensor>,
    ) -> HostResult<Vec<inference::NamedTensor>> {
        let model = self.table.get(&context)?.model.clone();
        // The context owns the inputs now, so they are released whatever the result.
        let inputs: wasmtime::Result<Vec<wire::Tensor>> =
            inputs.into_iter().map(|(name, tensor)| Ok(self.release(tensor)?.named(name))).collect();
        let (inputs, name) = (inputs?, &model);
        let inferred =
            self.call.request(name, async |inference, caller| inference.infer(name, inputs, &caller).await).await;
        let outputs = inferred.map_err(Error::new);
        let outputs =
            outputs.and_then(|inferred| inferred.tensors.into_iter().map(unnamed).collect::<Result<Vec<_>, _>>());
        match outputs {
            Ok(outputs) => {
                let held: wasmtime::Result<Vec<_>> =
                    outputs.into_iter().map(|(name, tensor)| Ok((name, self.hold(tensor)?))).collect();
                Ok(Ok(held?))
            }
            Err(error) => self.answer(Err(error)),
        }
    }

    async fn drop(&mut self, context: Resource<ExecutionContext>) -> wasmtime::Result<()> {
        self.table.delete(context)?;
        Ok(())
    }
}

impl errors::Host for CallState {}

impl errors::HostError for CallState {
    async fn code(&mut self, error: Resource<Error>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&error)?.code)
    }

    async fn data(&mut self, error: Resource<Error>) -> wasmtime::Result<String> {
        Ok(self.table.get(&error)?.data.clone())
    }

    async fn drop(&mut self, error: Resource<Error>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl Tensor {
    fn named(&self, name: String) -> wire::Tensor {
        let datatype = match self.of {
            TensorType::Fp16 => Datatype::Fp16,
            TensorType::Fp32 => Datatype::Fp32,
            TensorType::Fp64 => Datatype::Fp64,
            TensorType::Bf16 => Datatype::Bf16,
            TensorType::U8 => Datatype::Uint8,
            TensorType::I32 => Datatype::Int32,
            TensorType::I64 => Datatype::Int64,
        };
        let shape = self.dimensions.iter().copied().map(u64::from).collect();
        wire::Tensor { name, datatype, shape, data: self.data.clone() }
    }
}

/// Splits a model's output into name and tensor; an error for a type or shape that wasi:nn cannot express.
fn unnamed(tensor: wire::Tensor) -> Result<(String, Tensor), Error> {
    let unsupported = |what: String| Error {
        code: ErrorCode::UnsupportedOperation,
        data: format!("output `{}` has {what}, which wasi:nn has no word for; bireme:host/inference has", tensor.name),
    };
    let of = match tensor.datatype {
        Datatype::Fp16 => TensorType::Fp16,
        Datatype::Fp32 => TensorType::Fp32,
        Datatype::Fp64 => TensorType::Fp64,
        Datatype::Bf16 => TensorType::Bf16,
        Datatype::Uint8 | Datatype::Bool => TensorType::U8,
        Datatype::Int32 => TensorType::I32,
        Datatype::Int64 => TensorType::I64,
        other => return Err(unsupported(format!("the type {other}"))),
    };
    let dimensions: Result<Vec<u32>, _> = tensor.shape.iter().map(|&length| u32::try_from(length)).collect();
    let dimensions = dimensions.map_err(|_| unsupported(format!("the shape {:?}", tensor.shape)))?;
    Ok((tensor.name, Tensor { dimensions, of, data: tensor.data }))
}

impl Error {
    fn new(refused: ModelError) -> Self {
        let code = match &refused {
            ModelError::NotDeclared { .. } | ModelError::NotGranted { .. } => ErrorCode::Security,
            ModelError::Budget(_) => ErrorCode::RuntimeError,
            ModelError::Inference(error) => match error {
                InferenceError::UnknownModel { .. } => ErrorCode::NotFound,
                InferenceError::BadInput { .. } | InferenceError::TooLong { .. } => ErrorCode::InvalidArgument,
                InferenceError::Deadline => ErrorCode::Timeout,
                InferenceError::Overloaded { .. }
                | InferenceError::DeviceLost { .. }
                | InferenceError::Unavailable { .. } => ErrorCode::RuntimeError,
            },
        };
        let data = match &refused {
            ModelError::Inference(error) => error.public_message(),
            other => other.to_string(),
        };
        Self { code, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(datatype: Datatype, shape: &[u64]) -> Result<(Vec<u32>, TensorType), ErrorCode> {
        let tensor = wire::Tensor { name: "y".into(), datatype, shape: shape.to_vec(), data: Bytes::new() };
        unnamed(tensor).map(|(_, tensor)| (tensor.dimensions, tensor.of)).map_err(|error| error.code)
    }

    #[test]
    fn what_has_no_word_is_refused_by_name() {
        assert_eq!(check(Datatype::Int64, &[2, 3]), Ok((vec![2, 3], TensorType::I64)));
        assert_eq!(check(Datatype::Bool, &[]), Ok((vec![], TensorType::U8)));
        assert_eq!(check(Datatype::Bytes, &[1]), Err(ErrorCode::UnsupportedOperation));
        assert_eq!(check(Datatype::Fp32, &[1 << 32, 0]), Err(ErrorCode::UnsupportedOperation));
    }

    #[test]
    fn a_type_goes_there_and_back() {
        for of in [
            TensorType::Fp16,
            TensorType::Fp32,
            TensorType::Fp64,
            TensorType::Bf16,
            TensorType::U8,
            TensorType::I32,
            TensorType::I64,
        ] {
            let tensor = Tensor { dimensions: vec![0], of, data: Bytes::new() };
            assert_eq!(unnamed(tensor.named("x".into())).unwrap().1.of, of);
        }
    }
}
