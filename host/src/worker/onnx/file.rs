//! The file of a model, read as untrusted input.
//!
//! Limits: [`FILE_BYTES_MAX`] bytes, [`NODES_MAX`] nodes with those of inner graphs, the wire's limits of inputs,
//! outputs and dimensions; the name of a dimension is short, since the engine parses it as an expression, by recursion;
//! a constant given as a shape has at most [`FILLED_MAX`] elements. Weights lie in the file itself: references to other
//! files are refused, so no path can escape.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tract_onnx::Onnx;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto, tensor_shape_proto,
};
use tract_onnx::pb::{tensor_proto::DataLocation, type_proto};
use tract_onnx::prelude::{DatumType, Framework as _, InferenceModel, InferenceModelExt as _};

use super::values;
use crate::wire::{Datatype, NAME_BYTES_MAX, RANK_MAX, TENSORS_MAX, TensorSpec};

/// Longest file: a protobuf cannot be longer.
pub(crate) const FILE_BYTES_MAX: u64 = 2 << 30;
/// Nodes of a graph.
pub(crate) const NODES_MAX: usize = 100_000;
/// Elements of a tensor that a few bytes stand for.
pub(crate) const FILLED_MAX: u64 = 1 << 28;
const DIMENSION_NAME_BYTES_MAX: usize = 128;
/// Parentheses within each other in the name of a dimension.
const DIMENSION_NAME_DEPTH_MAX: usize = 8;

/// A file that is no model for this worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    #[error("`{}` cannot be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` is over the limit of {FILE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("`{}` is no ONNX file: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("tensor `{name}` keeps its data in another file; save the model as one file")]
    External { name: String },
    #[error("{what} `{name}` {problem}")]
    Refused { what: &'static str, name: String, problem: String },
    #[error("the graph has over {NODES_MAX} nodes")]
    Nodes,
    #[error("the graph has {inputs} inputs and {outputs} outputs, expected 1 to {TENSORS_MAX} of each")]
    Ports { inputs: usize, outputs: usize },
    #[error("the graph cannot be read: {reason}")]
    Graph { reason: String },
}

/// A dimension of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    Fixed(u64),
    /// Of equal length under the same name.
    Named(String),
    Free,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub name: String,
    pub datatype: Datatype,
    pub dims: Vec<Dim>,
}

pub(super) struct OnnxFile {
    pub graph: InferenceModel,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Bytes of all weights.
    pub weights: u64,
}

impl Dim {
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Fixed(_) | Self::Free => None,
        }
    }
}

impl Port {
    pub(crate) fn spec(&self) -> TensorSpec {
        let length = |dim: &Dim| match dim {
            Dim::Fixed(length) => i64::try_from(*length).unwrap_or(i64::MAX),
            Dim::Named(_) | Dim::Free => -1,
        };
        TensorSpec { name: self.name.clone(), datatype: self.datatype, shape: self.dims.iter().map(length).collect() }
    }
}

pub(super) fn read(path: &Path) -> Result<OnnxFile, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if read.map_err(unreadable)? as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    // Hints on inner shapes are left out: what follows from the inputs is enough, and files are wrong about them.
    let engine = tract_onnx::onnx().with_ignore_value_info(true);
    let malformed = |reason: String| FileError::Malformed { path: path.to_owned(), reason };
    let model = engine.proto_model_for_read(&mut bytes.as_slice()).map_err(|error| malformed(format!("{error:#}")))?;
    drop(bytes);
    let graph = model.graph.as_ref().ok_or_else(|| malformed("it has no graph".to_owned()))?;
    let mut walk = Walk { nodes: 0, weights: 0 };
    walk.graph(graph)?;

    let initialised = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|input| !initialised(&input.name)).collect();
    let (ins, outs) = (inputs.len(), graph.output.len());
    if !(1..=TENSORS_MAX).contains(&ins) || !(1..=TENSORS_MAX).contains(&outs) {
        return Err(FileError::Ports { inputs: ins, outputs: outs });
    }
    let inputs = inputs.into_iter().map(|input| declared("input", input)).collect::<Result<Vec<_>, _>>()?;
    let parsed = parse(&engine, &model)?;
    let outputs = outputs(graph, &parsed)?;
    Ok(OnnxFile { graph: parsed, inputs, outputs, weights: walk.weights })
}

