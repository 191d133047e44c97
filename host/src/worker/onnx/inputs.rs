//! Inputs of a request, checked against those of the model.

use std::collections::HashMap;

use super::file::{Dim, Port};
use crate::wire::{Datatype, Tensor, TensorError, TensorSpec};

/// Tensors that are not the inputs of the model.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum InputError {
    #[error("input `{}` ({} of shape {:?}) is missing", spec.name, spec.datatype, spec.shape)]
    Missing { spec: TensorSpec },
    #[error("the model has no input `{name}`; it takes {}", listed(inputs))]
    Unknown { name: String, inputs: Vec<String> },
    #[error("input `{name}` is there twice")]
    Twice { name: String },
    #[error("input `{name}` is {found}, not {expected}")]
    Datatype { name: String, found: Datatype, expected: Datatype },
    #[error("input `{name}` has shape {found:?}, not {expected:?} (-1 is any length)")]
    Shape { name: String, found: Vec<u64>, expected: Vec<i64> },
    #[error("input `{name}` has {found} along `{dimension}`, and input `{other}` has {other_found}")]
    Dimension { name: String, dimension: String, found: u64, other: String, other_found: u64 },
    #[error("input `{name}` has an empty dimension in its shape {found:?}")]
    Empty { name: String, found: Vec<u64> },
    #[error("input `{name}` has {value} at {at}; a BOOL is 0 or 1")]
    Bool { name: String, at: usize, value: u8 },
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Returns an item's tensors in the order of the model's inputs.
pub(super) fn ordered<'a>(ports: &[Port], item: &'a [Tensor]) -> Result<Vec<&'a Tensor>, InputError> {
    let mut places: Vec<Option<&Tensor>> = vec![None; ports.len()];
    for tensor in item {
        let Some(place) = ports.iter().position(|port| port.name == tensor.name) else {
            let inputs = ports.iter().map(|port| port.name.clone()).collect();
            return Err(InputError::Unknown { name: tensor.name.clone(), inputs });
        };
        if places[place].replace(tensor).is_some() {
            return Err(InputError::Twice { name: tensor.name.clone() });
        }
    }
    let mut dimensions: HashMap<&str, (u64, &str)> = HashMap::new();
    let mut ordered = Vec::with_capacity(ports.len());
    for (port, tensor) in ports.iter().zip(places) {
        let tensor = tensor.ok_or_else(|| InputError::Missing { spec: port.spec() })?;
        check(port, tensor)?;
        for (dim, &length) in port.dims.iter().zip(&tensor.shape) {
            let Some(dimension) = dim.name() else { continue };
            let (other_found, other) = *dimensions.entry(dimension).or_insert((length, &port.name));
            if other_found != length {
                let (name, dimension, other) = (port.name.clone(), dimension.to_owned(), other.to_owned());
                return Err(InputError::Dimension { name, dimension, found: length, other, other_found });
            }
        }
        ordered.push(tensor);
    }
    Ok(ordered)
}

fn check(port: &Port, tensor: &Tensor) -> Result<(), InputError> {
    let name = || port.name.clone();
    if tensor.datatype != port.datatype {
        return Err(InputError::Datatype { name: name(), found: tensor.datatype, expected: port.datatype });
    }
    let fits = |(dim, &length): (&Dim, &u64)| !matches!(dim, Dim::Fixed(fixed) if *fixed != length);
    if tensor.shape.len() != port.dims.len() || !port.dims.iter().zip(&tensor.shape).all(fits) {
        let (found, expected) = (tensor.shape.clone(), port.spec().shape);
        return Err(InputError::Shape { name: name(), found, expected });
    }
    // Few operators are written with nothing in mind.
    if tensor.shape.contains(&0) {
        return Err(InputError::Empty { name: name(), found: tensor.shape.clone() });
    }
    tensor.check()?;
    // A Rust `bool` of another value is undefined behaviour.
    let wrong = |value: &u8| tensor.datatype == Datatype::Bool && *value > 1;
    match tensor.data.iter().position(wrong) {
        Some(at) => Err(InputError::Bool { name: name(), at, value: tensor.data[at] }),
        None => Ok(()),
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
