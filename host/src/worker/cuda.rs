//! A CUDA device: half precision, whole batches, captured graphs for small ones, and halves of a batch that does not
//! fit.
//!
//! Limits: [`GRAPHS_MAX`] graphs, which share the activations of [`LANE`]; larger batches leave nothing but memory in
//! the device's allocator.

use std::collections::{HashMap, VecDeque};

use bireme_kernels::cpu::{Activation, Pooling};
use bireme_kernels::cuda::device::{
    Batch, BatchShape, Device, DeviceError, Embedding, Event, Graph, Inputs, LayerNorm, Linear, Pinned, Tensor,
};
use bireme_kernels::cuda::{DType, LaunchError};
use bireme_kernels::{Sequences, ShapeError};

use super::error::RunError;
use super::ops::{Executor, Network, Ops, Steps, TokenBatch};

/// Storage of weights and activations. Sums are f32.
const STORAGE: DType = DType::F16;

/// Batches up to here are launched as graphs: their kernels run for less time than the processor takes to launch them.
const LANE: BatchShape = BatchShape { tokens: 512, sequences: 32, length_max: 512 };
const GRAPHS_MAX: usize = 128;

/// A network on a CUDA device.
pub(super) struct CudaExecutor<N> {
    // Before the device, to which they give their memory back.
    graphs: Graphs,
    /// The memory of small batches.
    lane: Option<Lane>,
    staging: Staging,
    network: N,
    cuda: Cuda,
}

/// The layers of a CUDA device.
pub(super) struct Cuda(pub(super) Device);

/// Heads of `depth` values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    heads: usize,
    depth: usize,
}

impl Ops for Cuda {
    type Embedding = Embedding;
    type LayerNorm = LayerNorm;
    type Linear = Linear;
    type Attention = Heads;
    type Buffer = Tensor;
    type Error = DeviceError;

    fn embedding(
        &self,
        words: Vec<f32>,
        positions: &[f32],
        types: &[f32],
        norm: LayerNorm,
    ) -> Result<Embedding, DeviceError> {
        Embedding::new(&words, positions, types, norm)
    }

    fn layer_norm(&self, weight: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Result<LayerNorm, DeviceError> {
        LayerNorm::new(&self.0, STORAGE, &weight, &bias, epsilon)
    }

    fn linear(
        &self,
        weight: &[f32],
        bias: Vec<f32>,
        inputs: usize,
        activation: Activation,
    ) -> Result<Linear, DeviceError> {
        Linear::new(&self.0, STORAGE, weight, &bias, inputs, activation)
    }

    fn attention(&self, hidden: usize, heads: usize) -> Result<Heads, DeviceError> {
        if heads == 0 || !hidden.is_multiple_of(heads) {
            return Err(ShapeError::Heads { hidden, heads }.into());
        }
        match hidden / heads {
            depth @ (32 | 64 | 128) => Ok(Heads { heads, depth }),
            depth => Err(LaunchError::Depth { depth }.into()),
        }
    }
}

/// A batch on its way through the layers: steps are queued without waiting.
struct QueuedBatch<'a> {
    device: &'a Device,
    batch: Batch<'a>,
    out: &'a Tensor,
}

impl Steps<Cuda> for QueuedBatch<'_> {
    fn embed(&mut self, layer: &Embedding, out: &mut Tensor) -> Result<(), DeviceError> {
        layer.run(&self.batch, out)
    }

    fn linear(&mut self, layer: &Linear, x: &Tensor, out: &mut Tensor) -> Result<(), DeviceError> {
        layer.run(x, self.batch.shape().tokens, out)
    }

    fn attention(&mut self, layer: &Heads, qkv: &Tensor, out: &mut Tensor) -> Result<(), DeviceError> {
        self.device.attention(qkv, &self.batch, layer.heads, layer.depth, out)
    }

    fn add_norm(&mut self, layer: &LayerNorm, x: &mut Tensor, residual: &Tensor) -> Result<(), DeviceError> {
        layer.add_residual(x, residual, self.batch.shape().tokens)
    }

    fn pool(&mut self, method: Pooling, is_normalised: bool, width: usize, rows: &Tensor) -> Result<(), DeviceError> {
        self.device.pool(method, rows, &self.batch, width, is_normalised, self.out)
    }
}

