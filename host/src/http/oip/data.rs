//! Elements of tensors as JSON, parsed and written.
//!
//! Parsing accepts what the protocol allows: a flat array of all elements in row-major order, or nested arrays of
//! exactly the tensor's shape. Integers must fit their type and are not rounded; floating point takes integers as well,
//! if they fit. BYTES are strings. FP16 and BF16 have no JSON, here as in Triton; nor have non-finite numbers, and
//! bytes that are not UTF-8. Writing gives the flat array, each number as its shortest text.
//!
//! Limits: an element takes at least two bytes of JSON and at most eight bytes of data, and nothing is allocated before
//! the JSON is long enough for the shape, so a tensor takes at most four times the bytes of its JSON.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use crate::wire::{Datatype, Tensor};

/// JSON that is not a tensor's elements.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DataError {
    #[error("{datatype} has no JSON; send it as binary data")]
    BinaryOnly { datatype: Datatype },
    #[error("its shape makes more elements than its `data` has")]
    TooFew,
    #[error("{source}, counted from the start of its `data`")]
    Json {
        #[source]
        source: serde_json::Error,
    },
}

/// Parses the elements of a tensor.
pub(crate) fn read(json: &RawValue, datatype: Datatype, shape: &[u64]) -> Result<Bytes, DataError> {
    if matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
        return Err(DataError::BinaryOnly { datatype });
    }
    let json = json.get();
    let count = shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length));
    // Two brackets, and a comma between each two elements.
    let fits = |count: &usize| *count <= json.len().saturating_sub(1) / 2;
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(fits).ok_or(DataError::TooFew)?;
    let room = match datatype.size() {
        Some(size) => count * size,
        // A length prefix of four bytes replaces two quotes and a comma.
        None => json.len() + count,
    };
    let mut elements = Elements { datatype, shape, left: count, form: None, data: Vec::with_capacity(room) };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = Level { elements: &mut elements, depth: 0 }.deserialize(&mut deserializer);
    read.map_err(|source| DataError::Json { source })?;
    if elements.left > 0 {
        return Err(DataError::TooFew);
    }
    Ok(elements.data.into())
}

/// Elements of a tensor, serialised as JSON.
pub(crate) struct JsonElements<'a>(pub &'a Tensor);

/// Elements parsed so far.
struct Elements<'a> {
    datatype: Datatype,
    shape: &'a [u64],
    left: usize,
    /// None until the first element or inner array shows it.
    form: Option<Form>,
    data: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Flat,
    Nested,
}

