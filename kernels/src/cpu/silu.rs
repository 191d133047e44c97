//! The gate of a decoder's feed-forward layer: `silu(gate) · up`, where `silu(x) = x / (1 + exp(−x))`.

use super::isa::{Isa, Kernel};
use super::parallelism::Parallelism;
use super::simd::Simd;
use super::softmax::exp_of_negative;
use crate::ShapeError;

/// Writes `[rows, width]` from `[rows, 2 · width]`: in each row the gates, then the values that they let through.
pub fn silu_gate(x: &[f32], width: usize, out: &mut [f32], parallelism: Parallelism) -> Result<(), ShapeError> {
    ShapeError::check_size("width", width)?;
    ShapeError::check_len("out", out.len(), out.len() / width * width)?;
    ShapeError::check_len("x", x.len(), 2 * out.len())?;
    run_on(Isa::detect(), x, width, out, parallelism);
    Ok(())
}

fn run_on(isa: Isa, x: &[f32], width: usize, out: &mut [f32], parallelism: Parallelism) {
    /// As for a layer norm.
    const ROW_FLOP: usize = 50;
    parallelism.for_rows(out, width, ROW_FLOP * width, |first, out| {
        isa.run(Gates { x: &x[2 * first * width..][..2 * out.len()], width, out });
    });
}

struct Gates<'a> {
    x: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Gates<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (x, out) in self.x.chunks_exact(2 * self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let (gate, up) = x.split_at(self.width);
            let chunks = gate.chunks(S::WIDTH).zip(up.chunks(S::WIDTH));
            for (out, (gate, up)) in out.chunks_mut(S::WIDTH).zip(chunks) {
                let silu = silu(simd, simd.read(gate, 0.0));
                simd.write(out, simd.mul(silu, simd.read(up, 0.0)));
            }
        }
    }
}

/// The exponent is never positive, so the exponential cannot overflow: `x / (1 + e)` above 0, `x · e / (1 + e)` below.
#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let zero = simd.splat(0.0);
    let exponential = exp_of_negative(simd, simd.min(x, simd.sub(zero, x)));
    let numerator = simd.mul_add(simd.min(x, zero), exponential, simd.max(x, zero));
    simd.div(numerator, simd.add(simd.splat(1.0), exponential))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::naive;
    use super::super::parallelism::Threads;
    use super::*;

    fn check(rows: usize, width: usize, seed: u64) {
        let x: Vec<f32> = naive::Random::new(seed).values(rows * 2 * width).iter().map(|x| x * 12.0).collect();
        let expected = naive::silu_gate(&x, width);
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut out = vec![f32::NAN; rows * width];
                Threads::new(threads).unwrap().install(|parallelism| run_on(isa, &x, width, &mut out, parallelism));
                naive::assert_close(&out, &expected, 1e-6);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn gates_let_values_through(rows in 0usize..20, width in 1usize..100, seed: u64) {
            check(rows, width, seed);
        }
    }

    #[test]
    fn many_rows_are_shared_by_threads() {
        check(512, 384, 3);
    }

    #[test]
    fn a_gate_far_from_zero_is_open_or_shut() {
        let mut out = [7.0; 3];
        silu_gate(&[100.0, -100.0, 0.0, 2.0, 2.0, 2.0], 3, &mut out, Parallelism::SINGLE).unwrap();
        assert_eq!(out[0], 200.0);
        assert!(out[1].abs() < 1e-35 && out[2] == 0.0, "{out:?}");
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert_eq!(
            silu_gate(&[0.0; 6], 2, &mut [0.0; 4], Parallelism::SINGLE).unwrap_err(),
            ShapeError::Length { operand: "x", actual: 6, expected: 8 }
        );
    }
}
