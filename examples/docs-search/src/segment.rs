//! A part of an index: passages with their vectors, packed to be read fast.
//!
//! A vector is stored as signed bytes with one scale: 388 bytes instead of 1,536 for 384 dimensions. Dot products of
//! such vectors are off by less than one in a hundred, which changes the order of near ties at most.
//!
//! Packed form, little-endian: the magic `BSV1`, the count, the dimension (both `u32`), `count` scales (`f32`), then
//! `count * dimension` bytes.

use bireme_sdk::prelude::*;

use crate::passage::Passage;

/// The most passages of one segment; its JSON stays well under the 8 MiB of an input.
pub const SEGMENT_LEN_MAX: usize = 512;

const MAGIC: [u8; 4] = *b"BSV1";
const HEADER_BYTES: usize = 12;
/// Vectors are compared in steps of this many values, which the compiler turns into SIMD.
const LANES: usize = 16;

/// A passage and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Located {
    pub url: String,
    pub title: String,
    pub passage: Passage,
}

/// A part of an index that is being built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// The index that it belongs to.
    pub generation: String,
    /// Its position in that index, from 0.
    pub number: u32,
    pub passages: Vec<Located>,
    /// One for each passage.
    pub vectors: Vec<Vector>,
}

/// One vector in bytes: `value = scale * byte`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    scale: f32,
    bytes: Vec<i8>,
}

impl Quantized {
    /// Rounds each value to one of 255 steps between the largest and its negative.
    pub fn new(values: &[f32]) -> Self {
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 && largest.is_finite() { largest / 127.0 } else { 1.0 };
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the quotient is within -127 to 127, and the cast saturates"
        )]
        let bytes = values.iter().map(|value| (value / scale).round() as i8).collect();
        Self { scale, bytes }
    }
}

/// Packs vectors of one dimension.
pub fn pack(vectors: &[Vector]) -> Result<Vec<u8>> {
    let dimension = vectors.first().map_or(0, |vector| vector.len());
    if dimension == 0 || vectors.iter().any(|vector| vector.len() != dimension) {
        return Err(Failure::terminal("a segment needs vectors, all of one dimension"));
    }
    let quantized: Vec<Quantized> = vectors.iter().map(|vector| Quantized::new(vector)).collect();
    let mut packed = Vec::with_capacity(HEADER_BYTES + vectors.len() * (4 + dimension));
    packed.extend_from_slice(&MAGIC);
    packed.extend_from_slice(&u32::try_from(vectors.len())?.to_le_bytes());
    packed.extend_from_slice(&u32::try_from(dimension)?.to_le_bytes());
    quantized.iter().for_each(|vector| packed.extend_from_slice(&vector.scale.to_le_bytes()));
    quantized.iter().for_each(|vector| packed.extend(vector.bytes.iter().map(|byte| byte.cast_unsigned())));
    Ok(packed)
}

/// A packed segment, read where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    dimension: usize,
    scales: &'a [[u8; 4]],
    bytes: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Checks the shape of a packed segment.
    pub fn read(packed: &'a [u8]) -> Result<Self> {
        let damaged = || Failure::terminal(format!("a segment of {} bytes is damaged; index again", packed.len()));
        let (header, rest) = packed.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
        let ([magic, count, dimension], []) = header.as_chunks::<4>() else {
            return Err(damaged());
        };
        let (count, dimension) = (u32::from_le_bytes(*count) as usize, u32::from_le_bytes(*dimension) as usize);
        let (scales, bytes) = count.checked_mul(4).and_then(|len| rest.split_at_checked(len)).ok_or_else(damaged)?;
        if *magic != MAGIC || dimension == 0 || count.checked_mul(dimension) != Some(bytes.len()) {
            return Err(damaged());
        }
        Ok(Self { dimension, scales: scales.as_chunks().0, bytes })
    }

    /// The dot product of each vector with `query`, in order.
    pub fn scores(&self, query: &Quantized) -> Result<impl Iterator<Item = f32>> {
        if query.bytes.len() != self.dimension {
            let message = format!(
                "the index has vectors of dimension {}, the model gave {}; index again",
                self.dimension,
                query.bytes.len()
            );
            return Err(Failure::terminal(message));
        }
        let rows = self.bytes.chunks_exact(self.dimension);
        #[allow(clippy::cast_precision_loss, reason = "127 * 127 * 384 fits an `f32` to within one part in a million")]
        let scores = rows
            .zip(self.scales)
            .map(|(row, scale)| dot(&query.bytes, row) as f32 * query.scale * f32::from_le_bytes(*scale));
        Ok(scores)
    }
}

/// The dot product of signed bytes; 8,000 vectors of dimension 384 are 3 million multiplications.
///
/// Eight sums side by side are what the compiler makes SIMD of: one `sum()` over the products stays scalar. `simd128`
/// is asked for here alone, so the app needs no flags to build, and off wasm the same loop uses what the machine has.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
fn dot(a: &[i8], b: &[u8]) -> i32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0_i32; LANES / 2];
    for (a, b) in a.iter().zip(b) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += product(a[i], b[i]) + product(a[i + LANES / 2], b[i + LANES / 2]);
        }
    }
    let rest: i32 = a_rest.iter().zip(b_rest).map(|(a, b)| product(*a, *b)).sum();
    sums.iter().sum::<i32>() + rest
}

/// Fits 16 bits: at most 128 times 128.
#[inline(always)]
fn product(a: i8, b: u8) -> i32 {
    i32::from(i16::from(a) * i16::from(b.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of unit length that are the same in every run.
    fn vectors(count: usize, dimension: usize) -> Vec<Vector> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from(u16::try_from(state >> 48).expect("16 bits")) / 32_768.0 - 1.0
        };
        (0..count)
            .map(|_| {
                let values: Vec<f32> = (0..dimension).map(|_| next()).collect();
                let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
                Vector::from(values.iter().map(|value| value / length).collect::<Vec<_>>())
            })
            .collect()
    }

    fn scores(packed: &[u8], query: &[f32]) -> Result<Vec<f32>> {
        let query = Quantized::new(query);
        let packed = Packed::read(packed)?;
        let scores = packed.scores(&query)?.collect();
        Ok(scores)
    }

    #[test]
    fn packed_scores_are_near_the_exact_ones() {
        for dimension in [3, 16, 384, 391] {
            let vectors = vectors(20, dimension);
            let packed = pack(&vectors).expect("the vectors fit");
            assert_eq!(packed.len(), 12 + 20 * (4 + dimension));
            let scores = scores(&packed, &vectors[0]).expect("one dimension");
            for (score, vector) in scores.iter().zip(&vectors) {
                assert!((score - vectors[0].dot(vector)).abs() < 0.01, "{score} at dimension {dimension}");
            }
        }
    }

    #[test]
    fn a_vector_of_zeros_scores_zero() {
        let packed = pack(&[vec![0.0; 4].into()]).expect("it fits");
        assert_eq!(scores(&packed, &[1.0; 4]), Ok(vec![0.0]));
    }

    #[test]
    fn damage_and_another_dimension_are_told() {
        let packed = pack(&vectors(2, 4)).expect("the vectors fit");
        assert!(Packed::read(&packed[..packed.len() - 1]).is_err());
        assert!(Packed::read(b"BSV1").is_err());
        assert!(Packed::read(&[&b"BSV2"[..], &packed[4..]].concat()).is_err());
        let error = scores(&packed, &[1.0; 3]).expect_err("another dimension");
        assert!(error.message.contains("dimension 4"), "{error}");
        assert!(pack(&[vec![1.0].into(), vec![1.0, 2.0].into()]).is_err());
    }
}
