//! Task a request asks a model to run over, what comes of it, and its way into a frame.

use super::PoolState;
use crate::call::InferenceReceipt;
use crate::inference::InferenceError;
use crate::inference::batcher::Batch;
use crate::wire::{self, Frame, Signature, Tensor};

/// Task came of a request.
#[derive(Debug)]
pub(in crate::inference) enum Output {
    Rows { width: u32, values: Vec<f32> },
    Tensors(Vec<Tensor>),
}

pub(in crate::inference) type Answer = Result<(Output, InferenceReceipt), InferenceError>;

/// Task a request asks a model to run over.
#[derive(Debug)]
pub(in crate::inference) enum Work {
    /// Rows of token ids; `first_segments` is empty, or for each row the tokens of its first segment.
    Rows {
        ids: Vec<u32>,
        cu_seqlens: Vec<u32>,
        first_segments: Vec<u32>,
    },
    Tensors(Vec<Tensor>),
    /// That it is loaded, and nothing more.
    Load,
}

/// Task a request needs the model to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inference) enum OutputKind {
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

    /// Returns the tokens of each row, of all, and the bytes that the host holds until the answer, with room for that.
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
                // Four bytes weigh as a token does.
                let tokens = u32::try_from(bytes.div_ceil(4).max(1)).unwrap_or(u32::MAX);
                (vec![tokens], 0, bytes)
            }
            Self::Load => (vec![1], 0, 0),
        }
    }
}

impl<W> PoolState<W> {
    /// Encodes a batch that was just taken. Returns the checksum that its answer must have.
    pub(super) fn encode_batch(&self, batch: &Batch, job: u64, frame: &mut Vec<u8>) -> u32 {
        let works = || {
            batch.sub_requests.iter().map(|sub_request| {
                (
                    sub_request,
                    &self.request(sub_request.request).expect("a batch that was just taken holds live requests").work,
                )
            })
        };
        if matches!(works().next(), Some((_, Work::Tensors(_)))) {
            let items = works().map(|(_, work)| match work {
                Work::Tensors(tensors) => tensors.clone(),
                Work::Rows { .. } | Work::Load => unreachable!("a model takes one kind of work"),
            });
            Frame::Infer { model: batch.model, items: items.collect() }.encode(job, frame);
            return 0;
        }
        let has_pairs =
            works().any(|(_, work)| matches!(work, Work::Rows { first_segments, .. } if !first_segments.is_empty()));
        let mut ids = Vec::with_capacity(batch.tokens);
        let mut cu_seqlens = Vec::with_capacity(batch.rows + 1);
        let mut segments = Vec::new();
        cu_seqlens.push(0);
        for (sub_request, work) in works() {
            let Work::Rows { ids: all, cu_seqlens: ends, first_segments } = work else {
                unreachable!("a model takes one kind of work")
            };
            let ends = &ends[sub_request.rows.start..=sub_request.rows.end];
            let base = ids.len() as u32;
            cu_seqlens.extend(ends[1..].iter().map(|end| base + (end - ends[0])));
            ids.extend_from_slice(&all[ends[0] as usize..ends[ends.len() - 1] as usize]);
            if has_pairs {
                // A row without a second segment is all first.
                match first_segments.as_slice() {
                    [] => segments.extend(ends.windows(2).map(|pair| pair[1] - pair[0])),
                    segments_of => segments.extend_from_slice(&segments_of[sub_request.rows.clone()]),
                }
            }
        }
        let checksum = wire::checksum(&cu_seqlens, &ids);
        Frame::Batch { model: batch.model, cu_seqlens, first_segments: segments, ids }.encode(job, frame);
        checksum
    }
}
