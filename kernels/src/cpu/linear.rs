//! A fully connected layer: `out = activation(x · Wᵀ + bias)`.

use std::ops::Range;

use super::buffer::Buffer;
use super::gelu::gelu;
use super::isa::{Isa, Kernel};
use super::parallelism::Parallelism;
use super::simd::Simd;
use super::tile::{self, Rows, TILE_LEN_MAX, TILE_ROWS_MAX, panel_width};
use crate::ShapeError;

/// The function applied to each output of a [`Linear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Identity,
    Gelu,
}

/// A layer's weights, laid out once for the products of this machine.
#[derive(Debug)]
pub struct Linear {
    isa: Isa,
    panels: Buffer,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
    activation: Activation,
}

impl Linear {
    /// Takes a weight of `[outputs, inputs]`, as model files hold it, and a bias of `[outputs]`.
    pub fn new(weight: &[f32], bias: Vec<f32>, inputs: usize, activation: Activation) -> Result<Self, ShapeError> {
        Self::for_isa(Isa::detect(), weight, bias, inputs, activation)
    }

    pub(crate) fn for_isa(
        isa: Isa,
        weight: &[f32],
        bias: Vec<f32>,
        inputs: usize,
        activation: Activation,
    ) -> Result<Self, ShapeError> {
        let outputs = bias.len();
        ShapeError::check_size("inputs", inputs)?;
        ShapeError::check_size("outputs", outputs)?;
        ShapeError::check_len("weight", weight.len(), outputs.saturating_mul(inputs))?;
        let width = tile::PANEL_VECTORS * isa.width();
        let mut panels = Buffer::zeroed(tile::panels_len(width, outputs, inputs));
        tile::pack_transposed(panels.as_mut_slice(), width, weight, inputs, outputs, inputs);
        Ok(Self { isa, panels, bias, inputs, outputs, activation })
    }

    /// The values that each row of the input has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The values that each row of the output has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Computes `[rows, outputs]` from `[rows, inputs]`.
    pub fn run(&self, x: &[f32], out: &mut [f32], parallelism: Parallelism) -> Result<(), ShapeError> {
        let rows = x.len() / self.inputs;
        ShapeError::check_len("x", x.len(), rows * self.inputs)?;
        ShapeError::check_len("out", out.len(), rows * self.outputs)?;

        let panels = self.outputs.div_ceil(tile::PANEL_VECTORS * self.isa.width());
        let flop = 2 * rows * self.inputs * self.outputs;
        let grid = Grid::new(rows, panels, self.inputs, flop, parallelism.for_flop(flop));
        let out = Output { start: out.as_mut_ptr(), len: out.len() };
        parallelism.for_each(grid.parts(), |part| {
            let (rows, panels) = grid.part(part);
            self.isa.run(Part { linear: self, x, out: &out, rows, panels });
        });
        Ok(())
    }
}

/// The parts of a product: cut by rows, so that a part's inputs stay in the second-level cache while every panel passes
/// over them, and by panels, so that every thread has something to do.
struct Grid {
    rows: usize,
    row_parts: usize,
    panels: usize,
    panel_parts: usize,
}

impl Grid {
    /// Half of a second-level cache of 1 MiB, in values.
    const ROWS_LEN_MAX: usize = 128 * 1024;

    /// The operations of a part that is worth taking: some 16 µs. Small parts even out what other processes take.
    const PART_FLOP: usize = 4_000_000;

    fn new(rows: usize, panels: usize, inputs: usize, flop: usize, parallelism: Parallelism) -> Self {
        let row_parts = rows.div_ceil((Self::ROWS_LEN_MAX / inputs).next_multiple_of(TILE_ROWS_MAX)).max(1);
        let parts = if parallelism.threads() == 1 {
            1
        } else {
            (flop / Self::PART_FLOP).next_multiple_of(parallelism.threads())
        };
        Self { rows, row_parts, panels, panel_parts: parts.div_ceil(row_parts).clamp(1, panels) }
    }

    fn parts(&self) -> usize {
        self.row_parts * self.panel_parts
    }

    /// Parts are of one size, give or take one: a small last one would read all weights again for a few rows.
    fn part(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let share = |len: usize, parts: usize, part: usize| part * len / parts..(part + 1) * len / parts;
        // Whole tiles of every instruction set.
        let tiles = share(self.rows.div_ceil(TILE_ROWS_MAX), self.row_parts, index / self.panel_parts);
        let rows = tiles.start * TILE_ROWS_MAX..self.rows.min(tiles.end * TILE_ROWS_MAX);
        (rows, share(self.panels, self.panel_parts, index % self.panel_parts))
    }
}

/// The output of a product, of which each part writes its own rows and columns.
struct Output {
    start: *mut f32,
    len: usize,
}

