//! One vector for each sequence, of length 1.

use crate::{Sequences, ShapeError};

/// Pooling: the method that makes one vector of a sequence's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all tokens.
    Mean,
    /// The first token, which such models train to stand for the whole.
    Cls,
}

impl Pooling {
    /// Writes `[sequences, width]` from `[tokens, width]`; with `is_normalised` each vector is divided by its length. A
    /// vector of zeros stays one.
    pub fn run(
        self,
        rows: &[f32],
        sequences: Sequences<'_>,
        width: usize,
        is_normalised: bool,
        out: &mut [f32],
    ) -> Result<(), ShapeError> {
        ShapeError::check_size("width", width)?;
        ShapeError::check_len("rows", rows.len(), sequences.tokens() * width)?;
        ShapeError::check_len("out", out.len(), sequences.len() * width)?;
        for (range, out) in sequences.ranges().zip(out.chunks_exact_mut(width)) {
            let used = if self == Self::Mean { range.len() } else { 1 };
            out.copy_from_slice(&rows[range.start * width..][..width]);
            for row in rows[range.start * width..][..used * width].chunks_exact(width).skip(1) {
                out.iter_mut().zip(row).for_each(|(out, value)| *out += value);
            }
            // The mean's divisor falls out of the normalisation.
            let divisor = if is_normalised {
                out.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
            } else {
                used as f64
            };
            if divisor > 0.0 {
                let scale = (1.0 / divisor) as f32;
                out.iter_mut().for_each(|value| *value *= scale);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pooling: Pooling, rows: &[f32], cu_seqlens: &[u32], expected: &[f32]) {
        check_as(pooling, true, rows, cu_seqlens, expected);
    }

    fn check_as(pooling: Pooling, is_normalised: bool, rows: &[f32], cu_seqlens: &[u32], expected: &[f32]) {
        let mut out = vec![f32::NAN; expected.len()];
        pooling.run(rows, Sequences::new(cu_seqlens).unwrap(), 2, is_normalised, &mut out).unwrap();
        super::super::naive::assert_close(&out, &expected.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), 1e-7);
    }

    #[test]
    fn the_mean_of_a_sequence_has_length_one() {
        check(Pooling::Mean, &[1.0, 0.0, 5.0, 8.0, 0.0, 2.0], &[0, 2, 3], &[0.6, 0.8, 0.0, 1.0]);
    }

    #[test]
    fn the_first_token_can_stand_for_a_sequence() {
        check(Pooling::Cls, &[3.0, 4.0, 5.0, 8.0, 0.0, 2.0], &[0, 2, 3], &[0.6, 0.8, 0.0, 1.0]);
    }

    #[test]
    fn a_vector_can_stay_as_long_as_it_is() {
        check_as(Pooling::Mean, false, &[1.0, 0.0, 5.0, 8.0, 0.0, 2.0], &[0, 2, 3], &[3.0, 4.0, 0.0, 2.0]);
        check_as(Pooling::Cls, false, &[3.0, 4.0, 5.0, 8.0, 0.0, 2.0], &[0, 2, 3], &[3.0, 4.0, 0.0, 2.0]);
    }

    #[test]
    fn zeros_stay_zeros_and_an_empty_batch_stays_empty() {
        check(Pooling::Mean, &[1.0, -1.0, -1.0, 1.0], &[0, 2], &[0.0, 0.0]);
        check(Pooling::Mean, &[], &[0], &[]);
    }

    #[test]
    fn rows_must_match_the_sequences() {
        let sequences = Sequences::new(&[0, 2]).unwrap();
        assert_eq!(
            Pooling::Mean.run(&[0.0; 2], sequences, 2, true, &mut [0.0; 2]).unwrap_err(),
            ShapeError::Length { operand: "rows", actual: 2, expected: 4 }
        );
    }
}
