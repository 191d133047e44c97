//! Calls of other functions of this app, through the host.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::misfit;
use crate::failure::{Failure, Result};
use crate::host;
use crate::payload::{JSON, Output, Payload};

/// Calls a function of this app whose name is known only at run time, and waits for its result.
///
/// The input is what any caller sends: an object keyed by parameter, or the bare value of the only one. Where the name
/// is known, `name::call(…)` checks the types.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn shout(text: String) -> String {
///     text.to_uppercase()
/// }
///
/// fn main() -> Result<()> {
///     let loud: String = bireme_sdk::call_by_name("shout", "ahoy")?;
///     assert_eq!(loud, "AHOY");
///     assert!(bireme_sdk::call_by_name::<_, String>("shuot", "ahoy").is_err());
///     Ok(())
/// }
/// ```
///
/// # Errors
/// The called function's failure, or the host's.
pub fn call_by_name<I: Serialize + ?Sized, T: DeserializeOwned>(function: &str, input: &I) -> Result<T> {
    let input = Payload { content_type: JSON.to_owned(), data: serde_json::to_vec(input)? };
    decode(function, &host::call(function, &input)?)
}

/// Calls `function` and waits; expansion of the macro's `call`.
///
/// # Errors
/// The called function's failure, or the host's.
pub fn call<T: Output>(function: &str, input: &Payload) -> Result<T> {
    T::read(function, host::call(function, input)?)
}

/// Decodes the output of a call.
pub(crate) fn decode<T: DeserializeOwned>(function: &str, output: &Payload) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(&output.data);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| misfit(&error, function))
}

/// Not generic, so that it is compiled once for all types.
fn misfit(error: &serde_path_to_error::Error<serde_json::Error>, function: &str) -> Failure {
    Failure::terminal(format!("the result of `{function}` does not fit its own type"))
        .because(misfit::message("$", error))
}
