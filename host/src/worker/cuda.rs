//! A CUDA device: half precision, whole batches, captured graphs for small ones, and halves of a batch that does not fit.
//!
//! Limits: [`GRAPHS_MAX`] graphs, which share the activations of [`GRAPH_TOKENS_MAX`] tokens; of larger batches nothing is
//! kept but what the device's allocator keeps.

use std::collections::{HashMap, VecDeque};

use bireme_kernels::cpu::{Activation, Pooling};
use bireme_kernels::cuda::device::{
    Batch, Device, DeviceError, Embedding, Event, Graph, LayerNorm, Linear, Pinned, Tensor,
};
use bireme_kernels::cuda::{DType, LaunchError};
use bireme_kernels::{Sequences, ShapeError};

use super::bert::{Activations, Bert};
use super::config::ModelConfig;
use super::encoder::LoadError;
use super::ops::{Ops, Steps};
use super::weights::Weights;

/// How weights and activations are stored. Sums are f32.
const STORAGE: DType = DType::F16;

/// Batches up to here are launched as graphs: their kernels run for less time than the processor takes to launch them.
const GRAPH_TOKENS_MAX: usize = 512;
const GRAPH_TEXTS_MAX: usize = 32;
const GRAPHS_MAX: usize = 128;

/// A model on a CUDA device.
pub(super) struct OnCuda {
    // Before the device, to which they give their memory back.
    graphs: Graphs,
    staging: Staging,
    pub(super) bert: Bert<Cuda>,
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

/// A batch on its way through the layers: every step is queued, none is waited for.
struct Queued<'a> {
    device: &'a Device,
    batch: Batch<'a>,
    out: &'a Tensor,
}

impl Steps<Cuda> for Queued<'_> {
    fn embed(&mut self, layer: &Embedding, out: &mut Tensor) -> Result<(), DeviceError> {
        layer.run(&self.batch, out)
    }

    fn linear(&mut self, layer: &Linear, x: &Tensor, out: &mut Tensor) -> Result<(), DeviceError> {
        layer.run(x, self.batch.tokens(), out)
    }

    fn attention(&mut self, layer: &Heads, qkv: &Tensor, out: &mut Tensor) -> Result<(), DeviceError> {
        self.device.attention(qkv, &self.batch, layer.heads, layer.depth, out)
    }

    fn add_norm(&mut self, layer: &LayerNorm, x: &mut Tensor, residual: &Tensor) -> Result<(), DeviceError> {
        layer.add_residual(x, residual, self.batch.tokens())
    }

    fn pool(&mut self, method: Pooling, is_normalised: bool, width: usize, rows: &Tensor) -> Result<(), DeviceError> {
        self.device.pool(method, rows, &self.batch, width, is_normalised, self.out)
    }
}

/// A batch's shape as the device sees it. Batches of one shape differ in what memory holds, not in what is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    tokens: usize,
    texts: usize,
    length_max: usize,
}

impl Shape {
    /// Rounds up, so that few shapes serve many batches: with tokens of nobody, and texts without tokens.
    fn small(sequences: Sequences<'_>) -> Option<Self> {
        let texts = sequences.len().next_power_of_two();
        // An empty text's first token must exist.
        let used = sequences.tokens() + usize::from(texts > sequences.len());
        let tokens = used.next_multiple_of(Batch::TOKENS_STEP);
        let length_max = longest(sequences).next_multiple_of(64);
        (tokens <= GRAPH_TOKENS_MAX && texts <= GRAPH_TEXTS_MAX).then_some(Self { tokens, texts, length_max })
    }

    fn large(sequences: Sequences<'_>) -> Self {
        let tokens = sequences.tokens().next_multiple_of(Batch::TOKENS_STEP);
        Self { tokens, texts: sequences.len(), length_max: longest(sequences) }
    }

    fn inputs_len(self) -> usize {
        Batch::inputs_len(self.tokens, self.texts)
    }
}

fn longest(sequences: Sequences<'_>) -> usize {
    sequences.ranges().map(|range| range.len()).max().unwrap_or(0)
}

/// The memory that a batch passes through on the device.
struct Lane {
    inputs: Tensor,
    activations: Activations<Tensor>,
    out: Tensor,
}

