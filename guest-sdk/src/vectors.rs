//! Vectors in few bytes, and the search for those nearest to another.
//!
//! [`Vectors`] holds vectors of one dimension, each with an id, for instance the key or URL of its text. [`Index`]
//! keeps them in a bucket of [`kv`](crate::kv), in few large values, so that a search reads a handful of keys. The
//! score of a match is the cosine of the angle between both vectors: 1 for the same direction, 0 for unrelated ones.
//!
//! A vector is stored as signed bytes, a quarter of its `f32`s. Scores differ from the exact ones by less than 0.01 for
//! embeddings, which changes the order of near ties at most. On a host the products run as SIMD; no compiler flag is
//! needed.
//!
//! | limit | of |
//! |---|---|
//! | 65,536 | dimensions |
//! | 1,024 bytes | an id |
//! | 512 KiB | a stored segment: some 1,300 vectors of 384 dimensions |
//!
//! ```
//! use bireme_sdk::vectors::Index;
//! use bireme_sdk::{kv, testing};
//!
//! let _kv = testing::with_kv();
//! let index = Index::new(kv::open("search")?, "pages", 2);
//! index.append([("oars.html", [0.6, 0.8]), ("tax.html", [1.0, -1.0])])?;
//! let matches = index.nearest(&[0.5, 0.5], 1)?;
//! assert_eq!(matches[0].id, "oars.html");
//! assert!(matches[0].score > 0.9);
//! # Ok::<(), bireme_sdk::Failure>(())
//! ```

mod best;
mod dot;
mod format;
mod index;

use self::best::Best;
use self::dot::dot;
pub use self::index::Index;
use crate::kv;

/// Dimensions of a vector: its products still fit 32 bits.
const DIMENSION_MAX: usize = 65_536;
/// Bytes of an id, as of a key.
const ID_BYTES_MAX: usize = 1_024;

/// Vectors of one dimension with their ids, in the order in which they were pushed.
///
/// ```
/// use bireme_sdk::vectors::Vectors;
///
/// let mut vectors = Vectors::new(3);
/// vectors.push("red", &[1.0, 0.0, 0.0])?;
/// vectors.push("green", &[0.0, 1.0, 0.0])?;
/// vectors.push("yellow", &[1.0, 1.0, 0.0])?;
/// let matches = vectors.nearest(&[2.0, 0.1, 0.0], 2)?;
/// assert_eq!([&matches[0].id, &matches[1].id], ["red", "yellow"]);
///
/// let read = Vectors::from_bytes(&vectors.to_bytes())?;
/// assert_eq!(read, vectors);
/// # Ok::<(), bireme_sdk::vectors::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    dimension: usize,
    /// One over the length of each vector's values; 0 for a vector of zeros.
    scales: Vec<f32>,
    /// Signed bytes, one vector after the other.
    values: Vec<u8>,
    /// All ids, one after the other.
    ids: String,
    /// End of each id in `ids`.
    id_ends: Vec<usize>,
}

/// A vector that was found.
///
/// ```
/// use bireme_sdk::vectors::Vectors;
///
/// let mut vectors = Vectors::new(1);
/// vectors.push("a", &[2.0])?;
/// let found = vectors.nearest(&[1.0], 9)?.remove(0);
/// assert_eq!((found.index, found.id.as_str(), found.score), (0, "a", 1.0));
/// # Ok::<(), bireme_sdk::vectors::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Position, from 0, in the order in which the vectors were added.
    pub index: usize,
    /// Id that the vector was added with.
    pub id: String,
    /// Cosine of the angle between the vector and the query.
    pub score: f32,
}

