//! Lookup of an app's function by name, with a suggestion for a misspelt one.

use super::exit::Exit;
use crate::app::metadata::{FunctionInfo, Metadata};
use crate::codes::Code;
use crate::suggest::did_you_mean;

/// Finds a function that can be called by name; `base` is the URL of the host that it runs on, if any.
pub(crate) fn find<'a>(metadata: &'a Metadata, name: &str, base: Option<&str>) -> Result<&'a FunctionInfo, Exit> {
    let function = metadata.function(name).ok_or_else(|| unknown(metadata, name))?;
    let Some(route) = &function.attributes.route else {
        return Ok(function);
    };
    let message =
        format!("`{name}` is a web function: it answers `{route}` over HTTP and has neither input nor result");
    let curl = route.curl(base.unwrap_or("http://127.0.0.1:8080"), &metadata.app.name);
    let first = if base.is_none() { "serve the app with `bireme serve APP`, then" } else { "ask for it with" };
    Err(Exit::new(Code::WebFunction, message).hint(format!("{first} `{curl}`")))
}

fn unknown(metadata: &Metadata, name: &str) -> Exit {
    let names: Vec<&str> = metadata.functions.iter().map(|function| function.name.as_str()).collect();
    unknown_function(metadata.app.name.as_str(), name, &names)
}

/// Error of a name that no function of an app has.
pub(crate) fn unknown_function(app: &str, name: &str, functions: &[&str]) -> Exit {
    let near = did_you_mean(name, functions.iter().copied()).map(|near| format!("; {near}")).unwrap_or_default();
    let exit = Exit::new(Code::UnknownFunction, format!("`{app}` has no function `{name}`{near}"));
    exit.hint(format!("it has {}", functions.join(", ")))
}
