//! The first layer of an encoder: a row for each token, from tables.

use super::isa::{Isa, Kernel};
use super::layer_norm::LayerNorm;
use super::parallelism::Parallelism;
use super::simd::Simd;
use crate::{Sequences, ShapeError, Vocabulary};

/// The tables of words and positions, and the normalisation of their sum.
#[derive(Debug)]
pub struct Embedding {
    words: Vec<f32>,
    /// `[types, positions, width]`: the sums of both tables.
    places: Vec<f32>,
    positions: usize,
    norm: LayerNorm,
}

impl Embedding {
    /// Takes tables of `[vocabulary, width]`, `[positions, width]` and `[types, width]`: a sequence's first segment is
    /// of the first type, its second of the second.
    pub fn new(words: Vec<f32>, positions: &[f32], types: &[f32], norm: LayerNorm) -> Result<Self, ShapeError> {
        let width = norm.width();
        ShapeError::check_size("vocabulary", words.len())?;
        ShapeError::check_len("words", words.len(), words.len() / width * width)?;
        let places = places(positions, types, width)?;
        Ok(Self { words, places, positions: positions.len() / width, norm })
    }

    /// The values in a row.
    pub fn width(&self) -> usize {
        self.norm.width()
    }

    /// Returns the words, positions and types that the tables have rows for.
    pub fn vocabulary(&self) -> Vocabulary {
        let (words, places) = (self.words.len() / self.width(), self.places.len() / self.width());
        Vocabulary { words, positions: self.positions, types: places / self.positions }
    }

    /// Writes `[tokens, width]`: for each id its word plus its position in its sequence, normalised.
    pub fn run(
        &self,
        ids: &[u32],
        sequences: Sequences<'_>,
        out: &mut [f32],
        parallelism: Parallelism,
    ) -> Result<(), ShapeError> {
        self.vocabulary().check(ids, sequences)?;
        ShapeError::check_len("out", out.len(), ids.len() * self.width())?;
        self.run_on(Isa::detect(), ids, sequences, out, parallelism);
        Ok(())
    }

    fn run_on(&self, isa: Isa, ids: &[u32], sequences: Sequences<'_>, out: &mut [f32], parallelism: Parallelism) {
        let width = self.width();
        // Sequences are few; cutting between them keeps a position a plain count.
        let mut rest = out;
        for (index, range) in sequences.ranges().enumerate() {
            let (rows, after) = std::mem::take(&mut rest).split_at_mut(range.len() * width);
            rest = after;
            let (ids, first_segment) = (&ids[range], sequences.first_segment(index));
            parallelism.for_rows(rows, width, ROW_FLOP * width, |first, rows| {
                isa.run(Rows { embedding: self, ids: &ids[first..], first, first_segment, rows });
            });
        }
    }
}

/// The rows of `[types, positions]`, each the sum of its type's row and its position's.
pub(crate) fn places(positions: &[f32], types: &[f32], width: usize) -> Result<Vec<f32>, ShapeError> {
    ShapeError::check_size("positions", positions.len())?;
    ShapeError::check_len("positions", positions.len(), positions.len() / width * width)?;
    ShapeError::check_size("types", types.len())?;
    ShapeError::check_len("types", types.len(), types.len() / width * width)?;
    let rows = types.chunks_exact(width).flat_map(|token_type| {
        positions.chunks_exact(width).flat_map(move |row| row.iter().zip(token_type).map(|(row, own)| row + own))
    });
    Ok(rows.collect())
}

/// As for a layer norm, and the words come from main memory.
const ROW_FLOP: usize = 100;