/// Error of vectors and of their index.
///
/// ```
/// use bireme_sdk::vectors::{Error, Vectors};
///
/// let error = Vectors::new(2).push("a", &[1.0]).unwrap_err();
/// assert!(matches!(error, Error::Dimension { expected: 2, found: 1 }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vector has another dimension than those beside it: it is of another model.
    #[error("a vector of dimension {found} among vectors of dimension {expected}; are they of the same model?")]
    Dimension {
        /// Dimension of the other vectors.
        expected: usize,
        /// Dimension of this one.
        found: usize,
    },
    /// The vector has an infinite value, or one that is no number.
    #[error("value {position} of the vector is not finite")]
    NotFinite {
        /// Position in the vector, from 0.
        position: usize,
    },
    /// The id is too long.
    #[error("an id of {bytes} bytes, over the limit of 1024; store long texts under a key, and use the key as the id")]
    IdTooLong {
        /// Bytes of the id.
        bytes: usize,
    },
    /// The bytes are of a later version of this SDK.
    #[error(
        "vectors in format {version}, and this SDK reads format 1; build with the SDK that wrote them, or index again"
    )]
    Version {
        /// Format of the bytes.
        version: u8,
    },
    /// The bytes are no vectors.
    #[error("{bytes} bytes are no stored vectors: {reason}; index again")]
    Damaged {
        /// Number of the bytes.
        bytes: usize,
        /// First thing that is wrong.
        reason: &'static str,
    },
    /// The bucket failed.
    #[error(transparent)]
    Kv(#[from] kv::Error),
}

impl Error {
    /// Returns true if a retry cannot help.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Kv(error) => error.is_terminal(),
            _ => true,
        }
    }
}

impl Vectors {
    /// Makes an empty collection of vectors of this dimension.
    ///
    /// # Panics
    /// When `dimension` is 0 or over 65,536.
    pub fn new(dimension: usize) -> Self {
        assert!((1..=DIMENSION_MAX).contains(&dimension), "vectors have 1 to 65,536 dimensions, not {dimension}");
        Self { dimension, scales: Vec::new(), values: Vec::new(), ids: String::new(), id_ends: Vec::new() }
    }

    /// Adds a vector. Its length does not matter, since a score is an angle.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`], [`Error::IdTooLong`], after which nothing was added.
    pub fn push(&mut self, id: impl AsRef<str>, vector: &[f32]) -> Result<(), Error> {
        let id = id.as_ref();
        if id.len() > ID_BYTES_MAX {
            return Err(Error::IdTooLong { bytes: id.len() });
        }
        let scale = self.quantize(vector)?;
        self.scales.push(scale);
        self.ids.push_str(id);
        self.id_ends.push(self.ids.len());
        Ok(())
    }

    /// Returns the number of vectors.
    pub fn len(&self) -> usize {
        self.id_ends.len()
    }

    /// Returns true if there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.id_ends.is_empty()
    }

    /// Returns the dimension of the vectors.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the `k` vectors nearest to `query`, the nearest first. Of equal scores the earlier comes first.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`].
    pub fn nearest(&self, query: &[f32], k: usize) -> Result<Vec<Match>, Error> {
        let query = Query::new(self.dimension, query)?;
        let mut best = Best::new(k);
        self.offer(&query, 0, &mut best);
        Ok(best.into_matches())
    }

    /// Offers all vectors; their positions begin at `first`.
    fn offer(&self, query: &Query, first: usize, best: &mut Best) {
        let rows = self.values.chunks_exact(self.dimension).zip(&self.scales);
        for (position, (row, scale)) in rows.enumerate() {
            let score = dot(&query.values, row) as f32 * query.scale * scale;
            best.offer(score, first + position, || self.id(position));
        }
    }

    /// Returns the id of the vector at this position, which exists.
    fn id(&self, position: usize) -> String {
        let start = position.checked_sub(1).map_or(0, |before| self.id_ends[before]);
        self.ids[start..self.id_ends[position]].to_owned()
    }

    /// Appends a vector's values, each rounded to one of 255 steps between the largest and its negative; returns their
    /// scale. On an error nothing was appended.
    fn quantize(&mut self, vector: &[f32]) -> Result<f32, Error> {
        if vector.len() != self.dimension {
            return Err(Error::Dimension { expected: self.dimension, found: vector.len() });
        }
        if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { position });
        }
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 {
            self.values.resize(self.values.len() + self.dimension, 0);
            return Ok(0.0);
        }
        let start = self.values.len();
        // Divided first: the quotient of the smallest numbers would be infinite.
        self.values.extend(vector.iter().map(|value| ((value / largest * 127.0).round() as i8).cast_unsigned()));
        let row = &self.values[start..];
        Ok(1.0 / (dot(row, row) as f32).sqrt())
    }
}