impl Lane {
    fn new(device: &Device, bert: &Bert<Cuda>, tokens: usize, texts: usize) -> Result<Self, DeviceError> {
        Ok(Self {
            inputs: device.tensor(DType::U32, Batch::inputs_len(tokens, texts))?,
            activations: bert.widths().try_map(|width| device.tensor(STORAGE, tokens * width))?,
            out: device.tensor(DType::F32, texts * bert.hidden)?,
        })
    }

    fn queue(&mut self, device: &Device, bert: &Bert<Cuda>, shape: Shape) -> Result<(), DeviceError> {
        let batch = Batch::new(&self.inputs, shape.tokens, shape.texts, shape.length_max)?;
        bert.run(&mut Queued { device, batch, out: &self.out }, &mut self.activations)
    }
}

/// Graphs of small batches, over one lane.
struct Graphs {
    graphs: HashMap<Shape, Option<Graph>>,
    order: VecDeque<Shape>,
    lane: Option<Lane>,
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

    /// Makes room. Pinning costs as much as a batch, so it happens a few times in a life.
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

impl OnCuda {
    pub(super) fn load(config: &ModelConfig, weights: &mut Weights, device: &Device) -> Result<Self, LoadError> {
        let cuda = Cuda(device.clone());
        let bert = Bert::load(&cuda, config, weights)?;
        let graphs = Graphs { graphs: HashMap::new(), order: VecDeque::new(), lane: None };
        Ok(Self { graphs, staging: Staging::new(device)?, bert, cuda })
    }

    /// Fills `out`, `[texts, hidden]`, from a batch that the vocabulary has rows for; returns the device's nanoseconds.
    ///
    /// A batch that the memory does not hold is run in two halves, and each of those again, down to one text.
    pub(super) fn run(&mut self, ids: &[u32], sequences: Sequences<'_>, out: &mut [f32]) -> Result<u64, DeviceError> {
        if sequences.is_empty() {
            return Ok(0);
        }
        match self.run_whole(ids, sequences, out) {
            Err(error) if error.is_out_of_memory() && sequences.len() > 1 => {
                tracing::debug!(texts = sequences.len(), tokens = ids.len(), "{error}: the batch runs in halves");
                // What small batches keep is a convenience.
                self.graphs.clear();
                let half = half(sequences);
                let (before, after) = out.split_at_mut(half * self.bert.hidden);
                let mut nanoseconds = 0;
                for (group, out) in [(0..half, before), (half..sequences.len(), after)] {
                    let mut offsets = Vec::new();
                    let (tokens, sequences) = sequences.group(group, &mut offsets);
                    nanoseconds += self.run(&ids[tokens], sequences, out)?;
                }
                Ok(nanoseconds)
            }
            result => result,
        }
    }

    fn run_whole(&mut self, ids: &[u32], sequences: Sequences<'_>, out: &mut [f32]) -> Result<u64, DeviceError> {
        let small = Shape::small(sequences);
        let shape = small.unwrap_or_else(|| Shape::large(sequences));
        let Self { graphs, staging, bert, cuda: Cuda(device) } = self;
        // After an error something may still be queued, which may read what is written below.
        device.synchronize()?;
        staging.reserve(device, shape.inputs_len(), out.len())?;
        fill(staging.inputs.write(shape.inputs_len()), ids, sequences, shape, |sequences| {
            bert.vocabulary.places(sequences)
        });

        staging.start.record()?;
        match small {
            Some(shape) => graphs.run(device, bert, staging, shape, out.len())?,
            None => {
                let mut lane = Lane::new(device, bert, shape.tokens, shape.texts)?;
                device.copy_in(&staging.inputs, &lane.inputs, shape.inputs_len())?;
                lane.queue(device, bert, shape)?;
                device.copy_out(&lane.out, &mut staging.out, out.len())?;
            }
        }
        staging.end.record()?;
        device.synchronize()?;
        out.copy_from_slice(staging.out.read(out.len()));
        staging.end.nanoseconds_since(&staging.start)
    }
}

/// Lays out a batch's inputs as `Batch` describes them.
fn fill<'a, I: Iterator<Item = u32>>(
    inputs: &mut [u32],
    ids: &[u32],
    sequences: Sequences<'a>,
    shape: Shape,
    places: impl FnOnce(Sequences<'a>) -> I,
) {
    let (tokens, used) = (shape.tokens, ids.len());
    inputs[..used].copy_from_slice(ids);
    inputs[used..tokens].fill(0);
    inputs[tokens..tokens + used].iter_mut().zip(places(sequences)).for_each(|(to, place)| *to = place);
    inputs[tokens + used..2 * tokens].fill(0);
    let ends = &mut inputs[2 * tokens..];
    ends[..=sequences.len()].copy_from_slice(sequences.cu_seqlens());
    ends[sequences.len() + 1..].fill(used as u32);
}

/// The text at which a batch is cut, so that both sides have about as many tokens.
fn half(sequences: Sequences<'_>) -> usize {
    let middle = sequences.tokens() / 2;
    sequences.ranges().position(|range| range.end > middle).unwrap_or(0).clamp(1, sequences.len() - 1)
}

impl Graphs {
    fn clear(&mut self) {
        self.graphs.clear();
        self.order.clear();
        self.lane = None;
    }

