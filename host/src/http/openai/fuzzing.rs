//! Bodies of requests to models, for the targets in `fuzz/`.

use super::embeddings;
use super::endpoint::parse;
use super::rerank;
use crate::inference::Inputs;

/// Parses a request for embeddings; returns the number of its inputs.
pub(crate) fn embeddings(body: &[u8]) -> Result<usize, String> {
    match parse::<embeddings::Parameters>(body).map_err(|error| error.message)?.input.0 {
        Inputs::Texts(texts) => Ok(texts.len()),
        Inputs::Tokens(rows) => Ok(rows.len()),
    }
}

/// Parses a request to rerank; returns the number of its documents.
pub(crate) fn rerank(body: &[u8]) -> Result<usize, String> {
    parse::<rerank::Parameters>(body).map(|parsed| parsed.documents.len()).map_err(|error| error.message)
}
