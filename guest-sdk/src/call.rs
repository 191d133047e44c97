//! One call of another function of this app, through the host.

use serde::de::DeserializeOwned;

use crate::entry::JSON;
use crate::failure::{Failure, Result};
use crate::host::{self, Payload};

/// Calls `function` and waits. What the macro's `call` comes down to.
///
/// # Errors
/// The called function's failure, or the host's.
pub fn call<T: DeserializeOwned>(function: &str, input: Vec<u8>) -> Result<T> {
    let output = host::call(
        function,
        &Payload {
            content_type: JSON.to_owned(),
            data: input,
        },
    )?;
    decode(function, &output)
}

/// Reads the output of a call.
pub(crate) fn decode<T: DeserializeOwned>(function: &str, output: &Payload) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(&output.data);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        Failure::terminal(format!(
            "the result of `{function}` does not fit its own type, at `{}`",
            error.path()
        ))
        .because(error.inner())
    })
}