/// A query, quantised as the vectors are.
struct Query {
    scale: f32,
    values: Vec<u8>,
}

impl Query {
    fn new(dimension: usize, query: &[f32]) -> Result<Self, Error> {
        let mut vectors = Vectors::new(dimension);
        let scale = vectors.quantize(query)?;
        Ok(Self { scale, values: vectors.values })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cosine of two vectors, in exact numbers.
    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let lengths = (dot(a, a) * dot(b, b)).sqrt();
        if lengths == 0.0 { 0.0 } else { dot(a, b) / lengths }
    }

    fn rows(dimension: usize, values: &[f32]) -> Vec<Vec<f32>> {
        values.chunks_exact(dimension).map(<[f32]>::to_vec).collect()
    }

    proptest! {
        #[test]
        fn the_nearest_are_those_of_the_plain_loop(
            dimension in prop::sample::select(vec![1, 15, 16, 17, 40]),
            values in prop::collection::vec(-1.0f32..1.0, 40..1_200),
            k in 0usize..12,
        ) {
            let mut rows = rows(dimension, &values);
            let query = rows.remove(0);
            let mut vectors = Vectors::new(dimension);
            for (at, row) in rows.iter().enumerate() {
                vectors.push(at.to_string(), row).unwrap();
            }
            let matches = vectors.nearest(&query, k).unwrap();
            prop_assert_eq!(matches.len(), k.min(rows.len()));
            for found in &matches {
                prop_assert_eq!(&found.id, &found.index.to_string());
                let exact = cosine(&query, &rows[found.index]);
                prop_assert!((f64::from(found.score) - exact).abs() < 0.02, "{} for {}", found.score, exact);
            }
            // Sorted, and no other scores more.
            let all = vectors.nearest(&query, usize::MAX).unwrap();
            prop_assert!(all.is_sorted_by(|a, b| (b.score, a.index) <= (a.score, b.index)));
            prop_assert_eq!(&all[..matches.len()], &matches[..]);
        }
    }

    #[test]
    fn vectors_that_do_not_fit_change_nothing() {
        let mut vectors = Vectors::new(2);
        vectors.push("a", &[1.0, 0.0]).unwrap();
        let before = vectors.clone();
        assert!(matches!(vectors.push("b", &[1.0]), Err(Error::Dimension { expected: 2, found: 1 })));
        assert!(matches!(vectors.push("b", &[1.0, f32::NAN]), Err(Error::NotFinite { position: 1 })));
        assert!(matches!(vectors.push("x".repeat(1_025), &[1.0, 1.0]), Err(Error::IdTooLong { bytes: 1_025 })));
        assert!(vectors.nearest(&[1.0], 1).unwrap_err().is_terminal());
        assert_eq!(vectors, before);
    }

    #[test]
    fn the_smallest_the_largest_and_zero_have_their_angles() {
        let mut vectors = Vectors::new(2);
        vectors.push("small", &[f32::MIN_POSITIVE / 2.0, 0.0]).unwrap();
        vectors.push("large", &[0.0, f32::MAX]).unwrap();
        vectors.push("zero", &[0.0, 0.0]).unwrap();
        let scores: Vec<_> = vectors.nearest(&[3.0, 0.0], 3).unwrap().into_iter().map(|m| (m.id, m.score)).collect();
        assert_eq!(scores, [("small".to_owned(), 1.0), ("large".to_owned(), 0.0), ("zero".to_owned(), 0.0)]);
    }
}
