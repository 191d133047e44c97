//! The error of an op whose operands do not fit together.

/// Operands that do not fit together: a bug in the caller, or a model file that lies about itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    #[error("`{operand}` holds {actual} values, expected {expected}")]
    Length { operand: &'static str, actual: usize, expected: usize },

    #[error("`{size}` is 0, expected at least 1")]
    Zero { size: &'static str },

    #[error("a hidden size of {hidden} does not divide into {heads} heads")]
    Heads { hidden: usize, heads: usize },

    #[error("{heads} heads of queries do not divide among {kv_heads} of keys and values")]
    KvHeads { heads: usize, kv_heads: usize },

    #[error("token {index} has position {position}, over the last of {positions} positions")]
    Position { index: usize, position: u32, positions: usize },

    #[error("token {index} has id {id}, over the last id of a vocabulary of {vocabulary}")]
    Id { index: usize, id: u32, vocabulary: usize },

    #[error("`cu_seqlens` starts with {actual:?}, expected 0")]
    Start { actual: Option<u32> },

    #[error("sequence {index} runs from {start} to {end}, expected at least one token")]
    Sequence { index: usize, start: u32, end: u32 },

    #[error("sequence {index} has {first} of its {length} tokens in its first segment")]
    Segment { index: usize, first: u32, length: usize },

    #[error("sequence {index} has a second segment, and the model knows of one only")]
    Segments { index: usize },

    #[error("sequence {index} has {length} tokens, over the limit of {length_max}")]
    TooLong { index: usize, length: usize, length_max: usize },
}

impl ShapeError {
    /// Refuses `actual` values where an op needs `expected`.
    pub(crate) fn check_len(operand: &'static str, actual: usize, expected: usize) -> Result<(), Self> {
        if actual == expected { Ok(()) } else { Err(Self::Length { operand, actual, expected }) }
    }

    /// Refuses a size of zero.
    pub(crate) fn check_size(size: &'static str, value: usize) -> Result<(), Self> {
        if value > 0 { Ok(()) } else { Err(Self::Zero { size }) }
    }
}
