//! Vectors as bytes: format 1, little-endian.
//!
//! | bytes | hold |
//! |---|---|
//! | 3 | `BV` and the format |
//! | 4 | dimension |
//! | 4 | number of vectors |
//! | 4 each | scales, `f32` |
//! | dimension each | values, signed bytes |
//! | 2 each | lengths of the ids |
//! | the rest | ids, UTF-8 |

use super::{DIMENSION_MAX, Error, ID_BYTES_MAX, Vectors};

const MAGIC: [u8; 2] = *b"BV";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 11;
/// Bytes of a vector beside its values and its id.
const VECTOR_BYTES: usize = 6;

/// Returns the bytes that a vector takes in a segment.
pub(super) fn vector_bytes(dimension: usize, id: &str) -> usize {
    VECTOR_BYTES + dimension + id.len()
}

impl Vectors {
    /// Returns the length of [`to_bytes`](Self::to_bytes).
    pub fn bytes_len(&self) -> usize {
        HEADER_BYTES + self.len() * VECTOR_BYTES + self.values.len() + self.ids.len()
    }

    /// Returns the vectors as bytes, to be stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes_len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        // At most `DIMENSION_MAX`; and 4 billion vectors do not fit a guest's memory.
        bytes.extend_from_slice(&(self.dimension as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.len() as u32).to_le_bytes());
        self.scales.iter().for_each(|scale| bytes.extend_from_slice(&scale.to_le_bytes()));
        bytes.extend_from_slice(&self.values);
        let mut start = 0;
        for end in &self.id_ends {
            // At most `ID_BYTES_MAX`.
            bytes.extend_from_slice(&((end - start) as u16).to_le_bytes());
            start = *end;
        }
        bytes.extend_from_slice(self.ids.as_bytes());
        bytes
    }

    /// Reads the bytes of [`to_bytes`](Self::to_bytes). They may come from anywhere: nothing is taken for granted.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Damaged`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |reason| Error::Damaged { bytes: bytes.len(), reason };
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("they are too few"))?;
        if header[..2] != MAGIC {
            return Err(damaged("they begin otherwise"));
        }
        if header[2] != VERSION {
            return Err(Error::Version { version: header[2] });
        }
        let number = |at: usize| header[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (dimension, len) = (number(3), number(7));
        if !(1..=DIMENSION_MAX).contains(&dimension) {
            return Err(damaged("they have no such dimension"));
        }
        let cut_off = || damaged("they are cut off");
        let mut rest = rest;
        let mut part = |each: usize| take(&mut rest, len.checked_mul(each)).ok_or_else(cut_off);
        let (scales, values, lengths) = (part(4)?, part(dimension)?, part(2)?);

        let scales: Vec<f32> = scales.as_chunks().0.iter().map(|scale| f32::from_le_bytes(*scale)).collect();
        // The length of a vector that is not zero is at least 1.
        if scales.iter().any(|scale| !(0.0..=1.0).contains(scale)) {
            return Err(damaged("a scale is out of range"));
        }
        let ids = str::from_utf8(rest).map_err(|_| damaged("the ids are no text"))?;
        let mut id_ends = Vec::with_capacity(len);
        let mut end = 0;
        for length in lengths.as_chunks().0 {
            let length = usize::from(u16::from_le_bytes(*length));
            end += length;
            if length > ID_BYTES_MAX || !ids.is_char_boundary(end) {
                return Err(damaged("an id has no such length"));
            }
            id_ends.push(end);
        }
        if end != ids.len() {
            return Err(damaged("they go on after the last id"));
        }
        Ok(Self { dimension, scales, values: values.to_vec(), ids: ids.to_owned(), id_ends })
    }
}

/// Takes the first `len` bytes, if there are as many.
fn take<'a>(bytes: &mut &'a [u8], len: Option<usize>) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len?)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vectors() -> Vectors {
        let mut vectors = Vectors::new(3);
        vectors.push("a", &[1.0, -0.5, 0.25]).unwrap();
        vectors.push("", &[0.0; 3]).unwrap();
        vectors.push("zürich", &[0.1, 0.2, 0.3]).unwrap();
        vectors
    }

    #[test]
    fn the_bytes_are_those_of_format_1() {
        let mut vectors = Vectors::new(2);
        vectors.push("id", &[1.0, 0.0]).unwrap();
        let scale = (1.0_f32 / 127.0).to_le_bytes();
        let expected = [b"BV\x01\x02\0\0\0\x01\0\0\0", &scale[..], &[127, 0], &[2, 0], b"id"].concat();
        assert_eq!(vectors.to_bytes(), expected);
        assert_eq!(Vectors::from_bytes(&expected).unwrap(), vectors);
        let later = [b"BV\x02", &expected[3..]].concat();
        assert!(matches!(Vectors::from_bytes(&later), Err(Error::Version { version: 2 })));
    }

    #[test]
    fn vectors_are_read_as_they_were_written_and_never_in_part() {
        let vectors = vectors();
        let bytes = vectors.to_bytes();
        assert_eq!(bytes.len(), vectors.bytes_len());
        assert_eq!(Vectors::from_bytes(&bytes).unwrap(), vectors);
        for cut in 0..bytes.len() {
            assert!(Vectors::from_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Vectors::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error_or_vectors_that_can_be_searched(
            at in 0usize..64, byte: u8, other_at in 0usize..64, other: u8,
        ) {
            let mut bytes = vectors().to_bytes();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes[other_at % len] = other;
            if let Ok(vectors) = Vectors::from_bytes(&bytes) {
                let query = vec![1.0; vectors.dimension()];
                prop_assert_eq!(vectors.nearest(&query, 9).unwrap().len(), vectors.len().min(9));
            }
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Vectors::from_bytes(&bytes);
            let _ = Vectors::from_bytes(&[b"BV\x01", &bytes[..]].concat());
        }
    }
}
