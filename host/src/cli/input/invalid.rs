//! Invalid input of a call: errors with the function's parameters as the hint.

use serde_json::Value;

use crate::app::metadata::FunctionInfo;
use crate::cli::exit::Exit;
use crate::cli::schema_text;
use crate::codes::Code;

/// Returns an `invalid-input` error.
pub(crate) fn error(function: &FunctionInfo, message: impl Into<String>) -> Exit {
    Exit::new(Code::InvalidInput, message).hint(schema_hint(function))
}

/// Returns the function's input schema in one line.
pub(crate) fn schema_hint(function: &FunctionInfo) -> String {
    format!("`{}` takes {}", function.name, schema_text::of_input(function))
}

/// Parses JSON text.
pub(crate) fn parse_json(function: &FunctionInfo, text: &str) -> Result<Value, Exit> {
    serde_json::from_str(text).map_err(|source| {
        let exit = error(function, format!("the input is not JSON: {source}"));
        // Most often: a bare word where JSON needs a quoted string.
        if text.starts_with(['{', '[', '"']) { exit } else { exit.hint(format!("a string is written '\"{text}\"'")) }
    })
}
