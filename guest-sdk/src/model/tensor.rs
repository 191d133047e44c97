//! Named tensors: inputs and outputs of `infer`.
//!
//! Invariant: a tensor's data always matches its shape and type.

use std::ops::Deref;

/// The type of a tensor's elements: those of the Open Inference Protocol.
///
/// ```
/// use bireme_sdk::model::{Datatype, Tensor};
///
/// let tensor = Tensor::new("x", &[3], &[1i64, 2, 3])?;
/// assert_eq!((tensor.datatype(), tensor.datatype().size()), (Datatype::Int64, Some(8)));
/// # Ok::<(), bireme_sdk::model::TensorError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// Boolean, one byte each: 0 or 1.
    Bool,
    /// Unsigned integer of 8 bits.
    Uint8,
    /// Unsigned integer of 16 bits.
    Uint16,
    /// Unsigned integer of 32 bits.
    Uint32,
    /// Unsigned integer of 64 bits.
    Uint64,
    /// Signed integer of 8 bits.
    Int8,
    /// Signed integer of 16 bits.
    Int16,
    /// Signed integer of 32 bits.
    Int32,
    /// Signed integer of 64 bits.
    Int64,
    /// IEEE 754 half precision, 16 bits.
    Fp16,
    /// Brain floating point, 16 bits: the upper half of an [`Fp32`](Self::Fp32).
    Bf16,
    /// IEEE 754 single precision, 32 bits.
    Fp32,
    /// IEEE 754 double precision, 64 bits.
    Fp64,
    /// Byte strings, each of its own length.
    Bytes,
}

impl Datatype {
    /// Bytes of one element; none for [`Datatype::Bytes`].
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// An impossible tensor, or one of another type than requested.
///
/// ```
/// use bireme_sdk::model::Tensor;
///
/// let error = Tensor::new("x", &[2, 2], &[1.0f32, 2.0]).unwrap_err();
/// assert_eq!(error.to_string(), "tensor `x` of shape [2, 2] and type Fp32 takes 4 elements, not 2");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of elements differs from that of the shape.
    #[error("tensor `{name}` of shape {shape:?} and type {datatype:?} takes {expected} elements, not {found}")]
    Elements {
        /// Name of the tensor.
        name: String,
        /// Lengths of its dimensions, outermost first.
        shape: Vec<u64>,
        /// Type of its elements.
        datatype: Datatype,
        /// Product of the shape.
        expected: u64,
        /// Elements in the data.
        found: u64,
    },
    /// The shape has more elements than memory can hold.
    #[error("tensor `{name}` of shape {shape:?} has more elements than can be counted")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// Lengths of its dimensions, outermost first.
        shape: Vec<u64>,
    },
    /// The data ends within an element.
    #[error("the data of tensor `{name}` end within an element of type {datatype:?}")]
    Cut {
        /// Name of the tensor.
        name: String,
        /// Type of its elements.
        datatype: Datatype,
    },
    /// The elements are of another type than requested.
    #[error("tensor `{name}` has elements of type {datatype:?}, not {asked:?}")]
    Type {
        /// Name of the tensor.
        name: String,
        /// Type of its elements.
        datatype: Datatype,
        /// Type that was requested.
        asked: Datatype,
    },
    /// The model returned no tensor of that name.
    #[error("there is no tensor `{name}`; there are {there:?}")]
    Missing {
        /// Name that was requested.
        name: String,
        /// Names of the tensors that the model returned.
        there: Vec<String>,
    },
}

mod sealed {
    pub trait Sealed {}
}

/// Element type of a tensor: `f32`, `f64`, `bool`, or an integer of 8 to 64 bits.
///
/// ```
/// use bireme_sdk::model::{Datatype, Element};
///
/// assert_eq!((f32::DATATYPE, u8::DATATYPE), (Datatype::Fp32, Datatype::Uint8));
/// ```
pub trait Element: Copy + sealed::Sealed {
    /// The element type's name in the protocol.
    const DATATYPE: Datatype;
    #[doc(hidden)]
    fn write(self, to: &mut Vec<u8>);
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($of:ty => $datatype:ident)*) => {$(
        impl sealed::Sealed for $of {}

        impl Element for $of {
            const DATATYPE: Datatype = Datatype::$datatype;

            fn write(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the caller cut it to size"))
            }
        }
    )*};
}