fn parse(engine: &Onnx, model: &tract_onnx::pb::ModelProto) -> Result<InferenceModel, FileError> {
    // Without a directory, no external data can be read.
    let parsed = engine.parse(model, None).map_err(|error| FileError::Graph { reason: format!("{error:#}") })?;
    match parsed.unresolved_inputs.first() {
        None => Ok(parsed.model),
        Some(name) => Err(refused("value", name, "is used and nothing gives it")),
    }
}

/// Returns the outputs as the file declares them, or as its nodes imply.
fn outputs(graph: &GraphProto, parsed: &InferenceModel) -> Result<Vec<Port>, FileError> {
    let mut analysed = None;
    let mut ports = Vec::new();
    for (index, output) in graph.output.iter().enumerate() {
        match declared("output", output) {
            Ok(port) => ports.push(port),
            Err(error) => {
                let model = analysed.get_or_insert_with(|| {
                    let mut model = parsed.clone();
                    // A missing type is reported below.
                    let _ = model.analyse(true);
                    model
                });
                ports.push(inferred(model, index, &output.name).ok_or(error)?);
            }
        }
    }
    Ok(ports)
}

fn inferred(model: &InferenceModel, index: usize, name: &str) -> Option<Port> {
    use tract_onnx::tract_hir::infer::Factoid as _;
    let fact = model.output_fact(index).ok()?;
    let datatype = values::datatype_of(fact.datum_type.concretize()?)?;
    fact.shape.rank().concretize()?;
    let length = |dim: tract_onnx::tract_hir::infer::DimFact| {
        let length =
            dim.concretize().and_then(|length| length.to_i64().ok()).and_then(|length| u64::try_from(length).ok());
        length.map_or(Dim::Free, Dim::Fixed)
    };
    Some(Port { name: name.to_owned(), datatype, dims: fact.shape.dims().cloned().map(length).collect() })
}

/// Reads the type of an input or output.
fn declared(what: &'static str, info: &ValueInfoProto) -> Result<Port, FileError> {
    let refuse = |problem: &str| refused(what, &info.name, problem);
    if info.name.is_empty() || info.name.len() > NAME_BYTES_MAX {
        return Err(refuse(&format!("has a name of {} bytes, expected 1 to {NAME_BYTES_MAX}", info.name.len())));
    }
    let value = info.r#type.as_ref().and_then(|of| of.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else { return Err(refuse("is no tensor")) };
    let datum = tensor_proto::DataType::try_from(tensor.elem_type).ok().and_then(|of| DatumType::try_from(of).ok());
    let datatype = datum.and_then(values::datatype_of).ok_or_else(|| refuse("has a type that cannot be sent"))?;
    let shape = tensor.shape.as_ref().ok_or_else(|| refuse("says nothing of its shape"))?;
    if shape.dim.len() > RANK_MAX {
        return Err(refuse(&format!("has {} dimensions, over the limit of {RANK_MAX}", shape.dim.len())));
    }
    let length = |dim: &tensor_shape_proto::Dimension| match &dim.value {
        Some(tensor_shape_proto::dimension::Value::DimValue(length)) => {
            u64::try_from(*length).map_or(Dim::Free, Dim::Fixed)
        }
        // `unk__` and a number is what some exporters write for no name.
        Some(tensor_shape_proto::dimension::Value::DimParam(name))
            if is_identifier(name) && !name.starts_with("unk__") =>
        {
            Dim::Named(name.clone())
        }
        _ => Dim::Free,
    };
    Ok(Port { name: info.name.clone(), datatype, dims: shape.dim.iter().map(length).collect() })
}

