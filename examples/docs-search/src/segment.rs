//! A part of an index: passages with their vectors.

use bireme_sdk::prelude::*;
use bireme_sdk::vectors::Vectors;

use crate::passage::Passage;

/// The most passages of one segment; its JSON stays well under the 8 MiB of an input.
pub const SEGMENT_LEN_MAX: usize = 512;

/// A passage and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Located {
    pub url: String,
    pub title: String,
    pub passage: Passage,
}

/// A part of an index that is being built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// The index that it belongs to.
    pub generation: String,
    /// Its position in that index, from 0.
    pub number: u32,
    pub passages: Vec<Located>,
    /// One for each passage.
    pub vectors: Vec<Vector>,
}

/// Packs vectors of one dimension, in the order of their passages.
pub fn pack(vectors: &[Vector]) -> Result<Vec<u8>> {
    let Some(dimension) = vectors.first().map(|vector| vector.len()).filter(|dimension| *dimension > 0) else {
        return Err(Failure::terminal("a segment needs vectors"));
    };
    let mut packed = Vectors::new(dimension);
    for vector in vectors {
        // Its place says which passage it is of.
        packed.push("", vector)?;
    }
    Ok(packed.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_packed_in_a_quarter_of_their_bytes_and_only_with_their_like() {
        let vectors: Vec<Vector> = (0..100_u8).map(|at| vec![f32::from(at) + 1.0; 384].into()).collect();
        let bytes = pack(&vectors).expect("the vectors fit").len();
        assert!(bytes < 100 * 400, "{bytes}");
        assert!(pack(&[vec![1.0].into(), vec![1.0, 2.0].into()]).expect_err("two dimensions").is_terminal());
        assert!(pack(&[]).is_err() && pack(&[vec![].into()]).is_err());
    }
}