/// A value within `depth` arrays.
struct Level<'e, 'a> {
    elements: &'e mut Elements<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => f.write_str("an array of the tensor's elements"),
            _ => write!(f, "an element of type {}", self.elements.datatype),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self { elements, depth } = self;
        if depth > 0 {
            if depth >= elements.shape.len() || elements.form == Some(Form::Flat) {
                return Err(A::Error::custom(format_args!("an array where shape {:?} has none", elements.shape)));
            }
            elements.form = Some(Form::Nested);
        }
        let mut length = 0u64;
        while array.next_element_seed(Level { elements, depth: depth + 1 })?.is_some() {
            length += 1;
        }
        let shape = elements.shape;
        // `place` counts the elements of a flat array.
        if elements.form == Some(Form::Nested) && length != shape[depth] {
            let expected = shape[depth];
            return Err(A::Error::custom(format_args!("an array of {length}, where shape {shape:?} has {expected}")));
        }
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.elements.place(self.depth)?;
        if self.elements.datatype != Datatype::Bool {
            return Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self));
        }
        self.elements.data.push(value.into());
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.elements.place(self.depth)?;
        self.elements.integer(value.into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.elements.place(self.depth)?;
        self.elements.integer(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.elements.place(self.depth)?;
        self.elements.float(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.elements.place(self.depth)?;
        if self.elements.datatype != Datatype::Bytes {
            return Err(E::invalid_type(serde::de::Unexpected::Str("…"), &self));
        }
        let length = u32::try_from(value.len()).map_err(|_| E::custom("a string of over 4 GiB"))?;
        self.elements.data.extend_from_slice(&length.to_le_bytes());
        self.elements.data.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

impl Elements<'_> {
    /// Counts one more element, nested in `depth` arrays.
    fn place<E: serde::de::Error>(&mut self, depth: usize) -> Result<(), E> {
        if depth == 0 {
            return Err(E::custom("`data` is an array"));
        }
        match self.form {
            None if depth == 1 => self.form = Some(Form::Flat),
            Some(Form::Flat) => {}
            Some(Form::Nested) if depth == self.shape.len() => {}
            _ => return Err(E::custom(format_args!("an element where shape {:?} has an array", self.shape))),
        }
        let more = || E::custom(format_args!("more elements than shape {:?} has", self.shape));
        self.left = self.left.checked_sub(1).ok_or_else(more)?;
        Ok(())
    }

    fn integer<E: serde::de::Error>(&mut self, value: i128) -> Result<(), E> {
        macro_rules! put {
            ($type:ty) => {
                <$type>::try_from(value).ok().map(|value| self.data.extend_from_slice(&value.to_le_bytes()))
            };
        }
        let put = match self.datatype {
            Datatype::Uint8 => put!(u8),
            Datatype::Uint16 => put!(u16),
            Datatype::Uint32 => put!(u32),
            Datatype::Uint64 => put!(u64),
            Datatype::Int8 => put!(i8),
            Datatype::Int16 => put!(i16),
            Datatype::Int32 => put!(i32),
            Datatype::Int64 => put!(i64),
            Datatype::Fp32 | Datatype::Fp64 => return self.float(value as f64),
            Datatype::Bool | Datatype::Bytes | Datatype::Fp16 | Datatype::Bf16 => None,
        };
        put.ok_or_else(|| E::custom(format_args!("{value} is no {}", self.datatype)))
    }

    fn float<E: serde::de::Error>(&mut self, value: f64) -> Result<(), E> {
        match self.datatype {
            Datatype::Fp32 if (value as f32).is_finite() => self.data.extend_from_slice(&(value as f32).to_le_bytes()),
            Datatype::Fp64 => self.data.extend_from_slice(&value.to_le_bytes()),
            datatype => return Err(E::custom(format_args!("{value:?} is no {datatype}"))),
        }
        Ok(())
    }
}

impl Serialize for JsonElements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(tensor) = self;
        macro_rules! sequence {
            ($type:ty $(, $check:expr)?) => {{
                let elements = tensor.data.chunks_exact(size_of::<$type>());
                let mut sequence = serializer.serialize_seq(Some(elements.len()))?;
                for bytes in elements {
                    let element = <$type>::from_le_bytes(bytes.try_into().expect("a chunk of that size"));
                    $($check(element)?;)?
                    sequence.serialize_element(&element)?;
                }
                sequence.end()
            }};
        }
        let no_json = |what: &str| S::Error::custom(format_args!("`{}` has {what}, which has no JSON", tensor.name));
        let finite = |is_finite: bool| if is_finite { Ok(()) } else { Err(no_json("a number that is not finite")) };
        match tensor.datatype {
            Datatype::Bool => serializer.collect_seq(tensor.data.iter().map(|&byte| byte != 0)),
            Datatype::Uint8 => sequence!(u8),
            Datatype::Uint16 => sequence!(u16),
            Datatype::Uint32 => sequence!(u32),
            Datatype::Uint64 => sequence!(u64),
            Datatype::Int8 => sequence!(i8),
            Datatype::Int16 => sequence!(i16),
            Datatype::Int32 => sequence!(i32),
            Datatype::Int64 => sequence!(i64),
            Datatype::Fp32 => sequence!(f32, |number: f32| finite(number.is_finite())),
            Datatype::Fp64 => sequence!(f64, |number: f64| finite(number.is_finite())),
            Datatype::Fp16 | Datatype::Bf16 => Err(no_json(tensor.datatype.as_str())),
            Datatype::Bytes => {
                let elements = tensor.byte_elements().ok_or_else(|| no_json("elements that are cut off"))?;
                let mut sequence = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements {
                    let text = std::str::from_utf8(element).map_err(|_| no_json("bytes that are no UTF-8"))?;
                    sequence.serialize_element(text)?;
                }
                sequence.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    fn tensor(datatype: Datatype, shape: &[u64], data: Bytes) -> Tensor {
        Tensor { name: "x".into(), datatype, shape: shape.to_vec(), data }
    }

    /// Parses a tensor, checks it, and writes it again.
    #[track_caller]
    fn check(json: &str, datatype: Datatype, shape: &[u64], written: &str) {
        let tensor = tensor(datatype, shape, read(&raw(json), datatype, shape).unwrap());
        tensor.check().unwrap();
        assert_eq!(serde_json::to_string(&JsonElements(&tensor)).unwrap(), written);
    }

    #[track_caller]
    fn check_refused(json: &str, datatype: Datatype, shape: &[u64], message: &str) {
        let error = read(&raw(json), datatype, shape).unwrap_err().to_string();
        assert!(error.contains(message), "no `{message}` in `{error}`");
    }

    #[test]
    fn flat_and_nested_arrays_are_the_same() {
        check("[1,2,3,4,5,6]", Datatype::Uint32, &[2, 3], "[1,2,3,4,5,6]");
        check("[[1,2,3],[4,5,6]]", Datatype::Uint32, &[2, 3], "[1,2,3,4,5,6]");
        check("[[[1],[2]],[[3],[4]]]", Datatype::Int8, &[2, 2, 1], "[1,2,3,4]");
        check("[7]", Datatype::Int64, &[], "[7]");
        check("[]", Datatype::Fp32, &[2, 0], "[]");
        check("[[],[]]", Datatype::Fp32, &[2, 0], "[]");
    }

    #[test]
    fn every_type_has_its_own_numbers() {
        check("[true,false]", Datatype::Bool, &[2], "[true,false]");
        check("[0,255]", Datatype::Uint8, &[2], "[0,255]");
        check("[65535]", Datatype::Uint16, &[1], "[65535]");
        check("[-32768]", Datatype::Int16, &[1], "[-32768]");
        check("[-2147483648]", Datatype::Int32, &[1], "[-2147483648]");
        check("[18446744073709551615]", Datatype::Uint64, &[1], "[18446744073709551615]");
        check("[-9223372036854775808]", Datatype::Int64, &[1], "[-9223372036854775808]");
        check("[0.1,1,-0.0,16777217]", Datatype::Fp32, &[4], "[0.1,1.0,-0.0,16777216.0]");
        check("[0.1,1,1e300]", Datatype::Fp64, &[3], "[0.1,1.0,1e+300]");
        check(r#"["a","","\u0000海"]"#, Datatype::Bytes, &[3], r#"["a","","\u0000海"]"#);
    }

    #[test]
    fn what_is_not_the_tensor_is_refused() {
        for json in ["1", "{}", "null", "\"1\""] {
            assert!(read(&raw(json), Datatype::Int8, &[]).is_err(), "{json}");
        }
        check_refused("[1,2,3]", Datatype::Int8, &[2], "more elements than shape [2] has at line 1 column");
        check_refused("[1]", Datatype::Int8, &[2], "more elements than its `data` has");
        check_refused("[1,   2]", Datatype::Int8, &[3], "more elements than its `data` has");
        check_refused("[1]", Datatype::Int8, &[u64::MAX, u64::MAX], "more elements than its `data` has");
        check_refused("[1]", Datatype::Int8, &[u64::MAX], "more elements than its `data` has");
        check_refused("[[1,2],[3]]", Datatype::Int8, &[2, 2], "an array of 1, where shape [2, 2] has 2");
        check_refused("[[1,2,3],[4]]", Datatype::Int8, &[2, 2], "an array of 3, where shape [2, 2] has 2");
        check_refused("[[1,2],3,4]", Datatype::Int8, &[2, 2], "an element where shape [2, 2] has an array");
        check_refused("[1,[2],3,4]", Datatype::Int8, &[2, 2], "an array where shape [2, 2] has none");
        check_refused("[[[1,2]],[[3,4]]]", Datatype::Int8, &[2, 2], "an array where shape [2, 2] has none");
        check_refused("[[1],[2]]", Datatype::Int8, &[2], "an array where shape [2] has none");
        check_refused("[[],[],[]]", Datatype::Int8, &[2, 0], "an array of 3, where shape [2, 0] has 2");
        check_refused("[128]", Datatype::Int8, &[1], "128 is no INT8");
        check_refused("[-1]", Datatype::Uint64, &[1], "-1 is no UINT64");
        check_refused("[1.0]", Datatype::Int8, &[1], "1.0 is no INT8");
        check_refused("[1e39]", Datatype::Fp32, &[1], "1e39 is no FP32");
        check_refused("[1]", Datatype::Bool, &[1], "1 is no BOOL");
        check_refused("[true]", Datatype::Int8, &[1], "expected an element of type INT8");
        check_refused("[\"1\"]", Datatype::Int8, &[1], "expected an element of type INT8");
        check_refused("[null]", Datatype::Int8, &[1], "expected an element of type INT8");
        check_refused("[{}]", Datatype::Bytes, &[1], "expected an element of type BYTES");
        check_refused("[1.5]", Datatype::Fp16, &[1], "FP16 has no JSON");
        check_refused("[1.5]", Datatype::Bf16, &[1], "BF16 has no JSON");
    }

    #[test]
    fn nesting_ends_with_the_shape() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        check_refused(&deep, Datatype::Int8, &[1; 16], "an array where shape");
    }

    #[test]
    fn no_more_room_is_taken_than_four_times_the_json() {
        for (json, datatype) in [("[0,0,0,0]", Datatype::Fp64), (r#"["","","",""]"#, Datatype::Bytes)] {
            let data = read(&raw(json), datatype, &[4]).unwrap();
            // The only owner of the bytes gets the vector itself back.
            let data: Vec<u8> = data.into();
            assert!(data.capacity() <= 4 * json.len(), "{} for {}", data.capacity(), json.len());
        }
    }

    #[test]
    fn what_has_no_json_is_not_written() {
        let check = |datatype, shape: &[u64], data: &[u8], message: &str| {
            let tensor = tensor(datatype, shape, Bytes::copy_from_slice(data));
            let error = serde_json::to_vec(&JsonElements(&tensor)).unwrap_err().to_string();
            assert!(error.contains(message), "no `{message}` in `{error}`");
        };
        check(Datatype::Fp32, &[1], &f32::NAN.to_le_bytes(), "`x` has a number that is not finite");
        check(Datatype::Fp64, &[1], &f64::INFINITY.to_le_bytes(), "not finite");
        check(Datatype::Fp16, &[1], &[0; 2], "`x` has FP16, which has no JSON");
        check(Datatype::Bytes, &[1], &[1, 0, 0, 0, 255], "no UTF-8");
    }

    proptest! {
        #[test]
        fn every_float_survives(numbers in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 0..20)) {
            let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let written = tensor(Datatype::Fp32, &[numbers.len() as u64], data.clone().into());
            let json = serde_json::to_string(&JsonElements(&written)).unwrap();
            prop_assert_eq!(read(&raw(&json), Datatype::Fp32, &written.shape).unwrap(), data);
        }

        #[test]
        fn any_json_is_the_tensor_or_an_error(
            json in "(\\[|\\]|,|1|-1|1\\.5|\"a\"|true|null| ){0,16}",
            datatype in prop::sample::select(Datatype::ALL.to_vec()),
            shape in prop::collection::vec(0u64..4, 0..4),
        ) {
            let json = format!("[{json}]");
            if let Ok(json) = serde_json::from_str::<Box<RawValue>>(&json)
                && let Ok(data) = read(&json, datatype, &shape)
            {
                prop_assert_eq!(tensor(datatype, &shape, data).check(), Ok(()));
            }
        }
    }
}