struct Rows<'a> {
    embedding: &'a Embedding,
    ids: &'a [u32],
    /// The position of the first row.
    first: usize,
    first_segment: usize,
    rows: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Embedding { words, places, positions, norm } = self.embedding;
        let width = norm.width();
        for (index, (row, &id)) in self.rows.chunks_exact_mut(width).zip(self.ids).enumerate() {
            let word = &words[id as usize * width..][..width];
            let position = self.first + index;
            let place = position + if position < self.first_segment { 0 } else { *positions };
            let place = &places[place * width..][..width];
            let tables = word.chunks(S::WIDTH).zip(place.chunks(S::WIDTH));
            for (out, (word, place)) in row.chunks_mut(S::WIDTH).zip(tables) {
                let sum = simd.add(simd.read(word, 0.0), simd.read(place, 0.0));
                simd.write(out, sum);
            }
            norm.row(simd, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::super::parallelism::Threads;
    use super::*;

    const WIDTH: usize = 37;

    fn embedding(vocabulary: usize, positions: usize) -> Embedding {
        let mut random = naive::Random::new(5);
        let norm = LayerNorm::new(random.values(WIDTH), random.values(WIDTH), 1e-12).unwrap();
        let words = random.values(vocabulary * WIDTH);
        Embedding::new(words, &random.values(positions * WIDTH), &random.values(WIDTH), norm).unwrap()
    }

    #[test]
    fn a_row_is_its_word_its_position_and_the_type_normalised() {
        let mut random = naive::Random::new(9);
        let (words, positions, types) =
            (random.values(50 * WIDTH), random.values(512 * WIDTH), random.values(2 * WIDTH));
        let (weight, bias) = (random.values(WIDTH), random.values(WIDTH));
        let (cu_seqlens, first_segments) = ([0, 1, 4, 516], [1, 0, 200]);
        let ids: Vec<u32> = (0..516).map(|index| index * 31 % 50).collect();

        let mut sums = Vec::new();
        for (pair, first) in cu_seqlens.windows(2).zip(first_segments) {
            for (position, &id) in ids[pair[0] as usize..pair[1] as usize].iter().enumerate() {
                let own = if position < first as usize { 0 } else { WIDTH };
                for column in 0..WIDTH {
                    let word = words[id as usize * WIDTH + column];
                    sums.push(word + positions[position * WIDTH + column] + types[own + column]);
                }
            }
        }
        let expected = naive::layer_norm(&sums, &weight, &bias, 1e-12);

        let norm = LayerNorm::new(weight, bias, 1e-12).unwrap();
        let embedding = Embedding::new(words, &positions, &types, norm).unwrap();
        let sequences = Sequences::new(&cu_seqlens).unwrap().with_first_segments(&first_segments).unwrap();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut out = vec![f32::NAN; ids.len() * WIDTH];
                Threads::new(threads)
                    .unwrap()
                    .install(|parallelism| embedding.run_on(isa, &ids, sequences, &mut out, parallelism));
                naive::assert_close(&out, &expected, 2e-5);
            }
        }
    }

    #[test]
    fn an_empty_batch_writes_nothing() {
        embedding(3, 4).run(&[], Sequences::new(&[0]).unwrap(), &mut [], Parallelism::SINGLE).unwrap();
    }

    #[test]
    fn ids_and_lengths_beyond_the_tables_are_refused() {
        let embedding = embedding(3, 4);
        let run = |ids: &[u32], cu_seqlens: &[u32]| {
            let mut out = vec![0.0; ids.len() * WIDTH];
            embedding.run(ids, Sequences::new(cu_seqlens).unwrap(), &mut out, Parallelism::SINGLE).unwrap_err()
        };
        assert_eq!(run(&[0, 3], &[0, 2]), ShapeError::Id { index: 1, id: 3, vocabulary: 3 });
        assert_eq!(run(&[0; 6], &[0, 1, 6]), ShapeError::TooLong { index: 1, length: 5, length_max: 4 });
        assert_eq!(run(&[0; 2], &[0, 3]), ShapeError::Length { operand: "ids", actual: 2, expected: 3 });
        let sequences = Sequences::new(&[0, 2]).unwrap().with_first_segments(&[1]).unwrap();
        assert_eq!(embedding.vocabulary().check(&[0; 2], sequences), Err(ShapeError::Segments { index: 0 }));
    }
}
