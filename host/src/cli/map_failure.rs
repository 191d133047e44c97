//! Failed input of a map as a line of JSON, of a map here and of one on a host.

use serde::Serialize;

use crate::call::Failure;

/// Line of an input whose index stands beside the error.
#[derive(Serialize)]
struct Envelope<'a> {
    index: u64,
    error: &'a Failure,
}

/// Line of an input whose index stands in the error, among results that have none.
#[derive(Serialize)]
struct Bare<'a> {
    error: IndexedFailure<'a>,
}

#[derive(Serialize)]
struct IndexedFailure<'a> {
    index: u64,
    #[serde(flatten)]
    failure: &'a Failure,
}

/// Returns the line of a failed input, without its line end.
pub(crate) fn failure_line(index: u64, failure: &Failure, is_envelope: bool) -> String {
    let line = match is_envelope {
        true => serde_json::to_string(&Envelope { index, error: failure }),
        false => serde_json::to_string(&Bare { error: IndexedFailure { index, failure } }),
    };
    line.expect("string keys only")
}
