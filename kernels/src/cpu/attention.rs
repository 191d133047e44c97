//! Multi-head self-attention over packed sequences: a token sees every token of its own sequence, or with causal
//! attention those up to itself, and no other. Several heads of queries may share one of keys and values.
//!
//! Scores exist for a few queries at a time, never for a whole sequence: beside the keys and values of one head, the
//! scratch of a thread is `tile rows · length` values.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::buffer::Buffer;
use super::isa::{Isa, Kernel};
use super::parallelism::Parallelism;
use super::simd::Simd;
use super::softmax;
use super::tile::{self, Rows, TILE_ROWS_MAX, panel_width};
use crate::{Sequences, ShapeError};

/// The shape of an attention layer; it has no weights of its own.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    heads: usize,
    kv_heads: usize,
    depth: usize,
    is_causal: bool,
}

impl Attention {
    /// Takes a hidden size that `heads` divide.
    pub fn new(hidden: usize, heads: usize) -> Result<Self, ShapeError> {
        ShapeError::check_size("hidden", hidden)?;
        ShapeError::check_size("heads", heads)?;
        if !hidden.is_multiple_of(heads) {
            return Err(ShapeError::Heads { hidden, heads });
        }
        Ok(Self { heads, kv_heads: heads, depth: hidden / heads, is_causal: false })
    }

    /// The values in a row of queries, keys and values.
    pub fn inputs(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.depth
    }

    /// The values in a row of the output.
    pub fn outputs(&self) -> usize {
        self.heads * self.depth
    }

    /// Takes a decoder's shape: `kv_heads` divide `heads`, and each serves that many heads of queries beside each
    /// other.
    pub fn causal(heads: usize, kv_heads: usize, depth: usize) -> Result<Self, ShapeError> {
        Ok(Self { is_causal: true, ..Self::grouped(heads, kv_heads, depth)? })
    }

    /// As [`Self::causal`], but every token sees its whole sequence.
    pub fn grouped(heads: usize, kv_heads: usize, depth: usize) -> Result<Self, ShapeError> {
        ShapeError::check_size("heads", heads)?;
        ShapeError::check_size("kv_heads", kv_heads)?;
        ShapeError::check_size("depth", depth)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(ShapeError::KvHeads { heads, kv_heads });
        }
        Ok(Self { heads, kv_heads, depth, is_causal: false })
    }

    /// The values that a row of the output has.
    pub fn hidden(&self) -> usize {
        self.heads * self.depth
    }

    /// The values that a row of the input has: the queries of all heads, then keys, then values.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.depth
    }

    /// Writes `[tokens, hidden]` from `[tokens, qkv_width]`.
    pub fn run(
        &self,
        qkv: &[f32],
        sequences: Sequences<'_>,
        out: &mut [f32],
        parallelism: Parallelism,
    ) -> Result<(), ShapeError> {
        ShapeError::check_len("qkv", qkv.len(), sequences.tokens() * self.qkv_width())?;
        ShapeError::check_len("out", out.len(), sequences.tokens() * self.hidden())?;
        self.run_on(Isa::detect(), qkv, sequences, out, parallelism);
        Ok(())
    }

    fn run_on(&self, isa: Isa, qkv: &[f32], sequences: Sequences<'_>, out: &mut [f32], parallelism: Parallelism) {
        let (hidden, stride) = (self.hidden(), self.qkv_width());
        // A part takes some queries for all heads. It lays out the keys and values again, which costs it one part in as
        // many as it has queries, and in return its outputs are whole rows.
        let flop = |range: &Range<usize>| 4 * range.len() * range.len() * hidden;
        let parallelism = parallelism.for_flop(sequences.ranges().map(|range| flop(&range)).sum());
        let parts_max = (2 * parallelism.threads()).div_ceil(sequences.len().max(1)).min(parallelism.threads());
        let parts = |range: &Range<usize>| (flop(range) / Parallelism::SHARE_FLOP_MIN).clamp(1, parts_max);
        let mut rest = out;
        let jobs = sequences.ranges().flat_map(|range| {
            let (out, after) = std::mem::take(&mut rest).split_at_mut(range.len() * hidden);
            rest = after;
            let qkv = &qkv[range.start * stride..range.end * stride];
            let queries = range.len().div_ceil(parts(&range));
            out.chunks_mut(queries * hidden).enumerate().map(move |(index, out)| (qkv, index * queries, out))
        });
        let count = sequences.ranges().map(|range| range.len().div_ceil(range.len().div_ceil(parts(&range)))).sum();
        let jobs = Mutex::new(jobs);
        parallelism.for_each(count, |_| {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let (qkv, first, out) = next.expect("there is a job for each part");
            let queries = first..first + out.len() / hidden;
            SCRATCH.with_borrow_mut(|scratch| isa.run(Part { attention: *self, qkv, queries, out, scratch }));
        });
    }
}

thread_local! {
    /// Kept between batches: at most some 200 KiB a thread for sequences of 512 and heads of 64.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    keys: Buffer,
    values: Buffer,
    scores: Buffer,
    outputs: Buffer,
}

