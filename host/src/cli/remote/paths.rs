//! Paths of the control API, with checked names and ids.

use crate::cli::exit::Exit;
use crate::ids::AppName;

/// Returns the path of an app, followed by `rest`.
pub(crate) fn app(name: &str, rest: &str) -> Result<String, Exit> {
    let name = AppName::new(name).map_err(|error| Exit::usage(error.to_string()))?;
    Ok(format!("/api/v1/apps/{name}{rest}"))
}

/// Returns the path of a map, followed by `rest`.
pub(crate) fn map(id: &str, rest: &str) -> Result<String, Exit> {
    if is_id(id) {
        Ok(format!("/api/v1/maps/{id}{rest}"))
    } else {
        Err(Exit::usage(format!("`{id}` is no id of a map")).hint("`bireme ps --kind map` lists the maps"))
    }
}

/// Returns the path of a durable call.
pub(crate) fn call(id: &str) -> Result<String, Exit> {
    if is_id(id) {
        Ok(format!("/api/v1/calls/{id}"))
    } else {
        Err(Exit::usage(format!("`{id}` is no id")).hint("`bireme ps` lists calls and maps with their ids"))
    }
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}