/// Returns the shape that a small batch is padded to, so that few graphs serve many batches: with tokens beyond the
/// last text, and empty texts.
fn small(sequences: Sequences<'_>) -> Option<BatchShape> {
    let texts = sequences.len().next_power_of_two();
    // The first token of an empty text must exist.
    let used = sequences.tokens() + usize::from(texts > sequences.len());
    let shape = BatchShape {
        tokens: used.next_multiple_of(BatchShape::TOKENS_STEP),
        sequences: texts,
        length_max: BatchShape::of(sequences).length_max.next_multiple_of(64),
    };
    (shape.tokens <= LANE.tokens && texts <= LANE.sequences).then_some(shape)
}

/// The memory that a batch passes through on the device.
struct Lane {
    inputs: Inputs,
    /// In the order of [`Network::widths`].
    buffers: Vec<Tensor>,
    out: Tensor,
}

impl Lane {
    fn new(device: &Device, network: &impl Network<Cuda>, shape: BatchShape) -> Result<Self, DeviceError> {
        let buffers = network.widths().into_iter().map(|width| device.tensor(STORAGE, shape.tokens * width));
        Ok(Self {
            inputs: Inputs::new(device, shape)?,
            buffers: buffers.collect::<Result<_, _>>()?,
            out: device.tensor(DType::F32, shape.sequences * network.output_width())?,
        })
    }

    /// Queues the batch that `inputs` holds.
    fn queue(&mut self, device: &Device, network: &impl Network<Cuda>) -> Result<(), DeviceError> {
        let batch = self.inputs.batch()?;
        network.forward(&mut QueuedBatch { device, batch, out: &self.out }, &mut self.buffers)
    }
}

/// Graphs of small batches, all over one lane.
#[derive(Default)]
struct Graphs {
    shapes: HashMap<BatchShape, ShapeGraph>,
    order: VecDeque<BatchShape>,
}

/// The graph of a shape, once it was seen.
enum ShapeGraph {
    /// It ran once: its kernels are loaded, and it is likely to come again.
    Once,
    Captured(Graph),
    /// It cannot be captured; its steps are launched one by one.
    Never,
}

/// Pinned memory on both sides of a batch, and the marks that time it.
struct Staging {
    inputs: Pinned,
    inputs_len: usize,
    out: Pinned,
    out_len: usize,
    start: Event,
    end: Event,
}

impl Staging {
    fn new(device: &Device) -> Result<Self, DeviceError> {
        let len = 16 << 10;
        let (inputs, out) = (device.pin(len * 4)?, device.pin(len * 4)?);
        Ok(Self { inputs, inputs_len: len, out, out_len: len, start: Event::new(device)?, end: Event::new(device)? })
    }

    /// Grows the memory. Pinning costs as much as a batch, so it happens only a few times.
    fn reserve(&mut self, device: &Device, inputs: usize, out: usize) -> Result<(), DeviceError> {
        for (pinned, has, wanted) in
            [(&mut self.inputs, &mut self.inputs_len, inputs), (&mut self.out, &mut self.out_len, out)]
        {
            if wanted > *has {
                let len = wanted.next_power_of_two();
                *pinned = device.pin(len * 4)?;
                *has = len;
            }
        }
        Ok(())
    }
}

impl<N: Network<Cuda>> Executor for CudaExecutor<N> {
    fn run(&mut self, batch: TokenBatch<'_>, out: &mut [f32]) -> Result<u64, RunError> {
        Ok(self.run_in_parts(batch.ids, batch.sequences, out)?)
    }
}

impl<N: Network<Cuda>> CudaExecutor<N> {
    pub(super) fn new(network: N, cuda: Cuda) -> Result<Self, DeviceError> {
        Ok(Self { graphs: Graphs::default(), lane: None, staging: Staging::new(&cuda.0)?, network, cuda })
    }

    /// Runs a batch; returns the device's nanoseconds.
    ///
    /// A batch that does not fit the memory runs again without the memory of the graphs, then in two halves, and each
    /// of those again, down to one text.
    fn run_in_parts(&mut self, ids: &[u32], sequences: Sequences<'_>, out: &mut [f32]) -> Result<u64, DeviceError> {
        if sequences.is_empty() {
            return Ok(0);
        }
        let mut result = self.run_whole(ids, sequences, out, small(sequences));
        let is_full = |result: &Result<u64, DeviceError>| result.as_ref().is_err_and(DeviceError::is_out_of_memory);
        if is_full(&result) && (self.lane.is_some() || small(sequences).is_some()) {
            self.graphs = Graphs::default();
            self.lane = None;
            result = self.run_whole(ids, sequences, out, None);
        }
        if !is_full(&result) || sequences.len() == 1 {
            return result;
        }
        tracing::debug!(texts = sequences.len(), tokens = ids.len(), "no memory for the batch: it runs in halves");
        let half = half(sequences);
        let (before, after) = out.split_at_mut(half * self.network.output_width());
        let mut nanoseconds = 0;
        for (group, out) in [(0..half, before), (half..sequences.len(), after)] {
            let mut offsets = Vec::new();
            let (tokens, sequences) = sequences.group(group, &mut offsets);
            nanoseconds += self.run_in_parts(&ids[tokens], sequences, out)?;
        }
        Ok(nanoseconds)
    }

