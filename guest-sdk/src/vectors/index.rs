//! Vectors in a bucket: segments of bounded size under numbered keys.

use std::cell::Cell;

use super::best::Best;
use super::format::vector_bytes;
use super::{Error, ID_BYTES_MAX, Match, Query, Vectors};
use crate::kv::Bucket;

/// Bytes of a segment at which the next one begins.
const SEGMENT_BYTES_MAX: usize = 512 << 10;

/// Vectors in a bucket, under the keys `NAME/0`, `NAME/1`, …
///
/// A search reads all segments: one key for some 1,300 vectors of 384 dimensions. That suits up to some 100,000
/// vectors. Calls may append at the same time, and none is lost, but
/// they wait for each other: embed in many calls, and append their results in one.
///
/// An append cannot be undone, and a function that is retried may append the same vector twice. To replace an index,
/// build another one under a new name, then store that name where searches look it up, and [`clear`](Self::clear) the
/// old one.
///
/// ```
/// use bireme_sdk::vectors::Index;
/// use bireme_sdk::{kv, testing};
///
/// let _kv = testing::with_kv();
/// let index = Index::new(kv::open("search")?, "colours", 2);
/// assert!(index.nearest(&[1.0, 0.0], 3)?.is_empty());
/// index.append([("red", vec![1.0, 0.0]), ("blue", vec![0.0, 1.0])])?;
/// assert_eq!(index.nearest(&[1.0, 0.2], 1)?[0].id, "red");
/// index.clear()?;
/// assert!(index.nearest(&[1.0, 0.0], 3)?.is_empty());
/// # Ok::<(), bireme_sdk::Failure>(())
/// ```
#[derive(Debug)]
pub struct Index {
    bucket: Bucket,
    name: String,
    dimension: usize,
}

impl Index {
    /// Names an index of vectors of this dimension. Nothing is read or written.
    ///
    /// # Panics
    /// When `dimension` is 0 or over 65,536.
    pub fn new(bucket: Bucket, name: impl Into<String>, dimension: usize) -> Self {
        Self { bucket, name: name.into(), dimension: Vectors::new(dimension).dimension() }
    }

    /// Adds vectors with their ids, in order, after those that are there. All are checked before the first is written.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`], [`Error::IdTooLong`], after which nothing was added; the others,
    /// after which some may have been.
    pub fn append<I: Into<String>, V: AsRef<[f32]>>(
        &self,
        vectors: impl IntoIterator<Item = (I, V)>,
    ) -> Result<(), Error> {
        let vectors: Vec<(String, V)> = vectors.into_iter().map(|(id, vector)| (id.into(), vector)).collect();
        for (id, vector) in &vectors {
            Query::new(self.dimension, vector.as_ref())?;
            if id.len() > ID_BYTES_MAX {
                return Err(Error::IdTooLong { bytes: id.len() });
            }
        }
        let mut rest = &vectors[..];
        let mut segment = self.last_segment()?;
        while !rest.is_empty() {
            // The closure runs again whenever another call was faster.
            let added = Cell::new(Ok(0));
            self.bucket.update(&self.key(segment), |stored| {
                let stored = stored.unwrap_or_default();
                match self.fill(&stored, rest) {
                    Ok((0, _)) => {
                        added.set(Ok(0));
                        stored
                    }
                    Ok((len, filled)) => {
                        added.set(Ok(len));
                        filled.to_bytes()
                    }
                    Err(error) => {
                        added.set(Err(error));
                        stored
                    }
                }
            })?;
            rest = &rest[added.replace(Ok(0))?..];
            segment += 1;
        }
        Ok(())
    }

    /// Returns the `k` vectors nearest to `query`, the nearest first.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`] for the query; [`Error::Version`], [`Error::Damaged`] for a segment;
    /// [`Error::Kv`].
    pub fn nearest(&self, query: &[f32], k: usize) -> Result<Vec<Match>, Error> {
        let query = Query::new(self.dimension, query)?;
        let mut best = Best::new(k);
        let mut len = 0;
        // One at a time: each takes the memory of the one before, and fresh pages cost more than a read.
        for segment in 0.. {
            let Some(stored) = self.bucket.get(&self.key(segment))? else { break };
            let vectors = self.read(&stored)?;
            vectors.offer(&query, len, &mut best);
            len += vectors.len();
        }
        Ok(best.into_matches())
    }

