//! Root-mean-square normalisation, as decoders have it: each row over its root mean square, then scaled.

use super::isa::{Isa, Kernel};
use super::parallelism::Parallelism;
use super::simd::Simd;
use crate::ShapeError;

/// A normalisation's scale.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    /// Takes a weight of `[width]`; `epsilon` keeps a row of zeros from dividing by zero.
    pub fn new(weight: Vec<f32>, epsilon: f32) -> Result<Self, ShapeError> {
        ShapeError::check_size("width", weight.len())?;
        Ok(Self { weight, epsilon })
    }

    /// The values in a row.
    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// Adds `x` to `residual`, which lives on as the next layer's, and writes the normalisation of the sum to `out`.
    pub fn add_residual(
        &self,
        x: &[f32],
        residual: &mut [f32],
        out: &mut [f32],
        parallelism: Parallelism,
    ) -> Result<(), ShapeError> {
        ShapeError::check_len("x", x.len(), residual.len())?;
        self.check(residual, out)?;
        parallelism.for_rows(residual, self.width(), ROW_FLOP * self.width(), |first, residual| {
            let x = &x[first * self.width()..][..residual.len()];
            residual.iter_mut().zip(x).for_each(|(residual, x)| *residual += x);
        });
        self.run_on(Isa::detect(), residual, out, parallelism);
        Ok(())
    }

    /// Writes the normalisation of `x` to `out`.
    pub fn run(&self, x: &[f32], out: &mut [f32], parallelism: Parallelism) -> Result<(), ShapeError> {
        self.check(x, out)?;
        self.run_on(Isa::detect(), x, out, parallelism);
        Ok(())
    }

    fn check(&self, x: &[f32], out: &[f32]) -> Result<(), ShapeError> {
        ShapeError::check_len("x", x.len(), x.len() / self.width() * self.width())?;
        ShapeError::check_len("out", out.len(), x.len())
    }

    fn run_on(&self, isa: Isa, x: &[f32], out: &mut [f32], parallelism: Parallelism) {
        parallelism.for_rows(out, self.width(), ROW_FLOP * self.width(), |first, out| {
            let x = &x[first * self.width()..][..out.len()];
            isa.run(Rows { norm: self, x, out });
        });
    }
}

/// As for a layer norm.
const ROW_FLOP: usize = 50;

struct Rows<'a> {
    norm: &'a RmsNorm,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.norm.width();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let mut sum = simd.splat(0.0);
            for chunk in x.chunks(S::WIDTH) {
                let value = simd.read(chunk, 0.0);
                sum = simd.mul_add(value, value, sum);
            }
            let scale = simd.splat(1.0 / (simd.sum(sum) / width as f32 + self.norm.epsilon).sqrt());
            let chunks = x.chunks(S::WIDTH).zip(self.norm.weight.chunks(S::WIDTH));
            for (out, (x, weight)) in out.chunks_mut(S::WIDTH).zip(chunks) {
                let x = simd.mul(simd.read(x, 0.0), scale);
                simd.write(out, simd.mul(x, simd.read(weight, 0.0)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::naive;
    use super::super::parallelism::Threads;
    use super::*;

    fn check(rows: usize, width: usize, seed: u64) {
        let mut random = naive::Random::new(seed);
        let (weight, x) = (random.values(width), random.values(rows * width));
        let expected = naive::rms_norm(&x, &weight, 1e-5);
        let norm = RmsNorm::new(weight, 1e-5).unwrap();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut actual = vec![f32::NAN; x.len()];
                Threads::new(threads).unwrap().install(|parallelism| norm.run_on(isa, &x, &mut actual, parallelism));
                naive::assert_close(&actual, &expected, 2e-6);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn rows_are_normalised(rows in 0usize..20, width in 1usize..100, seed: u64) {
            check(rows, width, seed);
        }
    }

    #[test]
    fn many_rows_are_shared_by_threads() {
        check(512, 384, 3);
    }

    #[test]
    fn the_residual_is_the_sum_and_the_output_its_normalisation() {
        let norm = RmsNorm::new(vec![1.0, 2.0], 0.0).unwrap();
        let (mut residual, mut out) = ([1.0, 0.0], [0.0; 2]);
        norm.add_residual(&[2.0, 3.0], &mut residual, &mut out, Parallelism::SINGLE).unwrap();
        assert_eq!(residual, [3.0, 3.0]);
        assert_eq!(out, [1.0, 2.0]);
    }

    #[test]
    fn a_row_of_zeros_stays_zeros() {
        let mut out = [7.0; 3];
        RmsNorm::new(vec![1.0; 3], 1e-6).unwrap().run(&[0.0; 3], &mut out, Parallelism::SINGLE).unwrap();
        assert_eq!(out, [0.0; 3]);
    }

    #[test]
    fn wrong_shapes_are_refused_before_anything_is_written() {
        let norm = RmsNorm::new(vec![1.0; 3], 1e-6).unwrap();
        let (mut residual, mut out) = ([1.0; 3], [7.0; 6]);
        assert_eq!(
            norm.add_residual(&[1.0; 3], &mut residual, &mut out, Parallelism::SINGLE).unwrap_err(),
            ShapeError::Length { operand: "out", actual: 6, expected: 3 }
        );
        assert_eq!((residual, out), ([1.0; 3], [7.0; 6]));
    }
}
