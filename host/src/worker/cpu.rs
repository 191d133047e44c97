//! The CPU as a device: f32, every core, and a batch cut into groups that stay in a core's caches.
//!
//! Limits: activations for at most 2 · [`GROUP_TOKENS`] tokens a thread, kept between batches: some 15 KiB a token for
//! MiniLM.

use std::ops::Range;
use std::time::Instant;

use bireme_kernels::cpu::{Activation, Attention, Embedding, LayerNorm, Linear, Parallelism, Pooling, Threads};
use bireme_kernels::{Sequences, ShapeError};
use parking_lot::Mutex;

use super::error::RunError;
use super::ops::{Executor, Network, Ops, Steps, TokenBatch};
use super::timing::nanoseconds_since;

/// Tokens that one thread takes through all layers at once. Fewer read the weights too often, more leave the caches.
const GROUP_TOKENS: usize = 256;

/// A network on the CPU.
pub(super) struct CpuExecutor<N> {
    network: N,
    threads: Threads,
    /// One for each thread.
    scratches: Vec<Mutex<Scratch>>,
}

/// The buffers of a pass, in the order of [`Network::widths`].
type Scratch = Vec<Vec<f32>>;

/// The layers of the CPU.
pub(super) struct Cpu;

impl Ops for Cpu {
    type Embedding = Embedding;
    type LayerNorm = LayerNorm;
    type Linear = Linear;
    type Attention = Attention;
    /// Only grows; keeps old values until a step overwrites them.
    type Buffer = Vec<f32>;
    type Error = ShapeError;

    fn embedding(
        &self,
        words: Vec<f32>,
        positions: &[f32],
        types: &[f32],
        norm: LayerNorm,
    ) -> Result<Embedding, ShapeError> {
        Embedding::new(words, positions, types, norm)
    }

    fn layer_norm(&self, weight: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Result<LayerNorm, ShapeError> {
        LayerNorm::new(weight, bias, epsilon)
    }

    fn linear(
        &self,
        weight: &[f32],
        bias: Vec<f32>,
        inputs: usize,
        activation: Activation,
    ) -> Result<Linear, ShapeError> {
        Linear::new(weight, bias, inputs, activation)
    }

    fn attention(&self, hidden: usize, heads: usize) -> Result<Attention, ShapeError> {
        Attention::new(hidden, heads)
    }
}

/// A group of texts on its way through the layers.
struct Group<'a> {
    ids: &'a [u32],
    sequences: Sequences<'a>,
    out: &'a mut [f32],
    parallelism: Parallelism,
}

impl Group<'_> {
    /// The rows that a buffer holds for this group.
    fn rows<'b>(&self, buffer: &'b mut Vec<f32>, width: usize) -> &'b mut [f32] {
        let len = self.ids.len() * width;
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        &mut buffer[..len]
    }
}

impl Steps<Cpu> for Group<'_> {
    fn embed(&mut self, layer: &Embedding, out: &mut Vec<f32>) -> Result<(), ShapeError> {
        layer.run(self.ids, self.sequences, self.rows(out, layer.width()), self.parallelism)
    }

    fn linear(&mut self, layer: &Linear, x: &Vec<f32>, out: &mut Vec<f32>) -> Result<(), ShapeError> {
        let x = &x[..self.ids.len() * layer.inputs()];
        layer.run(x, self.rows(out, layer.outputs()), self.parallelism)
    }

    fn attention(&mut self, layer: &Attention, qkv: &Vec<f32>, out: &mut Vec<f32>) -> Result<(), ShapeError> {
        let qkv = &qkv[..self.ids.len() * layer.inputs()];
        layer.run(qkv, self.sequences, self.rows(out, layer.outputs()), self.parallelism)
    }

    fn add_norm(&mut self, layer: &LayerNorm, x: &mut Vec<f32>, residual: &Vec<f32>) -> Result<(), ShapeError> {
        let len = self.ids.len() * layer.width();
        layer.add_residual(&mut x[..len], &residual[..len], self.parallelism)
    }

    fn pool(&mut self, method: Pooling, is_normalised: bool, width: usize, rows: &Vec<f32>) -> Result<(), ShapeError> {
        method.run(&rows[..self.ids.len() * width], self.sequences, width, is_normalised, self.out)
    }
}

