//! Encoders as models of named tensors: the names of inputs and outputs, and the conversion between tensors and rows.
//!
//! Inputs are either `text`, BYTES of shape `[n]`, or `input_ids`, INT64 of shape `[n, t]`, with `attention_mask` and
//! `token_type_ids` of the same shape where they are wanted, as the tokenizers of the usual libraries give them. Ids
//! are taken as they are: the special tokens are among them, and nothing is cut. The output is `embedding`, FP32 of
//! shape `[n, dimension]`, or `logits`, FP32 of shape `[n, labels]`.
//!
//! Not here: tokenising, limits of rows and tokens, vocabularies (the callers); how tensors travel (`http`, `wire`).
//!
//! Invariants: a row has at least one token, and a mask only takes tokens from the end of a row, since there is no
//! padding below; no more memory is taken than the tensors themselves have, but for 24 bytes a text.

use bytes::Bytes;

use crate::wire::{Datatype, Signature, Tensor, TensorSpec};

/// The input of texts.
pub(crate) const TEXT: &str = "text";
/// The input of token ids.
pub(crate) const INPUT_IDS: &str = "input_ids";
/// The mask: 1 for each id that counts.
pub(crate) const ATTENTION_MASK: &str = "attention_mask";
/// The segment of each id: the text, of two, that it belongs to.
pub(crate) const TOKEN_TYPE_IDS: &str = "token_type_ids";
/// The output of models that make vectors.
pub(crate) const EMBEDDING: &str = "embedding";
/// The output of models that make scores.
pub(crate) const LOGITS: &str = "logits";

/// A request to an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EncoderRequest {
    Texts(Vec<String>),
    /// Token ids with their special ones, concatenated; row `i` lies between `cu_seqlens[i]` and `cu_seqlens[i + 1]`.
    Rows {
        ids: Vec<u32>,
        cu_seqlens: Vec<u32>,
        /// Tokens of the first text of each row; empty if no row has a second one.
        first_segments: Vec<u32>,
    },
}

