//! Requests turned into the token ids of a model.

use super::error::InferenceError;
use super::request::Inputs;
use super::worker_pool::Work;
use crate::tokenizer::{Overflow, Tokenizer, TokenizerError};

/// A model's way from inputs to token ids.
pub(super) enum Encoding {
    Tokens(Box<Tokenizer>),
    /// One token for four bytes: the no-op model has no vocabulary.
    Length,
    /// None: the model takes named tensors.
    None,
}

impl Encoding {
    /// Returns the token ids of all inputs and where each begins.
    pub(crate) fn encode_all(
        &self,
        inputs: &Inputs,
        overflow: Overflow,
    ) -> Result<(Vec<u32>, Vec<u32>), InferenceError> {
        let mut ids = Vec::new();
        let mut cu_seqlens = Vec::with_capacity(inputs.len() + 1);
        cu_seqlens.push(0);
        for i in 0..inputs.len() {
            let row = match (self, inputs) {
                (Encoding::Tokens(tokenizer), Inputs::Texts(texts)) => tokenizer.encode(&texts[i], overflow),
                (Encoding::Tokens(tokenizer), Inputs::Tokens(texts)) => tokenizer.encode_tokens(&texts[i], overflow),
                (Encoding::Length, Inputs::Texts(texts)) => Ok(vec![1; texts[i].len() / 4 + 1]),
                (Encoding::Length, Inputs::Tokens(texts)) if texts[i].is_empty() => Ok(vec![1]),
                (Encoding::Length, Inputs::Tokens(texts)) => Ok(texts[i].clone()),
                (Encoding::None, _) => {
                    let reason = "the model takes named tensors, not texts; use `infer`".to_owned();
                    return Err(InferenceError::BadInput { reason });
                }
            };
            let row = row.map_err(|error| misfit(format!("text {i}"), error))?;
            append(&mut ids, &mut cu_seqlens, row)?;
        }
        Ok((ids, cu_seqlens))
    }

    /// Returns each document behind the question, as one row.
    pub(crate) fn encode_pairs(
        &self,
        query: &str,
        documents: &[String],
        overflow: Overflow,
    ) -> Result<Work, InferenceError> {
        let Encoding::Tokens(tokenizer) = self else {
            return Err(InferenceError::BadInput { reason: "the model has no tokenizer".to_owned() });
        };
        let question = tokenizer.question(query).map_err(|error| misfit("the query".to_owned(), error))?;
        let (mut ids, mut cu_seqlens) = (Vec::new(), vec![0]);
        let mut first_segments = Vec::with_capacity(documents.len());
        for (i, document) in documents.iter().enumerate() {
            let encoded = question.encode(document, overflow);
            let (row, first) = encoded.map_err(|error| misfit(format!("document {i}"), error))?;
            append(&mut ids, &mut cu_seqlens, row)?;
            first_segments.push(first);
        }
        Ok(Work::Rows { ids, cu_seqlens, first_segments })
    }
}

/// Names the input in an error of the tokenizer.
fn misfit(input: String, error: TokenizerError) -> InferenceError {
    match error {
        TokenizerError::TooLong { tokens, max_tokens } => InferenceError::TooLong { input, tokens, max_tokens },
        error => InferenceError::BadInput { reason: format!("{input}: {error}") },
    }
}

/// Adds one more row.
fn append(ids: &mut Vec<u32>, cu_seqlens: &mut Vec<u32>, row: Vec<u32>) -> Result<(), InferenceError> {
    ids.extend(row);
    let end = u32::try_from(ids.len()).map_err(|_| InferenceError::BadInput { reason: "too many tokens".into() })?;
    cu_seqlens.push(end);
    Ok(())
}