    /// Removes all vectors.
    ///
    /// # Errors
    /// [`Error::Kv`].
    pub fn clear(&self) -> Result<(), Error> {
        // From the end: what is left of a clear that was cut off is an index without a gap.
        for segment in (0..self.segments()?).rev() {
            self.bucket.delete(&self.key(segment))?;
        }
        Ok(())
    }

    fn key(&self, segment: usize) -> String {
        format!("{}/{segment}", self.name)
    }

    fn read(&self, stored: &[u8]) -> Result<Vectors, Error> {
        let vectors = Vectors::from_bytes(stored)?;
        match vectors.dimension() == self.dimension {
            true => Ok(vectors),
            false => Err(Error::Dimension { expected: vectors.dimension(), found: self.dimension }),
        }
    }

    /// Adds as many of `vectors` as have room; returns how many.
    fn fill<V: AsRef<[f32]>>(&self, stored: &[u8], vectors: &[(String, V)]) -> Result<(usize, Vectors), Error> {
        let mut filled = if stored.is_empty() { Vectors::new(self.dimension) } else { self.read(stored)? };
        let mut bytes = filled.bytes_len();
        for (added, (id, vector)) in vectors.iter().enumerate() {
            bytes += vector_bytes(self.dimension, id);
            if bytes > SEGMENT_BYTES_MAX && !filled.is_empty() {
                return Ok((added, filled));
            }
            filled.push(id.as_str(), vector.as_ref())?;
        }
        Ok((vectors.len(), filled))
    }

    /// Returns the segment that may have room: the last, or the first of an empty index.
    fn last_segment(&self) -> Result<usize, Error> {
        Ok(self.segments()?.saturating_sub(1))
    }

    /// Counts the segments by doubling steps, then bisection: their numbers have no gap.
    fn segments(&self) -> Result<usize, Error> {
        let exists = |segment| self.bucket.exists(&self.key(segment));
        let (mut low, mut high) = (0, 1);
        while exists(high - 1)? {
            low = high;
            high *= 2;
        }
        while low + 1 < high {
            let middle = low.midpoint(high);
            if exists(middle - 1)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kv, testing};

    fn index(dimension: usize) -> Index {
        Index::new(kv::open("search").unwrap(), "all", dimension)
    }

    fn keys() -> usize {
        kv::open("search").unwrap().keys().count()
    }

    #[test]
    fn segments_fill_up_before_the_next_and_all_are_searched() {
        let _kv = testing::with_kv();
        let index = index(4_096);
        let vector = |at: usize| {
            let mut vector = vec![0.0; 4_096];
            vector[at] = 1.0;
            vector
        };
        // 127 have room in a segment.
        for first in (0..300).step_by(50) {
            index.append((first..first + 50).map(|at| (format!("{at:04}"), vector(at)))).unwrap();
        }
        assert_eq!((keys(), index.segments().unwrap()), (3, 3));
        for at in [0, 126, 127, 299] {
            let found = index.nearest(&vector(at), 1).unwrap().remove(0);
            assert_eq!((found.index, found.id, found.score), (at, format!("{at:04}"), 1.0));
        }
        index.clear().unwrap();
        assert_eq!(keys(), 0);
    }

    #[test]
    fn segments_are_counted_whatever_their_number() {
        let _kv = testing::with_kv();
        let index = index(1);
        for len in 0..40 {
            assert_eq!(index.segments().unwrap(), len);
            kv::open("search").unwrap().set(&index.key(len), "x").unwrap();
        }
    }

    #[test]
    fn vectors_that_do_not_fit_the_index_leave_it_as_it_was() {
        let _kv = testing::with_kv();
        let index = index(2);
        let error = index.append([("a", vec![1.0, 2.0]), ("b", vec![1.0])]).unwrap_err();
        assert!(matches!(error, Error::Dimension { expected: 2, found: 1 }));
        assert_eq!(keys(), 0);
        index.append([("a", [1.0, 2.0])]).unwrap();
        let other = Index::new(kv::open("search").unwrap(), "all", 3);
        assert!(matches!(other.nearest(&[1.0; 3], 1), Err(Error::Dimension { expected: 2, found: 3 })));
        assert!(matches!(other.append([("b", [1.0; 3])]), Err(Error::Dimension { .. })));
        kv::open("search").unwrap().set("all/0", "nonsense").unwrap();
        assert!(matches!(index.nearest(&[1.0; 2], 1), Err(Error::Damaged { bytes: 8, .. })));
        assert!(index.append([("b", [1.0; 2])]).is_err());
        assert_eq!(kv::open("search").unwrap().get("all/0").unwrap().as_deref(), Some(&b"nonsense"[..]));
    }
}
