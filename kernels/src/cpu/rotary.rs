//! Rotary positions: pairs of a head's values turned by an angle that grows with the token's position.
//!
//! A pair is `(x[i], x[i + depth/2])`, as Hugging Face's Llama lays them out, and its angle `position ·
//! base^(−2i/depth)`.

use super::parallelism::Parallelism;
use crate::ShapeError;

/// The cosines and sines of every position, computed once in f64: at a few thousand radians an f32 angle is off by
/// 1e-4.
#[derive(Debug)]
pub struct Rotary {
    cosines: Vec<f32>,
    sines: Vec<f32>,
    depth: usize,
}

impl Rotary {
    /// Takes the depth of a head, the number of positions, and the base of the angles (10,000 unless a model says
    /// other).
    pub fn new(depth: usize, positions: usize, base: f64) -> Result<Self, ShapeError> {
        ShapeError::check_size("depth", depth)?;
        ShapeError::check_size("positions", positions)?;
        ShapeError::check_len("depth", depth, depth / 2 * 2)?;
        let angles = (0..positions).flat_map(|position| {
            (0..depth / 2).map(move |i| position as f64 * base.powf(-2.0 * i as f64 / depth as f64))
        });
        let (sines, cosines) = angles.map(f64::sin_cos).map(|(sine, cosine)| (sine as f32, cosine as f32)).unzip();
        Ok(Self { cosines, sines, depth })
    }

    /// The cosines, `[positions, depth/2]`, as other devices take them.
    pub fn cosines(&self) -> &[f32] {
        &self.cosines
    }

    /// The sines, `[positions, depth/2]`.
    pub fn sines(&self) -> &[f32] {
        &self.sines
    }

    /// Turns the first `heads` heads of each row of `[tokens, stride]`, in place; `positions` holds each token's.
    pub fn run(
        &self,
        x: &mut [f32],
        stride: usize,
        heads: usize,
        positions: &[u32],
        parallelism: Parallelism,
    ) -> Result<(), ShapeError> {
        ShapeError::check_size("stride", stride)?;
        ShapeError::check_len("x", x.len(), positions.len() * stride)?;
        if heads * self.depth > stride {
            return Err(ShapeError::Length { operand: "stride", actual: stride, expected: heads * self.depth });
        }
        let half = self.depth / 2;
        let length_max = self.cosines.len() / half;
        if let Some(index) = positions.iter().position(|&position| position as usize >= length_max) {
            return Err(ShapeError::Position { index, position: positions[index], positions: length_max });
        }
        parallelism.for_rows(x, stride, 6 * heads * self.depth, |first, rows| {
            for (row, &position) in rows.chunks_exact_mut(stride).zip(&positions[first..]) {
                let angle = position as usize * half;
                let (cosines, sines) = (&self.cosines[angle..][..half], &self.sines[angle..][..half]);
                for head in row.chunks_exact_mut(self.depth).take(heads) {
                    let (a, b) = head.split_at_mut(half);
                    for ((a, b), (cosine, sine)) in a.iter_mut().zip(b).zip(cosines.iter().zip(sines)) {
                        (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
                    }
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::naive;
    use super::super::parallelism::Threads;
    use super::*;

    fn check(tokens: usize, heads: usize, rest: usize, half: usize, seed: u64) {
        let stride = heads * 2 * half + rest;
        let x = naive::Random::new(seed).values(tokens * stride);
        let positions: Vec<u32> = (0..tokens as u32).map(|token| token * 37 % 1000).collect();
        let expected = naive::rotary(&x, stride, heads, 2 * half, &positions, 10_000.0);
        let rotary = Rotary::new(2 * half, 1000, 10_000.0).unwrap();
        for threads in [1, 3] {
            let mut actual = x.clone();
            let threads = Threads::new(threads).unwrap();
            threads.install(|parallelism| rotary.run(&mut actual, stride, heads, &positions, parallelism)).unwrap();
            naive::assert_close(&actual, &expected, 4e-7);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn pairs_are_turned(tokens in 0usize..20, heads in 1usize..4, rest in 0usize..9, half in 1usize..33, seed: u64) {
            check(tokens, heads, rest, half, seed);
        }
    }

    #[test]
    fn many_rows_are_shared_by_threads() {
        check(1000, 16, 64, 32, 5);
    }

    #[test]
    fn wrong_shapes_and_unknown_positions_are_refused() {
        assert_eq!(
            Rotary::new(3, 4, 10_000.0).unwrap_err(),
            ShapeError::Length { operand: "depth", actual: 3, expected: 2 }
        );
        let rotary = Rotary::new(4, 2, 10_000.0).unwrap();
        assert_eq!(
            rotary.run(&mut [0.0; 8], 4, 1, &[0, 2], Parallelism::SINGLE).unwrap_err(),
            ShapeError::Position { index: 1, position: 2, positions: 2 }
        );
        assert_eq!(
            rotary.run(&mut [0.0; 8], 4, 2, &[0, 1], Parallelism::SINGLE).unwrap_err(),
            ShapeError::Length { operand: "stride", actual: 4, expected: 8 }
        );
    }
}