elements! {
    u8 => Uint8 u16 => Uint16 u32 => Uint32 u64 => Uint64 i8 => Int8 i16 => Int16 i32 => Int32 i64 => Int64 f32 => Fp32 f64 => Fp64
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const DATATYPE: Datatype = Datatype::Bool;

    fn write(self, to: &mut Vec<u8>) {
        to.push(u8::from(self));
    }

    fn read(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}

/// A tensor with the model's name for it.
///
/// ```
/// use bireme_sdk::model::Tensor;
///
/// let samples = Tensor::new("input", &[1, 4], &[0.0f32, 0.5, -0.5, 1.0])?;
/// assert_eq!((samples.name(), samples.shape()), ("input", [1, 4].as_slice()));
/// assert_eq!(samples.values::<f32>()?, [0.0, 0.5, -0.5, 1.0]);
/// assert!(samples.values::<i64>().is_err());
///
/// let rate = Tensor::scalar("sr", 16_000i64);
/// assert!(rate.shape().is_empty());
///
/// let texts = Tensor::strings("text", &["one", "two"]);
/// assert_eq!(texts.byte_elements()?, [b"one", b"two"]);
/// # Ok::<(), bireme_sdk::model::TensorError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    datatype: Datatype,
    shape: Vec<u64>,
    data: Vec<u8>,
}

impl Tensor {
    /// Makes a tensor of these values, in row-major order.
    ///
    /// # Errors
    /// The shape has another number of values.
    pub fn new<T: Element>(name: impl Into<String>, shape: &[usize], values: &[T]) -> Result<Self, TensorError> {
        let mut data = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.write(&mut data));
        Self::from_bytes(name, T::DATATYPE, shape.iter().map(|&length| length as u64).collect(), data)
    }

    /// A single value: a tensor without dimensions.
    pub fn scalar<T: Element>(name: impl Into<String>, value: T) -> Self {
        let mut data = Vec::with_capacity(size_of::<T>());
        value.write(&mut data);
        Self { name: name.into(), datatype: T::DATATYPE, shape: Vec::new(), data }
    }

    /// Texts, or any bytes, in one dimension: a tensor of [`Datatype::Bytes`].
    pub fn strings<S: AsRef<[u8]>>(name: impl Into<String>, elements: &[S]) -> Self {
        let mut data = Vec::new();
        for element in elements {
            let element = element.as_ref();
            // An element of more than 4 GiB does not fit a guest's memory.
            data.extend_from_slice(&u32::try_from(element.len()).unwrap_or(u32::MAX).to_le_bytes());
            data.extend_from_slice(element);
        }
        Self { name: name.into(), datatype: Datatype::Bytes, shape: vec![elements.len() as u64], data }
    }

    /// Makes a tensor of any type from bytes: elements little-endian and in row-major order, those of
    /// [`Datatype::Bytes`] each with its length before it as a `u32`.
    ///
    /// # Errors
    /// The data does not match shape and type.
    pub fn from_bytes(
        name: impl Into<String>,
        datatype: Datatype,
        shape: Vec<u64>,
        data: Vec<u8>,
    ) -> Result<Self, TensorError> {
        let name = name.into();
        let Some(expected) = shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length)) else {
            return Err(TensorError::Shape { name, shape });
        };
        let found = match datatype.size() {
            Some(size) if data.len().is_multiple_of(size) => Some((data.len() / size) as u64),
            Some(_) => None,
            None => split(&data).map(|elements| elements.len() as u64),
        };
        match found {
            Some(found) if found == expected => Ok(Self { name, datatype, shape, data }),
            Some(found) => Err(TensorError::Elements { name, shape, datatype, expected, found }),
            None => Err(TensorError::Cut { name, datatype }),
        }
    }

    /// Returns the model's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the type of its elements.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// Returns the lengths of its dimensions, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Returns its elements as bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Returns its elements, in row-major order.
    ///
    /// # Errors
    /// The elements are of another type.
    pub fn values<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if self.datatype != T::DATATYPE {
            let (name, datatype) = (self.name.clone(), self.datatype);
            return Err(TensorError::Type { name, datatype, asked: T::DATATYPE });
        }
        Ok(self.data.chunks_exact(size_of::<T>()).map(T::read).collect())
    }

    /// Returns the elements of a tensor of [`Datatype::Bytes`].
    ///
    /// # Errors
    /// The elements are of another type.
    pub fn byte_elements(&self) -> Result<Vec<&[u8]>, TensorError> {
        if self.datatype != Datatype::Bytes {
            let (name, datatype) = (self.name.clone(), self.datatype);
            return Err(TensorError::Type { name, datatype, asked: Datatype::Bytes });
        }
        Ok(split(&self.data).expect("its data was checked when it was made"))
    }

    #[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
    pub(crate) fn into_parts(self) -> (String, Datatype, Vec<u64>, Vec<u8>) {
        (self.name, self.datatype, self.shape, self.data)
    }
}

