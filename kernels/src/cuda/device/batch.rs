//! A batch on the device: the ids and offsets that kernels follow, checked before they are copied.

use super::DeviceError;
use super::context::Device;
use super::memory::{Pinned, Tensor};
use crate::cuda::{DType, Values};
use crate::{Sequences, ShapeError, Vocabulary};

/// A batch's shape as kernels see it: batches of one shape differ in what memory holds, not in what is launched.
///
/// It may be larger than the batch: tokens beyond the last sequence are computed and unused, and sequences beyond it
/// have no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchShape {
    /// A multiple of [`Self::TOKENS_STEP`].
    pub tokens: usize,
    pub sequences: usize,
    /// The tokens of the longest sequence, or more.
    pub length_max: usize,
}

impl BatchShape {
    /// Multiple to which a batch's tokens are rounded up: products run faster, and the cumulative lengths are aligned.
    pub const TOKENS_STEP: usize = 16;

    /// The smallest shape that holds these sequences.
    pub fn of(sequences: Sequences<'_>) -> Self {
        let length_max = sequences.ranges().map(|range| range.len()).max().unwrap_or(0);
        Self { tokens: sequences.tokens().next_multiple_of(Self::TOKENS_STEP), sequences: sequences.len(), length_max }
    }

    /// The values that lie in memory: token ids, rows of the table of positions, cumulative lengths.
    pub const fn inputs_len(self) -> usize {
        2 * self.tokens + self.sequences + 1
    }

    /// Refuses a shape that does not hold the sequences. A sequence without tokens starts at a token that must be
    /// there.
    fn check(self, sequences: Sequences<'_>) -> Result<(), ShapeError> {
        let least = Self::of(sequences);
        let is_padded = self.sequences > sequences.len();
        let tokens = (sequences.tokens() + usize::from(is_padded)).next_multiple_of(Self::TOKENS_STEP);
        ShapeError::check_len("tokens", self.tokens, self.tokens.next_multiple_of(Self::TOKENS_STEP).max(tokens))?;
        ShapeError::check_len("sequences", self.sequences, self.sequences.max(least.sequences))?;
        ShapeError::check_len("length_max", self.length_max, self.length_max.max(least.length_max))
    }

    /// Lays out a batch that fits.
    fn fill(self, inputs: &mut [u32], ids: &[u32], sequences: Sequences<'_>, vocabulary: Vocabulary) {
        let (tokens, used) = (self.tokens, ids.len());
        inputs[..used].copy_from_slice(ids);
        inputs[used..tokens].fill(0);
        inputs[tokens..tokens + used].iter_mut().zip(vocabulary.places(sequences)).for_each(|(to, place)| *to = place);
        inputs[tokens + used..2 * tokens].fill(0);
        let ends = &mut inputs[2 * tokens..];
        ends[..=sequences.len()].copy_from_slice(sequences.cu_seqlens());
        ends[sequences.len() + 1..].fill(used as u32);
    }
}

/// Memory on the device for the inputs of a batch. Kernels follow what stands in it, so only checked batches come
/// there.
#[derive(Debug)]
pub struct Inputs {
    tensor: Tensor,
    /// Of the batch that it holds.
    loaded: Option<(BatchShape, Vocabulary)>,
}

impl Inputs {
    /// Memory for batches up to this shape.
    pub fn new(device: &Device, shape: BatchShape) -> Result<Self, DeviceError> {
        Ok(Self { tensor: device.tensor(DType::U32, shape.inputs_len())?, loaded: None })
    }

    /// Checks a batch, lays it out in `staging`, and queues its copy. `staging` is free again after the next
    /// `synchronize`.
    pub fn load(
        &mut self,
        device: &Device,
        staging: &mut Pinned,
        ids: &[u32],
        sequences: Sequences<'_>,
        vocabulary: Vocabulary,
        shape: BatchShape,
    ) -> Result<(), DeviceError> {
        vocabulary.check(ids, sequences)?;
        shape.check(sequences)?;
        self.loaded = None;
        shape.fill(staging.write(shape.inputs_len()), ids, sequences, vocabulary);
        device.copy_in(staging, &self.tensor, shape.inputs_len())?;
        self.loaded = Some((shape, vocabulary));
        Ok(())
    }

    /// The batch that was loaded last.
    pub fn batch(&self) -> Result<Batch<'_>, DeviceError> {
        let (shape, vocabulary) = self.loaded.ok_or(ShapeError::Zero { size: "batch" })?;
        Ok(Batch { inputs: &self.tensor, shape, vocabulary })
    }
}

/// A batch that ops run over.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    inputs: &'a Tensor,
    shape: BatchShape,
    vocabulary: Vocabulary,
}

impl Batch<'_> {
    pub(super) fn ids(&self, device: &Device) -> Result<Values, DeviceError> {
        device.part(self.inputs, 0, self.shape.tokens)
    }

    pub(super) fn places(&self, device: &Device) -> Result<Values, DeviceError> {
        device.part(self.inputs, self.shape.tokens, self.shape.tokens)
    }

    pub(super) fn cu_seqlens(&self, device: &Device) -> Result<Values, DeviceError> {
        device.part(self.inputs, 2 * self.shape.tokens, self.shape.sequences + 1)
    }

    /// The vocabulary that its ids and places were checked against.
    pub(super) fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    pub fn shape(&self) -> BatchShape {
        self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: Vocabulary = Vocabulary { words: 20, positions: 8, types: 1 };

    #[test]
    fn inputs_are_padded_with_sequences_of_no_tokens() {
        let sequences = Sequences::new(&[0, 2, 3, 6]).unwrap();
        let shape = BatchShape { tokens: 16, sequences: 4, length_max: 64 };
        shape.check(sequences).unwrap();
        let mut inputs = [9; 16 * 2 + 5];
        assert_eq!(shape.inputs_len(), inputs.len());
        shape.fill(&mut inputs, &[5, 6, 7, 8, 9, 10], sequences, VOCABULARY);
        let mut expected = [0; 16 * 2 + 5];
        expected[..6].copy_from_slice(&[5, 6, 7, 8, 9, 10]);
        expected[16..22].copy_from_slice(&[0, 1, 0, 0, 1, 2]);
        expected[32..].copy_from_slice(&[0, 2, 3, 6, 6]);
        assert_eq!(inputs, expected);
    }

    #[test]
    fn a_shape_that_does_not_hold_its_batch_is_refused() {
        let cu_seqlens = [0, 16, 32];
        let sequences = Sequences::new(&cu_seqlens).unwrap();
        let shape = BatchShape::of(sequences);
        assert_eq!(shape, BatchShape { tokens: 32, sequences: 2, length_max: 16 });
        shape.check(sequences).unwrap();
        BatchShape { tokens: 48, sequences: 4, length_max: 64 }.check(sequences).unwrap();
        for wrong in [
            BatchShape { tokens: 16, ..shape },
            BatchShape { tokens: 40, ..shape },
            BatchShape { sequences: 1, ..shape },
            BatchShape { length_max: 15, ..shape },
            // The third sequence would start behind the last token.
            BatchShape { sequences: 3, ..shape },
        ] {
            wrong.check(sequences).unwrap_err();
        }
    }
}
