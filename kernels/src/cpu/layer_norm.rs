//! Layer normalisation: each row to mean 0 and variance 1, then scaled and shifted.

use super::isa::{Isa, Kernel};
use super::parallelism::Parallelism;
use super::simd::Simd;
use crate::ShapeError;

/// A normalisation's scale and shift.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// Takes a weight and a bias of `[width]`; `epsilon` keeps a constant row from dividing by zero.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Result<Self, ShapeError> {
        ShapeError::check_size("width", weight.len())?;
        ShapeError::check_len("bias", bias.len(), weight.len())?;
        Ok(Self { weight, bias, epsilon })
    }

    /// The values in a row.
    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// Replaces `x` by the normalisation of `x + residual`, row by row.
    pub fn add_residual(&self, x: &mut [f32], residual: &[f32], parallelism: Parallelism) -> Result<(), ShapeError> {
        let width = self.width();
        ShapeError::check_len("x", x.len(), x.len() / width * width)?;
        ShapeError::check_len("residual", residual.len(), x.len())?;
        self.add_residual_on(Isa::detect(), x, residual, parallelism);
        Ok(())
    }

    fn add_residual_on(&self, isa: Isa, x: &mut [f32], residual: &[f32], parallelism: Parallelism) {
        parallelism.for_rows(x, self.width(), ROW_FLOP * self.width(), |first, x| {
            let residual = &residual[first * self.width()..][..x.len()];
            isa.run(AddResidual { norm: self, x, residual });
        });
    }

    /// Normalises one row in place.
    #[inline(always)]
    pub(crate) fn row<S: Simd>(&self, simd: S, row: &mut [f32]) {
        let scale = 1.0 / row.len() as f32;
        let mut sum = simd.splat(0.0);
        for chunk in row.chunks(S::WIDTH) {
            sum = simd.add(sum, simd.read(chunk, 0.0));
        }
        let mean = simd.sum(sum) * scale;

        // Two passes, for one that sums squares loses the digits of a row whose mean is far from 0.
        let mut sum = simd.splat(0.0);
        for chunk in row.chunks(S::WIDTH) {
            let distance = simd.sub(simd.read(chunk, mean), simd.splat(mean));
            sum = simd.mul_add(distance, distance, sum);
        }
        let deviation = simd.splat(1.0 / (simd.sum(sum) * scale + self.epsilon).sqrt());

        let mean = simd.splat(mean);
        let parameters = self.weight.chunks(S::WIDTH).zip(self.bias.chunks(S::WIDTH));
        for (chunk, (weight, bias)) in row.chunks_mut(S::WIDTH).zip(parameters) {
            let x = simd.mul(simd.sub(simd.read(chunk, 0.0), mean), deviation);
            simd.write(chunk, simd.mul_add(x, simd.read(weight, 0.0), simd.read(bias, 0.0)));
        }
    }
}

/// Cost of a value relative to an operation of a product, many of which run in a cycle.
const ROW_FLOP: usize = 50;

struct AddResidual<'a> {
    norm: &'a LayerNorm,
    x: &'a mut [f32],
    residual: &'a [f32],
}

impl Kernel for AddResidual<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.norm.width();
        for (row, residual) in self.x.chunks_exact_mut(width).zip(self.residual.chunks_exact(width)) {
            for (x, residual) in row.chunks_mut(S::WIDTH).zip(residual.chunks(S::WIDTH)) {
                let sum = simd.add(simd.read(x, 0.0), simd.read(residual, 0.0));
                simd.write(x, sum);
            }
            self.norm.row(simd, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::naive;
    use super::super::parallelism::Threads;
    use super::*;

    fn check(rows: usize, width: usize, offset: f32, seed: u64) {
        let mut random = naive::Random::new(seed);
        let (weight, bias) = (random.values(width), random.values(width));
        let x: Vec<f32> = random.values(rows * width).iter().map(|x| x + offset).collect();
        let residual = random.values(rows * width);
        let sum: Vec<f32> = x.iter().zip(&residual).map(|(x, residual)| x + residual).collect();
        let expected = naive::layer_norm(&sum, &weight, &bias, 1e-12);
        let norm = LayerNorm::new(weight, bias, 1e-12).unwrap();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut actual = x.clone();
                Threads::new(threads)
                    .unwrap()
                    .install(|parallelism| norm.add_residual_on(isa, &mut actual, &residual, parallelism));
                naive::assert_close(&actual, &expected, 2e-5 * f64::from(1.0 + offset.abs()));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn rows_are_normalised(rows in 0usize..20, width in 8usize..100, offset in -4f32..4.0, seed: u64) {
            check(rows, width, offset, seed);
        }
    }

    #[test]
    fn many_rows_are_shared_by_threads() {
        check(512, 384, 0.0, 3);
    }

    #[test]
    fn a_constant_row_becomes_the_bias() {
        let norm = LayerNorm::new(vec![2.0; 24], vec![0.5; 24], 1e-12).unwrap();
        let mut x = [3.0; 24];
        norm.add_residual(&mut x, &[1.0; 24], Parallelism::SINGLE).unwrap();
        assert_eq!(x, [0.5; 24]);
    }

    #[test]
    fn a_residual_of_another_shape_is_refused() {
        let norm = LayerNorm::new(vec![1.0; 4], vec![0.0; 4], 1e-12).unwrap();
        assert_eq!(
            norm.add_residual(&mut [1.0; 8], &[1.0; 4], Parallelism::SINGLE).unwrap_err(),
            ShapeError::Length { operand: "residual", actual: 4, expected: 8 }
        );
    }
}
