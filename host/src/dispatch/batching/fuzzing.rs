//! Groups of inputs and a guest's answers to them, for the targets in `fuzz/`.

use super::wire;
use crate::call::{CallResult, Failure, Payload};

/// Joins inputs that are JSON.
pub fn group(inputs: &[Payload]) -> Result<Payload, Failure> {
    inputs.iter().try_for_each(|input| wire::check("f", input))?;
    Ok(wire::group(inputs.iter()))
}

/// Takes a guest's answer to a group of `len` apart.
pub fn answers(answer: &[u8], len: usize, output_bytes_max: u64) -> Result<Vec<CallResult>, Failure> {
    let answer = Payload { content_type: wire::GROUP.to_owned(), data: answer.to_vec().into() };
    wire::answers("f", &answer, len, output_bytes_max)
}
