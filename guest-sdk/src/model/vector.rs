//! Embeddings, the results of embedding models.

use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One embedding; a list of numbers in JSON, a slice in code.
///
/// ```
/// use bireme_sdk::Vector;
///
/// let vector = Vector::from(vec![0.6, 0.8]);
/// assert_eq!(vector.len(), 2);
/// assert!((vector.dot(&vector) - 1.0).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Vector(Vec<f32>);

impl Vector {
    /// Returns the dot product: for vectors of unit length, the cosine of their angle.
    ///
    /// # Panics
    /// When the lengths differ: the vectors are of different models.
    pub fn dot(&self, other: &[f32]) -> f32 {
        assert_eq!(self.len(), other.len(), "vectors of different models have no dot product");
        self.iter().zip(other).map(|(a, b)| a * b).sum()
    }

    /// Returns the values.
    pub fn into_inner(self) -> Vec<f32> {
        self.0
    }
}

impl Deref for Vector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl AsRef<[f32]> for Vector {
    fn as_ref(&self) -> &[f32] {
        &self.0
    }
}

impl From<Vec<f32>> for Vector {
    fn from(values: Vec<f32>) -> Self {
        Self(values)
    }
}

/// Embeddings of several texts, one after another.
///
/// ```
/// use bireme_sdk::Embeddings;
///
/// let embeddings = Embeddings { dimension: 2, values: vec![1.0, 2.0, 3.0, 4.0] };
/// assert_eq!(embeddings.len(), 2);
/// assert_eq!(embeddings.get(1), Some([3.0, 4.0].as_slice()));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// Length of each vector.
    pub dimension: usize,
    /// Vector `i` starts at `i * dimension`.
    pub values: Vec<f32>,
}

impl Embeddings {
    /// Returns the number of vectors.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.dimension).unwrap_or(0)
    }

    /// Returns true if there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the vector at `index`.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        self.iter().nth(index)
    }

    /// Returns the vectors in the order of their texts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension.max(1))
    }
}