/// Other names are expressions of some exporter's language.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn refused(what: &'static str, name: &str, problem: &str) -> FileError {
    let name = name.chars().take(NAME_BYTES_MAX).collect();
    FileError::Refused { what, name, problem: problem.to_owned() }
}

/// Checks everything that the engine would read.
struct Walk {
    nodes: usize,
    weights: u64,
}

impl Walk {
    // The decoder allows messages to be 100 deep, which bounds this.
    fn graph(&mut self, graph: &GraphProto) -> Result<(), FileError> {
        self.nodes += graph.node.len();
        if self.nodes > NODES_MAX {
            return Err(FileError::Nodes);
        }
        for info in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
            dimension_names(info)?;
        }
        graph.initializer.iter().try_for_each(|tensor| self.tensor(tensor))?;
        let constants = constants(graph);
        for node in &graph.node {
            filled(node, &constants)?;
            node.attribute.iter().try_for_each(|attribute| self.attribute(attribute))?;
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &AttributeProto) -> Result<(), FileError> {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.tensor(tensor))?;
        attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.graph(graph))
    }

    fn tensor(&mut self, tensor: &TensorProto) -> Result<(), FileError> {
        if tensor.data_location == Some(DataLocation::External as i32) {
            return Err(FileError::External { name: tensor.name.clone() });
        }
        if tensor.dims.len() > RANK_MAX {
            let problem = format!("has {} dimensions, over the limit of {RANK_MAX}", tensor.dims.len());
            return Err(refused("tensor", &tensor.name, &problem));
        }
        let elements =
            tensor.dims.iter().try_fold(1u64, |product, &length| product.checked_mul(u64::try_from(length).ok()?));
        if elements.is_none() {
            return Err(refused("tensor", &tensor.name, "has a shape that cannot be counted"));
        }
        let bytes = tensor.raw_data.len()
            + 4 * (tensor.float_data.len() + tensor.int32_data.len())
            + 8 * (tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len());
        self.weights += bytes as u64;
        Ok(())
    }
}

fn dimension_names(info: &ValueInfoProto) -> Result<(), FileError> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|of| of.value.as_ref()) else {
        return Ok(());
    };
    for dim in tensor.shape.iter().flat_map(|shape| &shape.dim) {
        let Some(tensor_shape_proto::dimension::Value::DimParam(name)) = &dim.value else { continue };
        if name.len() > DIMENSION_NAME_BYTES_MAX || name.matches(['(', '[']).count() > DIMENSION_NAME_DEPTH_MAX {
            return Err(refused("value", &info.name, "has a dimension with too long a name"));
        }
    }
    Ok(())
}

/// The whole numbers that a graph has as constants: shapes are among them.
fn constants(graph: &GraphProto) -> HashMap<&str, Vec<i64>> {
    let of_nodes = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
        let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref())?;
        Some((node.output.first()?.as_str(), tensor))
    });
    let all = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).chain(of_nodes);
    all.filter(|(_, tensor)| tensor.data_type == tensor_proto::DataType::Int64 as i32)
        .map(|(name, tensor)| {
            let raw = tensor.raw_data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("eight")));
            // Shapes are short.
            (name, raw.chain(tensor.int64_data.iter().copied()).take(RANK_MAX + 1).collect())
        })
        .collect()
}

/// Refuses to fill a tensor of any size from a few bytes: the engine does so while it loads the graph.
fn filled(node: &NodeProto, constants: &HashMap<&str, Vec<i64>>) -> Result<(), FileError> {
    let shape = match node.op_type.as_str() {
        "ConstantOfShape" => node.input.first(),
        "Expand" | "Tile" => node.input.get(1),
        _ => None,
    };
    let Some(shape) = shape.and_then(|name| constants.get(name.as_str())) else { return Ok(()) };
    let elements = shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length.max(1).unsigned_abs()));
    if elements.is_some_and(|elements| elements <= FILLED_MAX) {
        return Ok(());
    }
    Err(refused(
        "node",
        &node.name,
        &format!("fills a tensor of shape {shape:?}, over the limit of {FILLED_MAX} elements"),
    ))
}
