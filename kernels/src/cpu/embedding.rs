//! The first layer of an encoder: a row for each token, from tables.

use super::isa::{Isa, Kernel};
use super::layer_norm::LayerNorm;
use super::simd::Simd;
use super::team::Team;
use crate::{Sequences, ShapeError};

/// The tables of words and positions, and the normalisation of their sum.
#[derive(Debug)]
pub struct Embedding {
    words: Vec<f32>,
    positions: Vec<f32>,
    norm: LayerNorm,
}

impl Embedding {
    /// Takes tables of `[vocabulary, width]` and `[positions, width]`, and the row of the one token type, `[width]`.
    pub fn new(
        words: Vec<f32>,
        mut positions: Vec<f32>,
        token_type: &[f32],
        norm: LayerNorm,
    ) -> Result<Self, ShapeError> {
        let width = norm.width();
        ShapeError::check_size("vocabulary", words.len())?;
        ShapeError::check_len("words", words.len(), words.len() / width * width)?;
        ShapeError::check_size("positions", positions.len())?;
        ShapeError::check_len("positions", positions.len(), positions.len() / width * width)?;
        ShapeError::check_len("token_type", token_type.len(), width)?;
        // Every token has the same type, so its row is added once here and not once a token.
        for row in positions.chunks_exact_mut(width) {
            row.iter_mut().zip(token_type).for_each(|(position, token_type)| *position += token_type);
        }
        Ok(Self { words, positions, norm })
    }

    /// The values in a row.
    pub fn width(&self) -> usize {
        self.norm.width()
    }

    /// The number of words.
    pub fn vocabulary(&self) -> usize {
        self.words.len() / self.width()
    }

    /// The most tokens in a sequence.
    pub fn positions(&self) -> usize {
        self.positions.len() / self.width()
    }

    /// Writes `[tokens, width]`: for each id its word plus its position in its sequence, normalised.
    pub fn run(&self, ids: &[u32], sequences: Sequences<'_>, out: &mut [f32], team: Team) -> Result<(), ShapeError> {
        self.check(ids, sequences)?;
        ShapeError::check_len("out", out.len(), ids.len() * self.width())?;
        self.run_on(Isa::detect(), ids, sequences, out, team);
        Ok(())
    }

    /// Refuses ids outside the vocabulary and sequences longer than the table of positions.
    pub fn check(&self, ids: &[u32], sequences: Sequences<'_>) -> Result<(), ShapeError> {
        ShapeError::check_len("ids", ids.len(), sequences.tokens())?;
        let vocabulary = self.vocabulary();
        if let Some(index) = ids.iter().position(|&id| id as usize >= vocabulary) {
            return Err(ShapeError::Id { index, id: ids[index], vocabulary });
        }
        let length_max = self.positions();
        for (index, length) in sequences.ranges().map(|range| range.len()).enumerate() {
            if length > length_max {
                return Err(ShapeError::TooLong { index, length, length_max });
            }
        }
        Ok(())
    }

    fn run_on(&self, isa: Isa, ids: &[u32], sequences: Sequences<'_>, out: &mut [f32], team: Team) {
        let width = self.width();
        // Sequences are few; cutting between them keeps a position a plain count.
        let mut rest = out;
        let parts: Vec<(&[u32], &mut [f32])> = sequences
            .ranges()
            .map(|range| {
                let (rows, after) = std::mem::take(&mut rest).split_at_mut(range.len() * width);
                rest = after;
                (&ids[range], rows)
            })
            .collect();
        for (ids, rows) in parts {
            team.for_rows(rows, width, ROW_FLOP * width, |first, rows| {
                isa.run(Rows { embedding: self, ids: &ids[first..], first, rows });
            });
        }
    }
}

/// As for a layer norm, and the words come from main memory.
const ROW_FLOP: usize = 100;

struct Rows<'a> {
    embedding: &'a Embedding,
    ids: &'a [u32],
    first: usize,
    rows: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Embedding { words, positions, norm } = self.embedding;
        let width = norm.width();
        for (index, (row, &id)) in self.rows.chunks_exact_mut(width).zip(self.ids).enumerate() {
            let word = &words[id as usize * width..][..width];
            let position = &positions[(self.first + index) * width..][..width];
            let tables = word.chunks(S::WIDTH).zip(position.chunks(S::WIDTH));
            for (out, (word, position)) in row.chunks_mut(S::WIDTH).zip(tables) {
                let sum = simd.add(simd.read(word, 0.0), simd.read(position, 0.0));
                simd.write(out, sum);
            }
            norm.row(simd, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::super::team::Threads;
    use super::*;

    const WIDTH: usize = 37;

    fn embedding(vocabulary: usize, positions: usize) -> Embedding {
        let mut random = naive::Random::new(5);
        let norm = LayerNorm::new(random.values(WIDTH), random.values(WIDTH), 1e-12).unwrap();
        let words = random.values(vocabulary * WIDTH);
        Embedding::new(words, random.values(positions * WIDTH), &random.values(WIDTH), norm).unwrap()
    }

    #[test]
    fn a_row_is_its_word_its_position_and_the_type_normalised() {
        let mut random = naive::Random::new(9);
        let (words, positions, token_type) =
            (random.values(50 * WIDTH), random.values(512 * WIDTH), random.values(WIDTH));
        let (weight, bias) = (random.values(WIDTH), random.values(WIDTH));
        let cu_seqlens = [0, 1, 4, 516];
        let ids: Vec<u32> = (0..516).map(|index| index * 31 % 50).collect();

        let mut sums = Vec::new();
        for pair in cu_seqlens.windows(2) {
            for (position, &id) in ids[pair[0] as usize..pair[1] as usize].iter().enumerate() {
                for column in 0..WIDTH {
                    sums.push(
                        words[id as usize * WIDTH + column] + positions[position * WIDTH + column] + token_type[column],
                    );
                }
            }
        }
        let expected = naive::layer_norm(&sums, &weight, &bias, 1e-12);

        let norm = LayerNorm::new(weight, bias, 1e-12).unwrap();
        let embedding = Embedding::new(words, positions, &token_type, norm).unwrap();
        let sequences = Sequences::new(&cu_seqlens).unwrap();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut out = vec![f32::NAN; ids.len() * WIDTH];
                Threads::new(threads).unwrap().install(|team| embedding.run_on(isa, &ids, sequences, &mut out, team));
                naive::assert_close(&out, &expected, 2e-5);
            }
        }
    }

    #[test]
    fn an_empty_batch_writes_nothing() {
        embedding(3, 4).run(&[], Sequences::new(&[0]).unwrap(), &mut [], Team::ALONE).unwrap();
    }

    #[test]
    fn ids_and_lengths_beyond_the_tables_are_refused() {
        let embedding = embedding(3, 4);
        let run = |ids: &[u32], cu_seqlens: &[u32]| {
            let mut out = vec![0.0; ids.len() * WIDTH];
            embedding.run(ids, Sequences::new(cu_seqlens).unwrap(), &mut out, Team::ALONE).unwrap_err()
        };
        assert_eq!(run(&[0, 3], &[0, 2]), ShapeError::Id { index: 1, id: 3, vocabulary: 3 });
        assert_eq!(run(&[0; 6], &[0, 1, 6]), ShapeError::TooLong { index: 1, length: 5, length_max: 4 });
        assert_eq!(run(&[0; 2], &[0, 3]), ShapeError::Length { operand: "ids", actual: 2, expected: 3 });
    }
}
