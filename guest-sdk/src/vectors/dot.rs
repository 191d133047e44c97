//! Dot product of signed bytes: 8,000 vectors of 384 dimensions are 3 million multiplications.

/// Bytes of a SIMD register.
#[cfg(target_arch = "wasm32")]
const LANES: usize = 16;

/// Returns the dot product. A product of two bytes is at most 127 × 127, so 65,536 of them fit 32 bits.
///
/// The feature is asked for here alone, so apps need no compiler flag; a host without it would refuse the app when it
/// is deployed, and Bireme's engine always has it. Explicit operations, because apps are built for size, at which level
/// the compiler does not vectorise loops.
#[cfg(target_arch = "wasm32")]
#[target_feature(enable = "simd128")]
pub(super) fn dot(a: &[u8], b: &[u8]) -> i32 {
    use core::arch::wasm32::{
        i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i32x4_add, i32x4_dot_i16x8, i32x4_extract_lane, i32x4_splat,
        i64x2, v128,
    };

    #[target_feature(enable = "simd128")]
    fn load(bytes: &[u8; LANES]) -> v128 {
        let (halves, _) = bytes.as_chunks::<8>();
        i64x2(i64::from_le_bytes(halves[0]), i64::from_le_bytes(halves[1]))
    }

    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = i32x4_splat(0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (load(a), load(b));
        let low = i32x4_dot_i16x8(i16x8_extend_low_i8x16(a), i16x8_extend_low_i8x16(b));
        let high = i32x4_dot_i16x8(i16x8_extend_high_i8x16(a), i16x8_extend_high_i8x16(b));
        sums = i32x4_add(sums, i32x4_add(low, high));
    }
    i32x4_extract_lane::<0>(sums)
        + i32x4_extract_lane::<1>(sums)
        + i32x4_extract_lane::<2>(sums)
        + i32x4_extract_lane::<3>(sums)
        + scalar(a_rest, b_rest)
}

/// Returns the dot product, in native tests.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn dot(a: &[u8], b: &[u8]) -> i32 {
    scalar(a, b)
}

fn scalar(a: &[u8], b: &[u8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b.cast_signed())).sum()
}
