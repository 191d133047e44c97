//! Packed batches: the begin and end of each sequence.

use std::ops::Range;

use crate::ShapeError;

/// The cumulative lengths of a batch, checked: they start at 0 and each sequence has at least one token.
///
/// ```
/// use bireme_kernels::Sequences;
///
/// let sequences = Sequences::new(&[0, 3, 5])?;
/// assert_eq!(sequences.len(), 2);
/// assert_eq!(sequences.tokens(), 5);
/// assert_eq!(sequences.ranges().collect::<Vec<_>>(), [0..3, 3..5]);
/// # Ok::<(), bireme_kernels::ShapeError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    cu_seqlens: &'a [u32],
    /// Empty if every sequence is of one segment.
    first_segments: &'a [u32],
}

impl<'a> Sequences<'a> {
    /// Takes `[0, len_0, len_0 + len_1, …]`; `[0]` is the empty batch.
    pub fn new(cu_seqlens: &'a [u32]) -> Result<Self, ShapeError> {
        if cu_seqlens.first() != Some(&0) {
            return Err(ShapeError::Start { actual: cu_seqlens.first().copied() });
        }
        for (index, pair) in cu_seqlens.windows(2).enumerate() {
            if pair[0] >= pair[1] {
                return Err(ShapeError::Sequence { index, start: pair[0], end: pair[1] });
            }
        }
        Ok(Self { cu_seqlens, first_segments: &[] })
    }

    /// The same sequences with two segments each: `lengths` tokens of the first, the others of the second: a question
    /// and the text beside it. An empty slice means that no sequence has a second one.
    pub fn with_first_segments(self, first_segments: &'a [u32]) -> Result<Self, ShapeError> {
        if first_segments.is_empty() {
            return Ok(Self { first_segments, ..self });
        }
        ShapeError::check_len("first_segments", first_segments.len(), self.len())?;
        for (index, (&first, range)) in first_segments.iter().zip(self.ranges()).enumerate() {
            if first as usize > range.len() {
                return Err(ShapeError::Segment { index, first, length: range.len() });
            }
        }
        Ok(Self { first_segments, ..self })
    }

    /// The tokens of a sequence's first segment: all, if it has only one.
    pub fn first_segment(self, index: usize) -> usize {
        let length = (self.cu_seqlens[index + 1] - self.cu_seqlens[index]) as usize;
        self.first_segments.get(index).map_or(length, |&first| first as usize)
    }

    /// Some of the sequences by themselves: the range of their tokens, and their lengths from 0 on, for which `offsets`
    /// is the room.
    pub fn group(self, group: Range<usize>, offsets: &'a mut Vec<u32>) -> (Range<usize>, Sequences<'a>) {
        let cu_seqlens = &self.cu_seqlens[group.start..=group.end];
        let start = cu_seqlens[0];
        offsets.clear();
        offsets.extend(cu_seqlens.iter().map(|offset| offset - start));
        let first_segments = self.first_segments.get(group.clone()).unwrap_or_default();
        let sequences = Sequences { cu_seqlens: offsets, first_segments };
        (start as usize..self.cu_seqlens[group.end] as usize, sequences)
    }

    /// The cumulative lengths.
    pub fn cu_seqlens(self) -> &'a [u32] {
        self.cu_seqlens
    }

    /// The number of sequences.
    pub fn len(self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// True if the batch has no sequence.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number of tokens of all sequences together.
    pub fn tokens(self) -> usize {
        self.cu_seqlens[self.len()] as usize
    }

    /// The token range of each sequence, in order.
    pub fn ranges(self) -> impl ExactSizeIterator<Item = Range<usize>> + 'a {
        self.cu_seqlens.windows(2).map(|pair| pair[0] as usize..pair[1] as usize)
    }
}

/// The tables of an embedding: how many words, positions and token types there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    pub words: usize,
    pub positions: usize,
    pub types: usize,
}

impl Vocabulary {
    /// Refuses ids, lengths and segments that the tables have no rows for, before anything reads them.
    pub fn check(self, ids: &[u32], sequences: Sequences<'_>) -> Result<(), ShapeError> {
        ShapeError::check_len("ids", ids.len(), sequences.tokens())?;
        if let Some(index) = ids.iter().position(|&id| id as usize >= self.words) {
            return Err(ShapeError::Id { index, id: ids[index], vocabulary: self.words });
        }
        for (index, length) in sequences.ranges().map(|range| range.len()).enumerate() {
            if length > self.positions {
                return Err(ShapeError::TooLong { index, length, length_max: self.positions });
            }
            if sequences.first_segment(index) < length && self.types < 2 {
                return Err(ShapeError::Segments { index });
            }
        }
        Ok(())
    }

    /// For each token the row of a table of `[types, positions]`.
    pub fn places(self, sequences: Sequences<'_>) -> impl Iterator<Item = u32> {
        sequences.ranges().enumerate().flat_map(move |(index, range)| {
            let first_segment = sequences.first_segment(index);
            (0..range.len())
                .map(move |position| (position + if position < first_segment { 0 } else { self.positions }) as u32)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_starts_at_zero_and_never_stands_still() {
        assert_eq!(Sequences::new(&[]).unwrap_err(), ShapeError::Start { actual: None });
        assert_eq!(Sequences::new(&[1, 2]).unwrap_err(), ShapeError::Start { actual: Some(1) });
        assert_eq!(Sequences::new(&[0, 2, 2]).unwrap_err(), ShapeError::Sequence { index: 1, start: 2, end: 2 });
        assert_eq!(Sequences::new(&[0, 2, 1]).unwrap_err(), ShapeError::Sequence { index: 1, start: 2, end: 1 });
    }

    #[test]
    fn a_first_segment_is_no_longer_than_its_sequence() {
        let sequences = Sequences::new(&[0, 2, 5]).unwrap();
        assert_eq!((sequences.first_segment(0), sequences.first_segment(1)), (2, 3));
        let divided = sequences.with_first_segments(&[2, 1]).unwrap();
        assert_eq!((divided.first_segment(0), divided.first_segment(1)), (2, 1));
        assert_eq!(
            sequences.with_first_segments(&[2, 4]).unwrap_err(),
            ShapeError::Segment { index: 1, first: 4, length: 3 }
        );
        assert_eq!(
            sequences.with_first_segments(&[2]).unwrap_err(),
            ShapeError::Length { operand: "first_segments", actual: 1, expected: 2 }
        );
    }

    #[test]
    fn a_group_counts_its_tokens_from_zero() {
        let sequences = Sequences::new(&[0, 2, 5, 9]).unwrap().with_first_segments(&[1, 2, 3]).unwrap();
        let mut offsets = Vec::new();
        let (tokens, group) = sequences.group(1..3, &mut offsets);
        assert_eq!(tokens, 2..9);
        assert_eq!(group.cu_seqlens(), [0, 3, 7]);
        assert_eq!((group.first_segment(0), group.first_segment(1)), (2, 3));
    }

    #[test]
    fn places_count_through_each_type() {
        let vocabulary = Vocabulary { words: 9, positions: 10, types: 2 };
        let sequences = Sequences::new(&[0, 2, 5]).unwrap().with_first_segments(&[2, 1]).unwrap();
        assert_eq!(vocabulary.places(sequences).collect::<Vec<_>>(), [0, 1, 0, 11, 12]);
    }

    #[test]
    fn an_empty_batch_has_no_tokens() {
        let sequences = Sequences::new(&[0]).unwrap();
        assert!(sequences.is_empty());
        assert_eq!(sequences.tokens(), 0);
    }
}