#[expect(unsafe_code, reason = "parts write columns beside each other, which no split of a slice can express")]
// SAFETY: `Output` stands for a `&mut [f32]` that `Linear::run` holds; its parts write disjoint values (see `Grid`).
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    /// No other part writes `start..start + len` while the slice lives.
    #[expect(unsafe_code, clippy::mut_from_ref, reason = "see the impl of `Sync`")]
    unsafe fn slice(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start + len <= self.len);
        // SAFETY: in bounds, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

struct Part<'a> {
    linear: &'a Linear,
    x: &'a [f32],
    out: &'a Output,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Kernel for Part<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Linear { panels, bias, inputs, outputs, activation, .. } = self.linear;
        let (width, depth) = (panel_width::<S>(), *inputs);
        let mut tile = Tile([0.0; TILE_LEN_MAX]);
        for panel in self.panels {
            let first = panel * width;
            let used = width.min(outputs - first);
            let bias = &bias[first..first + used];
            let panel = &panels.as_slice()[panel * width * depth..][..width * depth];
            for start in self.rows.clone().step_by(S::TILE_ROWS) {
                let count = S::TILE_ROWS.min(self.rows.end - start);
                let rows = Rows { values: &self.x[start * depth..], stride: depth, depth };
                tile::multiply::<S, true>(simd, count, rows, panel, &mut tile.0, width);
                for (row, sums) in tile.0.chunks_exact(width).take(count).enumerate() {
                    #[expect(unsafe_code, reason = "see `Output`")]
                    // SAFETY: these rows and columns belong to this part alone, and the slice ends with this step.
                    let out = unsafe { self.out.slice((start + row) * outputs + first, used) };
                    finish(simd, sums, bias, *activation, out);
                }
            }
        }
    }
}

/// The sums of one tile, on a cache line as everything that vectors read.
#[repr(align(64))]
struct Tile([f32; TILE_LEN_MAX]);

/// Writes a row of sums with the bias added and the activation applied, while it is still in the first-level cache.
#[inline(always)]
fn finish<S: Simd>(simd: S, sums: &[f32], bias: &[f32], activation: Activation, out: &mut [f32]) {
    let vectors = sums.chunks_exact(S::WIDTH).zip(bias.chunks(S::WIDTH)).zip(out.chunks_mut(S::WIDTH));
    for ((sums, bias), out) in vectors {
        let x = simd.add(simd.read(sums, 0.0), simd.read(bias, 0.0));
        let x = match activation {
            Activation::Identity => x,
            Activation::Gelu => gelu(simd, x),
        };
        simd.write(out, x);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::naive;
    use super::super::parallelism::Threads;
    use super::*;

    fn check(rows: usize, inputs: usize, outputs: usize, activation: Activation, seed: u64) {
        let mut random = naive::Random::new(seed);
        let (x, weight, bias) = (random.values(rows * inputs), random.values(outputs * inputs), random.values(outputs));
        let expected = naive::linear(&x, &weight, &bias, activation == Activation::Gelu);
        for isa in Isa::available() {
            let linear = Linear::for_isa(isa, &weight, bias.clone(), inputs, activation).unwrap();
            let mut alone = vec![f32::NAN; rows * outputs];
            linear.run(&x, &mut alone, Parallelism::SINGLE).unwrap();
            naive::assert_close(&alone, &expected, 1e-6 * inputs as f64);
            let mut shared = vec![f32::NAN; rows * outputs];
            Threads::new(3).unwrap().install(|parallelism| linear.run(&x, &mut shared, parallelism)).unwrap();
            assert_eq!(alone, shared, "a thread count changed the result on {}", isa.name());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_product_equals_the_plain_one(rows in 0usize..40, inputs in 1usize..70, outputs in 1usize..90, is_gelu: bool, seed: u64) {
            check(rows, inputs, outputs, if is_gelu { Activation::Gelu } else { Activation::Identity }, seed);
        }
    }

    #[test]
    fn a_product_that_is_shared_by_threads_equals_the_plain_one() {
        check(300, 130, 200, Activation::Gelu, 7);
        check(13, 1024, 512, Activation::Identity, 8);
    }

    #[test]
    fn wrong_shapes_are_refused_before_anything_is_written() {
        assert_eq!(
            Linear::new(&[0.0; 5], vec![0.0; 2], 3, Activation::Identity).unwrap_err(),
            ShapeError::Length { operand: "weight", actual: 5, expected: 6 }
        );
        let linear = Linear::new(&[1.0; 6], vec![0.0; 2], 3, Activation::Identity).unwrap();
        let mut out = [7.0; 4];
        assert_eq!(
            linear.run(&[1.0; 5], &mut out, Parallelism::SINGLE).unwrap_err(),
            ShapeError::Length { operand: "x", actual: 5, expected: 3 }
        );
        assert_eq!(
            linear.run(&[1.0; 9], &mut out, Parallelism::SINGLE).unwrap_err(),
            ShapeError::Length { operand: "out", actual: 4, expected: 6 }
        );
        assert_eq!(out, [7.0; 4]);
    }
}