/// Some queries of one sequence, for all heads.
struct Part<'a> {
    attention: Attention,
    qkv: &'a [f32],
    queries: Range<usize>,
    out: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Kernel for Part<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { attention, qkv, queries, out, scratch } = self;
        let Attention { heads, kv_heads, depth, is_causal } = attention;
        let (hidden, stride, width) = (attention.hidden(), attention.qkv_width(), panel_width::<S>());
        let length = qkv.len() / stride;
        let (scores_stride, outputs_stride) = (length.next_multiple_of(width), depth.next_multiple_of(width));
        let scale = 1.0 / (depth as f32).sqrt();

        scratch.keys.reserve(tile::panels_len(width, length, depth));
        scratch.values.reserve(tile::panels_len(width, depth, length));
        scratch.scores.reserve(S::TILE_ROWS * scores_stride);
        scratch.outputs.reserve(S::TILE_ROWS * outputs_stride);
        let (keys, values) = (scratch.keys.as_mut_slice(), scratch.values.as_mut_slice());
        let (scores, outputs) = (scratch.scores.as_mut_slice(), scratch.outputs.as_mut_slice());

        for head in 0..heads {
            let column = head * depth;
            if head.is_multiple_of(heads / kv_heads) {
                let key = (heads + head / (heads / kv_heads)) * depth;
                tile::pack_transposed(keys, width, &qkv[key..], stride, length, depth);
                tile::pack(values, width, &qkv[key + kv_heads * depth..], stride, depth, length);
            }

            for start in queries.clone().step_by(S::TILE_ROWS) {
                let count = S::TILE_ROWS.min(queries.end - start);
                let rows = Rows { values: &qkv[start * stride + column..], stride, depth };
                // The keys that any query of the tile sees.
                let end = if is_causal { start + count } else { length };
                for (panel, first) in keys.chunks_exact(depth * width).zip((0..end).step_by(width)) {
                    tile::multiply::<S, false>(simd, count, rows, panel, &mut scores[first..], scores_stride);
                }

                let mut sums = [0.0; TILE_ROWS_MAX];
                for (row, (scores, sum)) in scores.chunks_exact_mut(scores_stride).zip(&mut sums[..count]).enumerate() {
                    let (seen, unseen) = scores[..end].split_at_mut(if is_causal { start + row + 1 } else { end });
                    *sum = softmax::exponentials(simd, seen, scale);
                    unseen.fill(0.0);
                }

                let rows = Rows { values: scores, stride: scores_stride, depth: end };
                for (panel, first) in values.chunks_exact(length * width).zip((0..depth).step_by(width)) {
                    tile::multiply::<S, false>(simd, count, rows, panel, &mut outputs[first..], outputs_stride);
                }

                for (row, (outputs, sum)) in outputs.chunks_exact(outputs_stride).zip(&sums[..count]).enumerate() {
                    let out = &mut out[(start - queries.start + row) * hidden + column..][..depth];
                    let scale = simd.splat(1.0 / sum);
                    for (out, outputs) in out.chunks_mut(S::WIDTH).zip(outputs.chunks_exact(S::WIDTH)) {
                        let scaled = simd.mul(simd.read(outputs, 0.0), scale);
                        simd.write(out, scaled);
                    }
                }
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

    fn check(lengths: &[usize], attention: Attention, seed: u64) {
        let mut cu_seqlens = vec![0];
        for &length in lengths {
            cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length as u32);
        }
        let sequences = Sequences::new(&cu_seqlens).unwrap();
        let qkv: Vec<f32> = naive::Random::new(seed)
            .values(sequences.tokens() * attention.qkv_width())
            .iter()
            .map(|x| x * 3.0)
            .collect();
        let Attention { heads, kv_heads, depth, is_causal } = attention;
        let expected = naive::attention(&qkv, sequences, heads, kv_heads, depth, is_causal);
        for isa in Isa::available() {
            let mut alone = vec![f32::NAN; expected.len()];
            attention.run_on(isa, &qkv, sequences, &mut alone, Parallelism::SINGLE);
            naive::assert_close(&alone, &expected, 2e-5);
            let mut shared = vec![f32::NAN; expected.len()];
            Threads::new(3)
                .unwrap()
                .install(|parallelism| attention.run_on(isa, &qkv, sequences, &mut shared, parallelism));
            naive::assert_close(&shared, &expected, 2e-5);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn each_sequence_attends_to_itself(lengths in prop::collection::vec(1usize..50, 0..5), heads in 1usize..4, depth in 1usize..70, seed: u64) {
            check(&lengths, Attention::new(heads * depth, heads).unwrap(), seed);
        }

        #[test]
        fn a_causal_token_sees_what_came_before(
            lengths in prop::collection::vec(1usize..50, 0..5), kv_heads in 1usize..3, group in 1usize..4,
            depth in 1usize..70, seed: u64,
        ) {
            check(&lengths, Attention::causal(kv_heads * group, kv_heads, depth).unwrap(), seed);
            check(&lengths, Attention::grouped(kv_heads * group, kv_heads, depth).unwrap(), seed);
        }
    }

    #[test]
    fn the_shortest_and_the_longest_sequence_share_a_batch() {
        check(&[1, 512, 1, 33], Attention::new(128, 4).unwrap(), 1);
        check(&[1, 512, 1, 33], Attention::causal(4, 2, 32).unwrap(), 1);
    }

    #[test]
    fn one_token_gets_its_own_value() {
        let attention = Attention::new(4, 2).unwrap();
        let mut out = [0.0; 4];
        let qkv = [9.0, 9.0, 9.0, 9.0, 8.0, 8.0, 8.0, 8.0, 1.0, 2.0, 3.0, 4.0];
        attention.run(&qkv, Sequences::new(&[0, 1]).unwrap(), &mut out, Parallelism::SINGLE).unwrap();
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert_eq!(Attention::new(10, 3).unwrap_err(), ShapeError::Heads { hidden: 10, heads: 3 });
        assert_eq!(Attention::causal(4, 3, 8).unwrap_err(), ShapeError::KvHeads { heads: 4, kv_heads: 3 });
        assert_eq!(
            Attention::new(4, 2)
                .unwrap()
                .run(&[0.0; 12], Sequences::new(&[0, 2]).unwrap(), &mut [0.0; 8], Parallelism::SINGLE)
                .unwrap_err(),
            ShapeError::Length { operand: "qkv", actual: 12, expected: 24 }
        );
    }
}