    /// Runs a batch as it is: as a graph of the small shape, if there is one.
    fn run_whole(
        &mut self,
        ids: &[u32],
        sequences: Sequences<'_>,
        out: &mut [f32],
        small: Option<BatchShape>,
    ) -> Result<u64, DeviceError> {
        let shape = small.unwrap_or_else(|| BatchShape::of(sequences));
        let Self { graphs, lane, staging, network, cuda: Cuda(device) } = self;
        // After an error, queued work may still read the memory that is written below.
        device.synchronize()?;
        staging.reserve(device, shape.inputs_len(), out.len())?;
        let mut own;
        let lane = match (small, lane) {
            (Some(_), Some(lane)) => lane,
            (Some(_), none) => none.insert(Lane::new(device, network, LANE)?),
            (None, _) => {
                own = Lane::new(device, network, shape)?;
                &mut own
            }
        };
        lane.inputs.load(device, &mut staging.inputs, ids, sequences, network.vocabulary(), shape)?;
        staging.start.record()?;
        match small {
            Some(shape) => graphs.run(device, network, lane, shape)?,
            None => lane.queue(device, network)?,
        }
        staging.end.record()?;
        device.copy_out(&lane.out, &mut staging.out, out.len())?;
        device.synchronize()?;
        out.copy_from_slice(staging.out.read(out.len()));
        staging.end.nanoseconds_since(&staging.start)
    }
}

/// Returns the text at which a batch is cut, so that both halves have about as many tokens.
fn half(sequences: Sequences<'_>) -> usize {
    let middle = sequences.tokens() / 2;
    sequences.ranges().position(|range| range.end > middle).unwrap_or(0).clamp(1, sequences.len() - 1)
}

impl Graphs {
    /// Queues the small batch that the lane holds: as a graph, if its shape was seen before.
    fn run(
        &mut self,
        device: &Device,
        network: &impl Network<Cuda>,
        lane: &mut Lane,
        shape: BatchShape,
    ) -> Result<(), DeviceError> {
        let Some(seen) = self.shapes.get_mut(&shape) else {
            lane.queue(device, network)?;
            if self.order.len() == GRAPHS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                // A queued launch of it finishes first.
                self.shapes.remove(&oldest);
            }
            self.order.push_back(shape);
            self.shapes.insert(shape, ShapeGraph::Once);
            return Ok(());
        };
        if matches!(seen, ShapeGraph::Once) {
            *seen = match device.capture(|| lane.queue(device, network)) {
                Ok(graph) => ShapeGraph::Captured(graph),
                Err(error) if error.is_sticky() => return Err(error),
                Err(error) => {
                    tracing::warn!(?shape, "batches of this shape run without a graph: {error}");
                    ShapeGraph::Never
                }
            };
        }
        match seen {
            ShapeGraph::Captured(graph) => graph.launch(),
            _ => lane.queue(device, network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_small_batches_are_few_and_large_enough() {
        let shape = |lengths: &[u32]| {
            let mut cu_seqlens = vec![0];
            lengths.iter().for_each(|length| cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length));
            small(Sequences::new(&cu_seqlens).unwrap()).map(|shape| (shape.tokens, shape.sequences, shape.length_max))
        };
        assert_eq!(shape(&[1]), Some((16, 1, 64)));
        assert_eq!(shape(&[16]), Some((16, 1, 64)));
        // An empty text has a start, too.
        assert_eq!(shape(&[16, 16, 16]), Some((64, 4, 64)));
        assert_eq!(shape(&[512]), Some((512, 1, 512)));
        assert_eq!(shape(&[513]), None);
        assert_eq!(shape(&[1; 33]), None);
    }

    #[test]
    fn halves_have_about_as_many_tokens_and_at_least_a_text() {
        let half = |cu_seqlens: &[u32]| half(Sequences::new(cu_seqlens).unwrap());
        assert_eq!(half(&[0, 1, 2, 3, 4]), 2);
        assert_eq!(half(&[0, 100, 101, 102]), 1);
        assert_eq!(half(&[0, 1, 2, 100]), 2);
    }
}
