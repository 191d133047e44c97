//! Outcome of a call on the terminal: the result to stdout, the receipt to stderr or into the document.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::metadata::FunctionInfo;
use crate::call::{FailureCode, Receipt};
use crate::cli::exit::Exit;
use crate::cli::{input, output, receipt_text};
use crate::dispatch::Finished;
use crate::ids::CallId;

/// Output of `--json`. The result is raw JSON text: numbers keep their digits.
#[derive(Serialize)]
struct Envelope<'a> {
    result: Cow<'a, RawValue>,
    call: CallId,
    receipt: &'a Receipt,
}

/// Prints the result of a call, or returns its failure.
pub(super) fn print(
    finished: &Finished,
    function: &FunctionInfo,
    wants_receipt: bool,
    is_json: bool,
) -> Result<(), Exit> {
    let receipt = &finished.receipt;
    match &finished.result {
        Ok(payload) if is_json => {
            let envelope = Envelope { result: output::json(payload)?, call: finished.id, receipt };
            output::line(&serde_json::to_string(&envelope).expect("string keys only"));
        }
        Ok(payload) => {
            output::result(payload);
            if wants_receipt {
                output::note(&receipt_text::table_of(receipt));
            }
        }
        Err(failure) => {
            if wants_receipt && !is_json {
                output::note(&receipt_text::table_of(receipt));
            }
            let is_input = failure.code == FailureCode::InvalidInput;
            let beside = serde_json::to_value(receipt).ok().map(|receipt| Box::new(("receipt", receipt)));
            let exit = Exit { is_json, beside, ..failure.clone().into() };
            return Err(if is_input { exit.hint(input::schema_hint(function)) } else { exit });
        }
    }
    Ok(())
}
