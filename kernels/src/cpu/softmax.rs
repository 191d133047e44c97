//! Softmax: of whole rows, and its numerator alone, for rows of attention scores.

use super::gelu::polynomial;
use super::isa::{Isa, Kernel};
use super::parallelism::Parallelism;
use super::simd::Simd;
use crate::ShapeError;

/// Replaces each value of each row by `exp(scale · (x − max))` over the row's sum of these.
pub fn softmax(x: &mut [f32], width: usize, scale: f32, parallelism: Parallelism) -> Result<(), ShapeError> {
    ShapeError::check_size("width", width)?;
    ShapeError::check_len("x", x.len(), x.len() / width * width)?;
    run_on(Isa::detect(), x, width, scale, parallelism);
    Ok(())
}

fn run_on(isa: Isa, x: &mut [f32], width: usize, scale: f32, parallelism: Parallelism) {
    /// As for a layer norm.
    const ROW_FLOP: usize = 50;
    parallelism.for_rows(x, width, ROW_FLOP * width, |_, x| isa.run(Rows { x, width, scale }));
}

struct Rows<'a> {
    x: &'a mut [f32],
    width: usize,
    scale: f32,
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.x.chunks_exact_mut(self.width) {
            let scale = 1.0 / exponentials(simd, row, self.scale);
            for chunk in row.chunks_mut(S::WIDTH) {
                let weight = simd.mul(simd.read(chunk, 0.0), simd.splat(scale));
                simd.write(chunk, weight);
            }
        }
    }
}

/// Replaces each score by `exp(scale · (score − max))` and returns the sum of them.
///
/// Not divided by the sum here: attention divides its few outputs instead of its many weights. A score of -∞ gets a
/// weight under 2e-38, which is nothing in a sum that is at least 1.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(simd: S, scores: &mut [f32], scale: f32) -> f32 {
    let mut max = simd.splat(f32::NEG_INFINITY);
    let whole = scores.chunks_exact(S::WIDTH);
    let rest = simd.read(whole.remainder(), f32::NEG_INFINITY);
    for chunk in whole {
        max = simd.max(max, simd.read(chunk, f32::NEG_INFINITY));
    }
    let max = simd.splat(simd.max_value(simd.max(max, rest)));
    let scale = simd.splat(scale);
    let mut sum = simd.splat(0.0);
    let mut whole = scores.chunks_exact_mut(S::WIDTH);
    for chunk in &mut whole {
        let weight = weight(simd, simd.read(chunk, f32::NEG_INFINITY), max, scale);
        simd.write(chunk, weight);
        sum = simd.add(sum, weight);
    }
    let chunk = whole.into_remainder();
    if !chunk.is_empty() {
        let weight = weight(simd, rest, max, scale);
        simd.write(chunk, weight);
        sum = simd.add(sum, weight);
    }
    simd.sum(sum)
}

/// Not a closure: only `#[inline(always)]` makes sure that it is compiled for `S`.
#[inline(always)]
fn weight<S: Simd>(simd: S, score: S::Vector, max: S::Vector, scale: S::Vector) -> S::Vector {
    exp_of_negative(simd, simd.mul(simd.sub(score, max), scale))
}

/// `exp(x)` for `x` up to 0, within 2e-7 of the true value relative to it; below -87 it stays at `exp(-87)`.
#[inline(always)]
pub(crate) fn exp_of_negative<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    /// Adding and subtracting it rounds to a whole number: 1.5 · 2^23.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first exact in so few bits that its product with a whole number is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// `(exp(r) − 1 − r) / r²` on ±ln(2)/2, from the Cephes library.
    const COEFFICIENTS: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

    let x = simd.max(x, simd.splat(-87.0));
    let scaled = simd.mul_add(x, simd.splat(std::f32::consts::LOG2_E), simd.splat(ROUND));
    let exponent = simd.sub(scaled, simd.splat(ROUND));
    let rest = simd.mul_add(exponent, simd.splat(-LN_2[0]), x);
    let rest = simd.mul_add(exponent, simd.splat(-LN_2[1]), rest);
    let square = simd.mul(rest, rest);
    let tail = simd.mul_add(polynomial(simd, rest, &COEFFICIENTS), square, rest);
    simd.mul(simd.add(tail, simd.splat(1.0)), simd.pow2(exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::naive;
    use super::super::parallelism::Threads;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_row_sums_to_one(rows in 0usize..20, width in 1usize..100, scale in 0.1f32..8.0, seed: u64) {
            let x = naive::Random::new(seed).values(rows * width);
            let expected = naive::softmax(&x, width, f64::from(scale));
            for isa in Isa::available() {
                for threads in [1, 3] {
                    let mut actual = x.clone();
                    Threads::new(threads).unwrap().install(|parallelism| run_on(isa, &mut actual, width, scale, parallelism));
                    naive::assert_close(&actual, &expected, 1e-6);
                }
            }
        }
    }

    struct Exponentials<'a>(&'a mut [f32], f32);

    impl Kernel for Exponentials<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let sum = exponentials(simd, self.0, self.1);
            let plain: f64 = self.0.iter().map(|&weight| f64::from(weight)).sum();
            assert!((f64::from(sum) - plain).abs() <= 1e-5 * plain);
        }
    }

    #[test]
    fn weights_are_exponentials_below_the_maximum() {
        for isa in Isa::available() {
            for len in [1, 2, 15, 16, 17, 512, 4099] {
                let scores: Vec<f32> =
                    (0..len).map(|index| 40.0 - (index * 7919 % len) as f32 * 160.0 / len as f32).collect();
                let max = scores.iter().copied().fold(f32::MIN, f32::max);
                let mut weights = scores.clone();
                isa.run(Exponentials(&mut weights, 0.5));
                for (&score, &weight) in scores.iter().zip(&weights) {
                    let expected = (f64::from(score - max) * 0.5).exp();
                    let error = (f64::from(weight) - expected).abs() / expected;
                    assert!(error < 2e-7, "{}: exp({score}) off by {error:e}", isa.name());
                }
            }
        }
    }

    #[test]
    fn huge_scores_do_not_overflow_and_absent_ones_weigh_nothing() {
        for isa in Isa::available() {
            let mut weights = [3e38, 3e38, -3e38, f32::NEG_INFINITY];
            isa.run(Exponentials(&mut weights, 0.1));
            assert_eq!(weights[..2], [1.0, 1.0]);
            assert!(weights[2] < 2e-38 && weights[3] < 2e-38, "{weights:?}");
        }
    }
}
