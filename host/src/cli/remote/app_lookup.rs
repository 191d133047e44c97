//! App of a host by its name, whatever its state, with a suggestion for a misspelt one.

use super::client::{Answer, Client};
use crate::api::{App, AppList};
use crate::cli::exit::Exit;
use crate::codes::Code;
use crate::suggest::did_you_mean;

/// Finds an app that is live, stopped or failed.
pub(crate) fn find(client: &Client, name: &str) -> Result<App, Exit> {
    let list: Answer<AppList> = client.send("GET", "/api/v1/apps", &[])?;
    let mut apps = list.document.apps;
    if let Some(place) = apps.iter().position(|app| app.name.as_str() == name) {
        return Ok(apps.swap_remove(place));
    }
    let near = did_you_mean(name, apps.iter().map(|app| app.name.as_str()));
    let near = near.map(|near| format!("; {near}")).unwrap_or_default();
    let exit = Exit::new(Code::UnknownApp, format!("no app `{name}` is on {}{near}", client.base()));
    Err(exit.hint("`bireme apps` lists them"))
}