/// Splits alternating `u32` lengths and bytes.
fn split(mut data: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    while !data.is_empty() {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        elements.push(element);
        data = rest;
    }
    Some(elements)
}

/// Tensors returned by a model, in its own order.
///
/// ```
/// use bireme_sdk::model::{Tensor, Tensors};
///
/// let outputs = Tensors::from(vec![Tensor::scalar("output", 0.25f32)]);
/// assert_eq!(outputs.get("output")?.values::<f32>()?, [0.25]);
/// assert_eq!(outputs.get("state").unwrap_err().to_string(), "there is no tensor `state`; there are [\"output\"]");
/// # Ok::<(), bireme_sdk::model::TensorError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tensors(Vec<Tensor>);

impl Tensors {
    /// Returns the tensor `name`.
    ///
    /// # Errors
    /// The model returned none of that name.
    pub fn get(&self, name: &str) -> Result<&Tensor, TensorError> {
        self.0.iter().find(|tensor| tensor.name == name).ok_or_else(|| TensorError::Missing {
            name: name.to_owned(),
            there: self.0.iter().map(|tensor| tensor.name.clone()).collect(),
        })
    }

    /// Returns the tensors.
    pub fn into_inner(self) -> Vec<Tensor> {
        self.0
    }
}

impl Deref for Tensors {
    type Target = [Tensor];

    fn deref(&self) -> &[Tensor] {
        &self.0
    }
}

impl From<Vec<Tensor>> for Tensors {
    fn from(tensors: Vec<Tensor>) -> Self {
        Self(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_held_against_the_shape() {
        assert!(Tensor::new::<u8>("x", &[0, 7], &[]).is_ok());
        assert!(matches!(Tensor::new("x", &[3], &[1u8, 2]), Err(TensorError::Elements { expected: 3, found: 2, .. })));
        let make =
            |datatype, shape: &[u64], data: &[u8]| Tensor::from_bytes("x", datatype, shape.to_vec(), data.to_vec());
        assert!(matches!(make(Datatype::Fp16, &[1], &[0; 3]), Err(TensorError::Cut { .. })));
        assert!(matches!(make(Datatype::Fp32, &[u64::MAX, 2], &[]), Err(TensorError::Shape { .. })));
        assert!(matches!(make(Datatype::Bytes, &[1], &[9, 0, 0, 0, 1]), Err(TensorError::Cut { .. })));
        assert!(matches!(make(Datatype::Bytes, &[2], &[0; 4]), Err(TensorError::Elements { found: 1, .. })));
    }

    #[test]
    fn every_type_comes_back() {
        fn check<T: Element + PartialEq + std::fmt::Debug>(values: &[T]) {
            let tensor = Tensor::new("x", &[values.len()], values).unwrap();
            assert_eq!(tensor.data().len(), size_of_val(values));
            assert_eq!(tensor.values::<T>().unwrap(), values);
        }
        check(&[true, false]);
        check(&[u8::MAX, 0]);
        check(&[u16::MAX, 1]);
        check(&[u32::MAX, 2]);
        check(&[u64::MAX, 3]);
        check(&[i8::MIN, 4]);
        check(&[i16::MIN, 5]);
        check(&[i32::MIN, 6]);
        check(&[i64::MIN, 7]);
        check(&[f32::MIN, 0.5]);
        check(&[f64::MIN, 0.5]);
    }
}