    /// Queues a small batch: as a graph, if its shape was seen before.
    fn run(
        &mut self,
        device: &Device,
        bert: &Bert<Cuda>,
        staging: &mut Staging,
        shape: Shape,
        out_len: usize,
    ) -> Result<(), DeviceError> {
        let lane = match &mut self.lane {
            Some(lane) => lane,
            none => none.insert(Lane::new(device, bert, GRAPH_TOKENS_MAX, GRAPH_TEXTS_MAX)?),
        };
        device.copy_in(&staging.inputs, &lane.inputs, shape.inputs_len())?;
        match self.graphs.get_mut(&shape) {
            Some(Some(graph)) => graph.launch()?,
            // The second time: all that it takes is loaded, and it may well come again.
            Some(none) => none.insert(device.capture(|| lane.queue(device, bert, shape))?).launch()?,
            None => {
                lane.queue(device, bert, shape)?;
                if self.order.len() == GRAPHS_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    // A queued launch of it finishes first.
                    self.graphs.remove(&oldest);
                }
                self.order.push_back(shape);
                self.graphs.insert(shape, None);
            }
        }
        device.copy_out(&lane.out, &mut staging.out, out_len)
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
            Shape::small(Sequences::new(&cu_seqlens).unwrap())
                .map(|shape| (shape.tokens, shape.texts, shape.length_max))
        };
        assert_eq!(shape(&[1]), Some((16, 1, 64)));
        assert_eq!(shape(&[16]), Some((16, 1, 64)));
        // A text of no tokens has to start somewhere.
        assert_eq!(shape(&[16, 16, 16]), Some((64, 4, 64)));
        assert_eq!(shape(&[512]), Some((512, 1, 512)));
        assert_eq!(shape(&[513]), None);
        assert_eq!(shape(&[1; 33]), None);
    }

    #[test]
    fn inputs_are_padded_with_texts_of_no_tokens() {
        let sequences = Sequences::new(&[0, 2, 3, 6]).unwrap();
        let mut inputs = [9; 16 * 2 + 5];
        let shape = Shape::small(sequences).unwrap();
        fill(&mut inputs, &[5, 6, 7, 8, 9, 10], sequences, shape, |_| [0, 1, 0, 0, 1, 2].into_iter());
        let mut expected = [0; 16 * 2 + 5];
        expected[..6].copy_from_slice(&[5, 6, 7, 8, 9, 10]);
        expected[16..22].copy_from_slice(&[0, 1, 0, 0, 1, 2]);
        expected[32..].copy_from_slice(&[0, 2, 3, 6, 6]);
        assert_eq!(inputs, expected);
    }

    #[test]
    fn halves_have_about_as_many_tokens_and_at_least_a_text() {
        let half = |cu_seqlens: &[u32]| half(Sequences::new(cu_seqlens).unwrap());
        assert_eq!(half(&[0, 1, 2, 3, 4]), 2);
        assert_eq!(half(&[0, 100, 101, 102]), 1);
        assert_eq!(half(&[0, 1, 2, 100]), 2);
    }
}