/// Tensors that are not inputs of an encoder.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum EncoderInputError {
    #[error(
        "an encoder takes `{TEXT}`, or `{INPUT_IDS}` with `{ATTENTION_MASK}` and `{TOKEN_TYPE_IDS}` beside it; there is neither"
    )]
    Nothing,
    #[error("an encoder takes `{TEXT}` or `{INPUT_IDS}`, not both")]
    Both,
    #[error(
        "no input `{name}` here; an encoder takes `{TEXT}`, or `{INPUT_IDS}`, `{ATTENTION_MASK}` and `{TOKEN_TYPE_IDS}`"
    )]
    Unknown { name: String },
    #[error("`{name}` is there twice")]
    Twice { name: String },
    #[error("`{name}` is {found}, not {expected}")]
    Datatype { name: &'static str, found: Datatype, expected: Datatype },
    #[error("`{name}` has shape {found:?}, not {expected}")]
    Shape { name: &'static str, found: Vec<u64>, expected: &'static str },
    #[error("`{name}` has shape {found:?}, and `{INPUT_IDS}` {expected:?}")]
    Differs { name: &'static str, found: Vec<u64>, expected: Vec<u64> },
    #[error("the data of `{name}` is not what its shape says")]
    Data { name: &'static str },
    #[error("text {row} is no UTF-8")]
    Text { row: usize },
    #[error("row {row} has {value} at {column} in `{name}`, which is 0 or 1")]
    Flag { name: &'static str, row: usize, column: usize, value: i64 },
    #[error("row {row} of `{ATTENTION_MASK}` is not ones first, then zeros; pad at the end")]
    Hole { row: usize },
    #[error("row {row} of `{TOKEN_TYPE_IDS}` is not zeros first, then ones")]
    Segments { row: usize },
    #[error("row {row} has no tokens")]
    Empty { row: usize },
    #[error("row {row} has {value} at {column} in `{INPUT_IDS}`, which is no token id")]
    Id { row: usize, column: usize, value: i64 },
    #[error("more tokens than can be counted")]
    Tokens,
}

/// Returns the request that the tensors make of an encoder.
pub(crate) fn encoder_inputs(tensors: &[Tensor]) -> Result<EncoderRequest, EncoderInputError> {
    let (mut text, mut ids, mut mask, mut types) = (None, None, None, None);
    for tensor in tensors {
        let place = match tensor.name.as_str() {
            TEXT => &mut text,
            INPUT_IDS => &mut ids,
            ATTENTION_MASK => &mut mask,
            TOKEN_TYPE_IDS => &mut types,
            _ => return Err(EncoderInputError::Unknown { name: tensor.name.clone() }),
        };
        if place.replace(tensor).is_some() {
            return Err(EncoderInputError::Twice { name: tensor.name.clone() });
        }
    }
    match (text, ids) {
        (Some(text), None) if mask.is_none() && types.is_none() => texts(text),
        (None, Some(ids)) => rows(ids, mask, types),
        (None, None) => Err(EncoderInputError::Nothing),
        (Some(_), _) => Err(EncoderInputError::Both),
    }
}

/// Returns an encoder's answer as tensors: `values` are those of `rows` rows, concatenated. A model of tensors has no
/// rows.
pub(crate) fn encoder_outputs(signature: &Signature, rows: usize, values: Vec<f32>) -> Vec<Tensor> {
    let (name, width) = match signature {
        Signature::Vector { dimension } => (EMBEDDING, *dimension),
        Signature::Scores { labels } => (LOGITS, *labels),
        Signature::Tensors { .. } => return Vec::new(),
    };
    debug_assert_eq!(values.len(), rows * width as usize, "each row has its values");
    let shape = vec![rows as u64, u64::from(width)];
    let data = Bytes::from_owner(Floats(values));
    vec![Tensor { name: name.to_owned(), datatype: Datatype::Fp32, shape, data }]
}

/// Returns the inputs and the outputs that a model is described by. Of an encoder's inputs a request has a part, as the
/// module says.
pub(crate) fn specs(signature: &Signature) -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    let spec =
        |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    let (output, width) = match signature {
        Signature::Vector { dimension } => (EMBEDDING, *dimension),
        Signature::Scores { labels } => (LOGITS, *labels),
        Signature::Tensors { inputs, outputs } => return (inputs.clone(), outputs.clone()),
    };
    let ids = [INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS].map(|name| spec(name, Datatype::Int64, &[-1, -1]));
    let inputs = std::iter::once(spec(TEXT, Datatype::Bytes, &[-1])).chain(ids).collect();
    (inputs, vec![spec(output, Datatype::Fp32, &[-1, i64::from(width)])])
}

/// Numbers as the bytes that they are, without a copy.
struct Floats(Vec<f32>);

impl AsRef<[u8]> for Floats {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn texts(tensor: &Tensor) -> Result<EncoderRequest, EncoderInputError> {
    check_type(tensor, TEXT, Datatype::Bytes)?;
    let [count] = *tensor.shape.as_slice() else {
        return Err(EncoderInputError::Shape { name: TEXT, found: tensor.shape.clone(), expected: "[n]" });
    };
    let elements = tensor.byte_elements().filter(|elements| elements.len() as u64 == count);
    let elements = elements.ok_or(EncoderInputError::Data { name: TEXT })?;
    let text = |(row, bytes): (usize, &[u8])| {
        let text = std::str::from_utf8(bytes).map_err(|_| EncoderInputError::Text { row })?;
        Ok(text.to_owned())
    };
    elements.into_iter().enumerate().map(text).collect::<Result<_, _>>().map(EncoderRequest::Texts)
}

fn rows(ids: &Tensor, mask: Option<&Tensor>, types: Option<&Tensor>) -> Result<EncoderRequest, EncoderInputError> {
    let mask = mask.map(|mask| Matrix::beside(ids, mask, ATTENTION_MASK)).transpose()?;
    let types = types.map(|types| Matrix::beside(ids, types, TOKEN_TYPE_IDS)).transpose()?;
    let matrix = Matrix::of(ids, INPUT_IDS)?;

    let (mut ids, mut cu_seqlens, mut first_segments) = (Vec::with_capacity(matrix.elements()), vec![0], Vec::new());
    let mut is_pair = false;
    for row in 0..matrix.count {
        let tokens = match mask {
            Some(mask) => mask.leading(row, mask.length, 1)?.ok_or(EncoderInputError::Hole { row })?,
            None => matrix.length,
        };
        if tokens == 0 {
            return Err(EncoderInputError::Empty { row });
        }
        for (column, value) in matrix.row(row).take(tokens).enumerate() {
            ids.push(u32::try_from(value).map_err(|_| EncoderInputError::Id { row, column, value })?);
        }
        if let Some(types) = types {
            let first = types.leading(row, tokens, 0)?.ok_or(EncoderInputError::Segments { row })?;
            is_pair |= first < tokens;
            first_segments.push(u32::try_from(first).map_err(|_| EncoderInputError::Tokens)?);
        }
        cu_seqlens.push(u32::try_from(ids.len()).map_err(|_| EncoderInputError::Tokens)?);
    }
    if !is_pair {
        first_segments.clear();
    }
    Ok(EncoderRequest::Rows { ids, cu_seqlens, first_segments })
}

/// Rows of 64-bit integers, as they lie in a body: at any address.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    name: &'static str,
    count: usize,
    length: usize,
    data: &'a [u8],
}

impl<'a> Matrix<'a> {
    fn of(tensor: &'a Tensor, name: &'static str) -> Result<Self, EncoderInputError> {
        check_type(tensor, name, Datatype::Int64)?;
        let [count, length] = *tensor.shape.as_slice() else {
            return Err(EncoderInputError::Shape { name, found: tensor.shape.clone(), expected: "[n, t]" });
        };
        if count > 0 && length == 0 {
            return Err(EncoderInputError::Empty { row: 0 });
        }
        if tensor.elements().and_then(|elements| elements.checked_mul(8)) != Some(tensor.data.len() as u64) {
            return Err(EncoderInputError::Data { name });
        }
        // No more than there is data for, or, without a row, never used.
        Ok(Self { name, count: count as usize, length: length as usize, data: &tensor.data })
    }

    fn beside(ids: &Tensor, tensor: &'a Tensor, name: &'static str) -> Result<Self, EncoderInputError> {
        if tensor.shape == ids.shape {
            return Self::of(tensor, name);
        }
        Err(EncoderInputError::Differs { name, found: tensor.shape.clone(), expected: ids.shape.clone() })
    }

    fn elements(self) -> usize {
        self.data.len() / 8
    }

    fn row(self, row: usize) -> impl Iterator<Item = i64> + use<'a> {
        let bytes = &self.data[row * self.length * 8..][..self.length * 8];
        bytes.chunks_exact(8).map(|number| i64::from_le_bytes(number.try_into().expect("eight bytes")))
    }

    /// Counts how often `value` stands at the start of a row's first `length` flags; none if it comes again later.
    fn leading(self, row: usize, length: usize, value: i64) -> Result<Option<usize>, EncoderInputError> {
        let (mut first, mut is_over, mut comes_again) = (0, false, false);
        for (column, found) in self.row(row).take(length).enumerate() {
            if !matches!(found, 0 | 1) {
                return Err(EncoderInputError::Flag { name: self.name, row, column, value: found });
            }
            comes_again |= is_over && found == value;
            is_over |= found != value;
            first += usize::from(!is_over);
        }
        Ok((!comes_again).then_some(first))
    }
}

fn check_type(tensor: &Tensor, name: &'static str, expected: Datatype) -> Result<(), EncoderInputError> {
    if tensor.datatype == expected {
        Ok(())
    } else {
        Err(EncoderInputError::Datatype { name, found: tensor.datatype, expected })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn int64(name: &str, shape: &[u64], values: &[i64]) -> Tensor {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
        Tensor { name: name.to_owned(), datatype: Datatype::Int64, shape: shape.to_vec(), data }
    }

    fn text(texts: &[&[u8]]) -> Tensor {
        let parts: Vec<Vec<u8>> =
            texts.iter().map(|text| [&(text.len() as u32).to_le_bytes(), *text].concat()).collect();
        Tensor {
            name: TEXT.into(),
            datatype: Datatype::Bytes,
            shape: vec![texts.len() as u64],
            data: parts.concat().into(),
        }
    }

    fn check(tensors: &[Tensor], ids: &[u32], cu_seqlens: &[u32], first_segments: &[u32]) {
        let (ids, cu_seqlens, first_segments) = (ids.to_vec(), cu_seqlens.to_vec(), first_segments.to_vec());
        assert_eq!(encoder_inputs(tensors), Ok(EncoderRequest::Rows { ids, cu_seqlens, first_segments }));
    }

    fn check_refused(tensors: &[Tensor], message: &str) {
        let error = encoder_inputs(tensors).unwrap_err().to_string();
        assert!(error.contains(message), "no `{message}` in `{error}`");
    }

    #[test]
    fn texts_are_taken_in_order() {
        let texts = EncoderRequest::Texts(vec!["a".into(), String::new(), "海".into()]);
        assert_eq!(encoder_inputs(&[text(&[b"a", b"", "海".as_bytes()])]), Ok(texts));
        assert_eq!(encoder_inputs(&[text(&[])]), Ok(EncoderRequest::Texts(vec![])));
    }

    #[test]
    fn a_mask_takes_the_padding_away() {
        let ids = int64(INPUT_IDS, &[2, 3], &[101, 7, 102, 101, 102, 0]);
        check(std::slice::from_ref(&ids), &[101, 7, 102, 101, 102, 0], &[0, 3, 6], &[]);
        let mask = int64(ATTENTION_MASK, &[2, 3], &[1, 1, 1, 1, 1, 0]);
        check(&[mask.clone(), ids.clone()], &[101, 7, 102, 101, 102], &[0, 3, 5], &[]);
        // Ids under the padding do not matter.
        let types = int64(TOKEN_TYPE_IDS, &[2, 3], &[0, 0, 1, 0, 0, 1]);
        check(&[ids.clone(), mask.clone(), types], &[101, 7, 102, 101, 102], &[0, 3, 5], &[2, 2]);
        let none = int64(TOKEN_TYPE_IDS, &[2, 3], &[0; 6]);
        check(&[ids, mask, none], &[101, 7, 102, 101, 102], &[0, 3, 5], &[]);
        check(&[int64(INPUT_IDS, &[0, 7], &[])], &[], &[0], &[]);
    }

    #[test]
    fn what_no_encoder_takes_is_refused_by_name() {
        let ids = int64(INPUT_IDS, &[2, 2], &[1, 2, 3, 4]);
        let mask = |values: [i64; 4]| int64(ATTENTION_MASK, &[2, 2], &values);
        let types = |values: [i64; 4]| int64(TOKEN_TYPE_IDS, &[2, 2], &values);
        let with = |tensor: Tensor, message: &str| check_refused(&[ids.clone(), tensor], message);
        check_refused(&[], "there is neither");
        check_refused(&[mask([1; 4])], "there is neither");
        check_refused(&[text(&[b"a"]), mask([1; 4])], "not both");
        with(text(&[b"a"]), "not both");
        with(ids.clone(), "`input_ids` is there twice");
        with(int64("position_ids", &[2, 2], &[0; 4]), "no input `position_ids`");
        with(mask([1, 1, 0, 1]), "row 1 of `attention_mask` is not ones first");
        with(mask([1, 1, 0, 0]), "row 1 has no tokens");
        with(mask([1, 1, 2, 0]), "row 1 has 2 at 0 in `attention_mask`");
        with(mask([1, 1, i64::MIN, 0]), "`attention_mask`, which is 0 or 1");
        with(types([0, 1, 1, 0]), "row 1 of `token_type_ids` is not zeros first");
        with(types([0, -1, 0, 0]), "row 0 has -1 at 1 in `token_type_ids`");
        with(int64(ATTENTION_MASK, &[4, 1], &[1; 4]), "`attention_mask` has shape [4, 1], and `input_ids` [2, 2]");
        check_refused(&[int64(INPUT_IDS, &[1, 2], &[1, -1])], "row 0 has -1 at 1 in `input_ids`");
        check_refused(&[int64(INPUT_IDS, &[1, 1], &[1 << 32])], "no token id");
        check_refused(&[int64(INPUT_IDS, &[2], &[1, 2])], "`input_ids` has shape [2], not [n, t]");
        check_refused(&[int64(INPUT_IDS, &[u64::MAX, 0], &[])], "row 0 has no tokens");
        check_refused(&[int64(INPUT_IDS, &[u64::MAX, u64::MAX], &[1])], "the data of `input_ids`");
        check_refused(&[int64(INPUT_IDS, &[1, 3], &[1, 2])], "the data of `input_ids`");
        check_refused(&[Tensor { datatype: Datatype::Uint64, ..ids.clone() }], "`input_ids` is UINT64, not INT64");
        check_refused(&[Tensor { datatype: Datatype::Int64, ..text(&[b"a"]) }], "`text` is INT64, not BYTES");
        check_refused(&[text(&[b"a", b"\xff"])], "text 1 is no UTF-8");
        check_refused(&[Tensor { shape: vec![1, 1], ..text(&[b"a"]) }], "`text` has shape [1, 1], not [n]");
        check_refused(&[Tensor { shape: vec![3], ..text(&[b"a"]) }], "the data of `text`");
        check_refused(&[Tensor { data: Bytes::from_static(&[255; 6]), ..text(&[b"a"]) }], "the data of `text`");
    }

    #[test]
    fn values_are_a_tensor_without_a_copy() {
        let values = vec![0.5, -1.0, f32::MIN_POSITIVE, 3.0];
        let address = values.as_ptr().cast::<u8>();
        let tensors = encoder_outputs(&Signature::Vector { dimension: 2 }, 2, values);
        let [embedding] = tensors.as_slice() else { panic!("{tensors:?}") };
        assert_eq!((embedding.name.as_str(), embedding.shape.as_slice()), (EMBEDDING, &[2, 2][..]));
        assert_eq!((embedding.check(), &embedding.data[..4]), (Ok(()), &0.5f32.to_le_bytes()[..]));
        assert_eq!(embedding.data.as_ptr(), address);
        let logits = encoder_outputs(&Signature::Scores { labels: 3 }, 0, vec![]);
        assert_eq!(
            (logits[0].name.as_str(), logits[0].shape.as_slice(), logits[0].check()),
            (LOGITS, &[0, 3][..], Ok(()))
        );
    }

    #[test]
    fn a_model_is_described_by_what_its_requests_may_have() {
        let (inputs, outputs) = specs(&Signature::Scores { labels: 1 });
        let names: Vec<&str> = inputs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, [TEXT, INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS]);
        let logits = TensorSpec { name: LOGITS.into(), datatype: Datatype::Fp32, shape: vec![-1, 1] };
        assert_eq!(outputs, std::slice::from_ref(&logits));
        let own = Signature::Tensors { inputs: vec![logits.clone()], outputs: vec![] };
        assert_eq!(specs(&own), (vec![logits], vec![]));
    }

    proptest! {
        #[test]
        fn ragged_rows_come_back_from_their_padded_matrix(
            rows in prop::collection::vec((prop::collection::vec(any::<u32>(), 1..9), 0usize..9), 0..6),
            padding in 0usize..3,
        ) {
            let length = rows.iter().map(|(row, _)| row.len()).max().unwrap_or(0) + padding;
            let (mut ids, mut mask, mut types) = (vec![], vec![], vec![]);
            for (row, first) in &rows {
                let at = |value: &dyn Fn(usize) -> i64| (0..length).map(value).collect::<Vec<i64>>();
                ids.extend(at(&|i| row.get(i).map_or(-7, |&id| i64::from(id))));
                mask.extend(at(&|i| i64::from(i < row.len())));
                types.extend(at(&|i| i64::from(i < row.len() && i >= *first)));
            }
            let shape = [rows.len() as u64, length as u64];
            let tensors = [(INPUT_IDS, ids), (ATTENTION_MASK, mask), (TOKEN_TYPE_IDS, types)];
            let request = encoder_inputs(&tensors.map(|(name, values)| int64(name, &shape, &values)));
            let mut cu_seqlens = vec![0];
            cu_seqlens.extend(rows.iter().scan(0, |end, (row, _)| { *end += row.len() as u32; Some(*end) }));
            let firsts: Vec<u32> = rows.iter().map(|(row, first)| row.len().min(*first) as u32).collect();
            let is_pair = rows.iter().any(|(row, first)| *first < row.len());
            let first_segments = if is_pair { firsts } else { vec![] };
            let ids = rows.iter().flat_map(|(row, _)| row.clone()).collect();
            prop_assert_eq!(request, Ok(EncoderRequest::Rows { ids, cu_seqlens, first_segments }));
        }

        #[test]
        fn no_tensor_does_harm(
            name in prop::sample::select(vec![TEXT, INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS]),
            bytes_type: bool,
            shape in prop::collection::vec(prop_oneof![0u64..4, any::<u64>()], 0..3),
            data in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..40),
        ) {
            let datatype = if bytes_type { Datatype::Bytes } else { Datatype::Int64 };
            let other = Tensor { name: name.to_owned(), datatype, shape, data: data.into() };
            let _ = encoder_inputs(std::slice::from_ref(&other));
            let _ = encoder_inputs(&[int64(INPUT_IDS, &other.shape, &[1]), other]);
        }
    }
}
