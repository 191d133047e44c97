//! The input of a request to a model, the output that it expects, and the answer.

use crate::call::InferenceReceipt;
use crate::inference::error::InferenceError;
use crate::wire::{Signature, Tensor};

/// The output of a request.
#[derive(Debug)]
pub(crate) enum Output {
    Rows { width: u32, values: Vec<f32> },
    Tensors(Vec<Tensor>),
}

pub(crate) type Answer = Result<(Output, InferenceReceipt), InferenceError>;

/// The input of a request.
#[derive(Debug)]
pub(crate) enum Work {
    /// Rows of token ids; `first_segments` is empty, or for each row the tokens of its first segment.
    Rows {
        ids: Vec<u32>,
        cu_seqlens: Vec<u32>,
        first_segments: Vec<u32>,
    },
    Tensors(Vec<Tensor>),
    /// None: the model is only loaded.
    Load,
}

/// The kind of output that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputKind {
    Vectors,
    Scores,
    Tensors,
    Anything,
}

impl Work {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Rows { cu_seqlens, .. } => cu_seqlens.len() - 1,
            Self::Tensors(_) | Self::Load => 1,
        }
    }

    /// Returns the tokens of each row, their sum, and the bytes that the host holds until the answer, the answer
    /// included.
    pub(super) fn measure(&self, signature: Option<&Signature>) -> (Vec<u32>, u64, usize) {
        match self {
            Self::Rows { ids, cu_seqlens, .. } => {
                let lengths: Vec<u32> = cu_seqlens.windows(2).map(|pair| pair[1] - pair[0]).collect();
                let width = signature.and_then(Signature::width).unwrap_or(0) as usize;
                let bytes = (ids.len() + cu_seqlens.len() + lengths.len() * width) * 4;
                (lengths, ids.len() as u64, bytes)
            }
            Self::Tensors(tensors) => {
                let bytes: usize = tensors.iter().map(Tensor::bytes).sum();
                // Four bytes count as a token.
                let tokens = u32::try_from(bytes.div_ceil(4).max(1)).unwrap_or(u32::MAX);
                (vec![tokens], 0, bytes)
            }
            Self::Load => (vec![1], 0, 0),
        }
    }
}
