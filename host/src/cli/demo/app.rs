//! The example app that the demo runs, and its model.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::call::{Payload, Principal};
use crate::cli::exit::Exit;
use crate::dispatch::{Call, Finished, find_function};
use crate::sandbox::Program;
use crate::server::Host;

/// Crate of the app.
pub(crate) const APP: &str = "examples/docs-search";
/// Name of the app.
pub(crate) const NAME: &str = "docs-search";
/// Model that the app declares.
pub(crate) const MODEL: &str = "all-minilm-l6-v2";

/// Returns the crate in the current directory, else in the source tree of this binary.
pub(crate) fn dir() -> String {
    if Path::new(APP).join("Cargo.toml").is_file() {
        return APP.to_owned();
    }
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/docs-search").to_owned()
}

/// Calls one function of the app.
pub(crate) async fn call(
    host: &Host,
    program: &Arc<Program>,
    function: &str,
    input: &impl Serialize,
) -> Result<Finished, Exit> {
    let function = find_function(program, function)?;
    let input = Payload::json(serde_json::to_vec(input).expect("inputs have string keys only"));
    Ok(host.dispatcher.call(Call::new(function, input, Principal::Operator)).await)
}
