//! Conversions between the wire's tensors and the engine's.

use bytes::Bytes;
use tract_onnx::prelude::{DatumType, Tensor as Value};

use crate::wire::{Datatype, Tensor};

/// The engine's type for one of the wire's; strings and BF16 have none here.
pub(super) fn datum_of(datatype: Datatype) -> Option<DatumType> {
    Some(match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::Uint8 => DatumType::U8,
        Datatype::Uint16 => DatumType::U16,
        Datatype::Uint32 => DatumType::U32,
        Datatype::Uint64 => DatumType::U64,
        Datatype::Int8 => DatumType::I8,
        Datatype::Int16 => DatumType::I16,
        Datatype::Int32 => DatumType::I32,
        Datatype::Int64 => DatumType::I64,
        Datatype::Fp16 => DatumType::F16,
        Datatype::Fp32 => DatumType::F32,
        Datatype::Fp64 => DatumType::F64,
        Datatype::Bf16 | Datatype::Bytes => return None,
    })
}

/// The wire's type for one of the engine's. Its type for shapes is INT64 outside the engine.
pub(super) fn datatype_of(datum: DatumType) -> Option<Datatype> {
    if datum == DatumType::TDim {
        return Some(Datatype::Int64);
    }
    Datatype::ALL.into_iter().find(|datatype| datum_of(*datatype) == Some(datum.unquantized()))
}

/// Copies a checked tensor.
pub(super) fn to_value(tensor: &Tensor) -> Result<Value, String> {
    let name = &tensor.name;
    let datum = datum_of(tensor.datatype).ok_or_else(|| format!("`{name}` has a type that the engine has not"))?;
    let shape: Option<Vec<usize>> = tensor.shape.iter().map(|&length| usize::try_from(length).ok()).collect();
    let shape = shape.ok_or_else(|| format!("`{name}` is too large"))?;
    let mut value = Value::zero_dt(datum, &shape).map_err(|error| format!("`{name}`: {error:#}"))?;
    let bytes = value.as_bytes_mut();
    if bytes.len() != tensor.data.len() {
        return Err(format!("`{name}` has {} bytes, not {}", tensor.data.len(), bytes.len()));
    }
    bytes.copy_from_slice(&tensor.data);
    Ok(value)
}

pub(super) fn from_value(name: &str, value: &Value) -> Result<Tensor, String> {
    let unsupported = || format!("output `{name}` has the type {:?}, which cannot be sent", value.datum_type());
    let datatype = datatype_of(value.datum_type()).ok_or_else(unsupported)?;
    let cast;
    let value = if value.datum_type() == DatumType::TDim {
        cast = value.cast_to_dt(DatumType::I64).map_err(|error| format!("output `{name}`: {error:#}"))?;
        cast.as_ref()
    } else {
        value
    };
    let plain = value.as_plain_ram().ok_or_else(unsupported)?;
    let data = Bytes::copy_from_slice(plain.as_bytes());
    let tensor = Tensor {
        name: name.to_owned(),
        datatype,
        shape: value.shape().iter().map(|&length| length as u64).collect(),
        data,
    };
    tensor.check().map_err(|error| error.to_string())?;
    Ok(tensor)
}
