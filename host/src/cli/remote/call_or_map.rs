//! Call or map that an id names: commands take both.

use super::client::{Answer, Client, Query};
use super::paths;
use crate::api::{self, CallOrMap};
use crate::cli::exit::Exit;
use crate::codes::Code;
use crate::ids::CallId;

pub(crate) fn is_terminal(entry: &CallOrMap) -> bool {
    match entry {
        CallOrMap::Call(call) => call.state.is_terminal(),
        CallOrMap::Map(map) => map.state.is_terminal(),
    }
}

/// Returns the whole id of the call or map that `id` names. The host looks for a prefix among calls or among maps; one
/// that both have is refused here, because it would name the call where the map is meant.
pub(crate) fn whole_id(client: &Client, id: &str) -> Result<String, Exit> {
    if id.parse::<CallId>().is_ok() {
        return Ok(id.to_owned());
    }
    let call = client.send::<api::Call>("GET", &paths::call(id)?, &[]).map(|call| call.document.id.to_string());
    let map = client.send::<api::Map>("GET", &paths::map(id, "")?, &[]).map(|map| map.document.id.to_string());
    match (call, map) {
        (Ok(call), Ok(map)) => {
            Err(Exit::usage(format!("call {call} and map {map} have an id that begins with `{id}`; give more of it")))
        }
        (Ok(found), Err(exit)) if exit.code == Code::UnknownMap => Ok(found),
        (Err(exit), Ok(found)) if exit.code == Code::UnknownCall => Ok(found),
        (Err(exit), Err(other)) if exit.code == Code::UnknownCall && other.code != Code::UnknownMap => Err(other),
        (Err(exit), _) | (_, Err(exit)) => Err(exit),
    }
}

/// Sends a request to the call of that id, else to the map.
pub(crate) fn send_to_either(
    client: &Client,
    method: &str,
    id: &str,
    query: Query<'_>,
) -> Result<Answer<CallOrMap>, Exit> {
    match client.send(method, &paths::call(id)?, query) {
        Err(exit) if exit.code == Code::UnknownCall => match client.send(method, &paths::map(id, "")?, query) {
            Err(map) if map.code == Code::UnknownMap => Err(exit),
            map => map.map(|map| map.map(|map| CallOrMap::Map(Box::new(map)))),
        },
        call => call.map(|call| call.map(|call| CallOrMap::Call(Box::new(call)))),
    }
}