impl<N: Network<Cpu>> CpuExecutor<N> {
    pub(super) fn new(network: N, threads: Threads) -> Self {
        let buffers = network.widths().len();
        let scratches = (0..threads.count()).map(|_| Mutex::new(vec![Vec::new(); buffers])).collect();
        Self { network, threads, scratches }
    }
}

impl<N: Network<Cpu> + Sync> Executor for CpuExecutor<N> {
    /// Blocks for as long as the arithmetic takes: some 90 to 95 µs a token and thread for MiniLM.
    fn run(&mut self, batch: TokenBatch<'_>, out: &mut [f32]) -> Result<u64, RunError> {
        let started = Instant::now();
        self.run_on_threads(batch, out)?;
        Ok(nanoseconds_since(started))
    }
}

impl<N: Network<Cpu> + Sync> CpuExecutor<N> {
    fn run_on_threads(&mut self, batch: TokenBatch<'_>, out: &mut [f32]) -> Result<(), ShapeError> {
        let TokenBatch { ids, sequences } = batch;
        let groups = groups(sequences);
        let Self { network, threads, scratches } = self;
        if threads.count() == 1 || groups.len() >= 2 * threads.count() {
            return run_groups(network, threads, scratches, groups, batch, out);
        }
        // Too few groups to keep the threads busy: they share each step instead.
        let scratch = scratches[0].get_mut();
        if ids.len() * network.token_flop() < Parallelism::SHARE_FLOP_MIN {
            network.forward(&mut Group { ids, sequences, out, parallelism: Parallelism::SINGLE }, scratch)
        } else {
            threads.install(|parallelism| network.forward(&mut Group { ids, sequences, out, parallelism }, scratch))
        }
    }
}

/// Cuts a batch between sequences into runs of about [`GROUP_TOKENS`] tokens.
fn groups(sequences: Sequences<'_>) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (index, range) in sequences.ranges().enumerate() {
        if index > first && tokens + range.len() > GROUP_TOKENS {
            groups.push(first..index);
            (first, tokens) = (index, 0);
        }
        tokens += range.len();
    }
    if first < sequences.len() {
        groups.push(first..sequences.len());
    }
    groups
}

/// Runs the groups, each on one thread, as threads become free.
fn run_groups<N: Network<Cpu> + Sync>(
    network: &N,
    threads: &Threads,
    scratches: &[Mutex<Scratch>],
    groups: Vec<Range<usize>>,
    batch: TokenBatch<'_>,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let TokenBatch { ids, sequences } = batch;
    let mut rest = out;
    let jobs: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let (out, after) = std::mem::take(&mut rest).split_at_mut(group.len() * network.output_width());
            rest = after;
            (group, out)
        })
        .collect();
    let jobs = Mutex::new(jobs.into_iter());
    let failure = Mutex::new(None);
    threads.install(|parallelism| {
        parallelism.for_each(scratches.len(), |index| {
            let mut scratch = scratches[index].lock();
            let mut offsets = Vec::new();
            loop {
                let job = jobs.lock().next();
                let Some((group, out)) = job else { break };
                let (tokens, sequences) = sequences.group(group, &mut offsets);
                let mut group = Group { ids: &ids[tokens], sequences, out, parallelism: Parallelism::SINGLE };
                if let Err(error) = network.forward(&mut group, &mut scratch) {
                    *failure.lock() = Some(error);
                }
            }
        });
    });
    match failure.into_inner() {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_cut_between_texts() {
        let groups = |cu_seqlens: &[u32]| groups(Sequences::new(cu_seqlens).unwrap());
        assert_eq!(groups(&[0, 200, 256, 257, 557, 812, 814]), [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert!(groups(&[0]).is_empty());
    }
}
