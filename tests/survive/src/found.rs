//! State of the host in the end, read over its API.

use std::collections::BTreeMap;

use bireme::ids::{CallId, MapId};
use serde_json::Value;

use super::api::Api;
use super::function::Outcome;
use super::recorder::Executions;

/// Rows of one page of the list.
const PAGE: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub calls: BTreeMap<CallId, FoundCall>,
    pub maps: BTreeMap<MapId, FoundMap>,
    /// Entries of the list, by their ids.
    pub listed: BTreeMap<String, Value>,
    pub executions: Executions,
    /// Number of calls under way, which should be 0.
    pub live: u64,
    pub waiting: u64,
    pub open_maps: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct FoundCall {
    pub outcome: Outcome,
    pub attempts: u64,
    /// The document without its output, as the list has it.
    pub document: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct FoundMap {
    pub state: String,
    pub document: Value,
    /// Index, outcome and attempt of each line, in either order.
    pub by_input: Vec<(u64, Outcome, u64)>,
    pub by_completion: Vec<(u64, Outcome, u64)>,
}

impl FoundMap {
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.document["counts"][name].as_u64().unwrap_or(u64::MAX)
    }
}

/// Reads all of it: what the client knows of by its id, and what the list has besides.
pub(crate) fn read(api: &Api, calls: &[CallId], maps: &[MapId], executions: Executions) -> Found {
    let mut found = Found { executions, ..Found::default() };
    for id in calls {
        let reply = api.insist("GET", &format!("/calls/{id}"), None, "");
        let mut document = reply.json();
        let outcome = Outcome::read(&document);
        let attempts = document["attempts"].as_u64().unwrap_or(u64::MAX);
        if let Some(document) = document.as_object_mut() {
            document.remove("output");
        }
        if reply.status == 200 {
            found.calls.insert(*id, FoundCall { outcome, attempts, document });
        }
    }
    for id in maps {
        let reply = api.insist("GET", &format!("/maps/{id}"), None, "");
        if reply.status != 200 {
            continue;
        }
        let document = reply.json();
        let results = |order| {
            let reply = api.insist("GET", &format!("/maps/{id}/results?order={order}"), None, "");
            let lines = reply.lines();
            let results = lines.iter().filter(|line| line["index"].is_u64());
            let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
            results.map(|line| (number(&line["index"]), Outcome::read(line), number(&line["attempt"]))).collect()
        };
        let state = document["state"].as_str().unwrap_or_default().to_owned();
        let (by_input, by_completion) = (results("input"), results("completion"));
        found.maps.insert(*id, FoundMap { state, document, by_input, by_completion });
    }
    let mut before = String::new();
    loop {
        let page = api.insist("GET", &format!("/calls?limit={PAGE}{before}"), None, "").json();
        for row in page["calls"].as_array().into_iter().flatten() {
            found.listed.insert(row["id"].as_str().unwrap_or_default().to_owned(), row.clone());
        }
        (found.live, found.waiting, found.open_maps) = under_way(&page);
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return found,
        }
    }
}

/// Returns what a list says of how many calls run, how many wait, and how many maps have not ended.
pub(crate) fn under_way(list: &Value) -> (u64, u64, u64) {
    let number = |name: &str| list[name].as_u64().unwrap_or(u64::MAX);
    let live = list["live"].as_array().map_or(u64::MAX, |live| live.len() as u64);
    (live, number("waiting"), number("maps"))
}
