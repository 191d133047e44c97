//! Named tensors: plain data between guests, clients, the host and its workers.
//!
//! Elements are little-endian and in row-major order. [`Datatype::Bytes`] holds elements of any length, each with its
//! length before it as a `u32`; that and the names are the Open Inference Protocol's, so one layout serves every
//! interface.

use std::fmt;

use bytes::Bytes;

/// Dimensions of one tensor.
pub(crate) const RANK_MAX: usize = 16;
/// Bytes of a tensor's name.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Datatype {
    /// Booleans, one byte each: 0 or 1.
    Bool = 1,
    /// Unsigned integers of 8 bits.
    Uint8 = 2,
    /// Unsigned integers of 16 bits.
    Uint16 = 3,
    /// Unsigned integers of 32 bits.
    Uint32 = 4,
    /// Unsigned integers of 64 bits.
    Uint64 = 5,
    /// Signed integers of 8 bits.
    Int8 = 6,
    /// Signed integers of 16 bits.
    Int16 = 7,
    /// Signed integers of 32 bits.
    Int32 = 8,
    /// Signed integers of 64 bits.
    Int64 = 9,
    /// IEEE 754 floating point of 16 bits.
    Fp16 = 10,
    /// Brain floating point: the upper 16 bits of an `Fp32`.
    Bf16 = 11,
    /// IEEE 754 floating point of 32 bits.
    Fp32 = 12,
    /// IEEE 754 floating point of 64 bits.
    Fp64 = 13,
    /// Byte strings of any length, each behind its length as a `u32`.
    Bytes = 14,
}

impl Datatype {
    pub(crate) const ALL: [Datatype; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Returns the Open Inference Protocol's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// Returns the type of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.as_str() == name)
    }

    pub(super) fn of(word: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| *datatype as u32 == word)
    }

    /// Bytes of one element; none for [`Datatype::Bytes`].
    pub(crate) fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name of the input or output in the model, 256 bytes at most.
    pub name: String,
    /// Type of all elements.
    pub datatype: Datatype,
    /// Lengths of the dimensions, outermost first, 16 at most; empty for a single value.
    pub shape: Vec<u64>,
    /// Elements, little-endian and in row-major order.
    pub data: Bytes,
}

/// The declaration of an input or output; -1 is a dimension of any length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name of the input or output in the model, 256 bytes at most.
    pub name: String,
    /// Type of all elements.
    pub datatype: Datatype,
    /// Lengths of the dimensions, outermost first, 16 at most; -1 for any length.
    pub shape: Vec<i64>,
}

/// A tensor whose parts do not agree.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum TensorError {
    #[error("a tensor's name is {bytes} bytes long, over the limit of {NAME_BYTES_MAX}")]
    Name { bytes: usize },
    #[error("tensor `{name}` has {rank} dimensions, over the limit of {RANK_MAX}")]
    Rank { name: String, rank: usize },
    #[error("tensor `{name}` of shape {shape:?} and type {datatype} has {found} bytes, not {expected}")]
    Length { name: String, shape: Vec<u64>, datatype: Datatype, found: usize, expected: u64 },
    #[error("tensor `{name}` has more elements than can be counted")]
    Elements { name: String },
    #[error("the elements of tensor `{name}` do not end where its data does")]
    ByteElements { name: String },
}

impl Tensor {
    /// Returns the number of elements that its shape makes; none if that cannot be counted.
    pub(crate) fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length))
    }

    /// Returns its size in bytes, with shape and name.
    pub(crate) fn bytes(&self) -> usize {
        self.name.len() + self.data.len() + self.shape.len() * 8
    }

    /// Refuses data that does not match shape and type.
    pub(crate) fn check(&self) -> Result<(), TensorError> {
        if self.name.len() > NAME_BYTES_MAX {
            return Err(TensorError::Name { bytes: self.name.len() });
        }
        let name = || self.name.clone();
        if self.shape.len() > RANK_MAX {
            return Err(TensorError::Rank { name: name(), rank: self.shape.len() });
        }
        let elements = self.elements().ok_or_else(|| TensorError::Elements { name: name() })?;
        let Some(size) = self.datatype.size() else {
            // Counted, not collected: a reference is longer than the shortest element.
            let found = elements_of(&self.data).try_fold(0, |count, element| element.map(|_| count + 1));
            return if found == Some(elements) { Ok(()) } else { Err(TensorError::ByteElements { name: name() }) };
        };
        let expected = elements.checked_mul(size as u64).ok_or_else(|| TensorError::Elements { name: name() })?;
        if self.data.len() as u64 != expected {
            let (shape, datatype, found) = (self.shape.clone(), self.datatype, self.data.len());
            return Err(TensorError::Length { name: name(), shape, datatype, found, expected });
        }
        Ok(())
    }

    /// Returns the elements of a tensor of [`Datatype::Bytes`]; none for other types and for data that is cut off.
    pub(crate) fn byte_elements(&self) -> Option<Vec<&[u8]>> {
        if self.datatype == Datatype::Bytes { elements_of(&self.data).collect() } else { None }
    }
}

/// Splits data into its elements, each behind a `u32` length. Data that is cut off ends with `None`.
fn elements_of(mut data: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut is_cut = false;
    std::iter::from_fn(move || {
        if data.is_empty() || is_cut {
            return None;
        }
        let element = data
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
        is_cut = element.is_none();
        Some(element.map(|(element, rest)| {
            data = rest;
            element
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(datatype: Datatype, shape: &[u64], data: &[u8]) -> Tensor {
        Tensor { name: "x".into(), datatype, shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn names_lead_back_to_types() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::parse(datatype.as_str()), Some(datatype));
            assert_eq!(Datatype::of(datatype as u32), Some(datatype));
        }
        assert_eq!((Datatype::parse("fp32"), Datatype::of(0), Datatype::of(15)), (None, None, None));
    }

    #[test]
    fn data_is_held_against_the_shape() {
        assert_eq!(tensor(Datatype::Fp32, &[2, 2], &[0; 16]).check(), Ok(()));
        assert_eq!(tensor(Datatype::Fp32, &[], &[0; 4]).check(), Ok(()));
        assert_eq!(tensor(Datatype::Int64, &[0, 7], &[]).check(), Ok(()));
        let error = tensor(Datatype::Fp32, &[2, 2], &[0; 15]).check().unwrap_err();
        assert_eq!(error.to_string(), "tensor `x` of shape [2, 2] and type FP32 has 15 bytes, not 16");
        let error = tensor(Datatype::Uint8, &[u64::MAX, 2], &[]).check().unwrap_err();
        assert_eq!(error, TensorError::Elements { name: "x".into() });
        assert!(matches!(tensor(Datatype::Bool, &[1; 17], &[0]).check(), Err(TensorError::Rank { rank: 17, .. })));
    }

    #[test]
    fn elements_of_any_length_are_counted() {
        let data = [&[2, 0, 0, 0][..], b"ab", &[0; 4]].concat();
        let two = tensor(Datatype::Bytes, &[2], &data);
        assert_eq!((two.check(), two.byte_elements()), (Ok(()), Some(vec![&b"ab"[..], b""])));
        assert!(tensor(Datatype::Bytes, &[1], &data).check().is_err());
        assert!(tensor(Datatype::Bytes, &[2], &data[..9]).check().is_err());
        assert!(tensor(Datatype::Bytes, &[1], &[255, 255, 255, 255, 0]).check().is_err());
    }
}
