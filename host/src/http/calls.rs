//! `/api/v1/calls` and `/api/v1/apps/{app}/functions/{function}/calls`: durable calls.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::body::RequestBodies;
use super::control::{bad_query, pairs};
use super::durable::{self, call, key, map, priority, wait};
use super::problem::Problem;
use super::routes::{Answer, json_body, media_type, payload, receipt_header};
use crate::call::Payload;
use crate::codes::Code;
use crate::dispatch::{Dispatcher, Durable, FunctionRef, LiveCall, Options};
use crate::ids::{AppName, CallId, FunctionName};
use crate::journal::{CallRecord, Kind, ListEntry, MapState, Query, State};

/// Rows of a list, unless the client asks for another number.
const LIST_LEN: usize = 50;
const LIST_LEN_MAX: usize = 1_000;
/// Rows that are looked at for a list of which most are filtered out.
const SCAN_LEN_MAX: usize = 10_000;

/// Spawns a call.
pub async fn spawn(
    durable: &Arc<Durable>,
    bodies: &RequestBodies,
    closing: &watch::Receiver<bool>,
    function: FunctionRef,
    request: Request<Incoming>,
) -> Answer {
    let mut options = Options { key: key(request.headers())?, ..Options::default() };
    let mut waits = None;
    for (name, value) in pairs(request.uri().query().unwrap_or_default(), &["priority", "wait"])? {
        match name.as_str() {
            "priority" => options.priority = priority(&value)?,
            _ => waits = Some(value),
        }
    }
    let waits = wait(request.headers(), waits.as_deref())?;
    let content_type = media_type(request.headers(), function.takes_bytes)?;
    let body = bodies.read(request, function.limits.input_bytes_max, "the function's input limit").await?;
    let input = Payload { content_type, data: body.bytes.clone() };
    let this = durable.clone();
    // In a task of its own: a client that goes away leaves either a call or none.
    let mut record = crate::tasks::to_the_end(async move { this.spawn(&function, input, options).await }).await?;
    drop(body);
    if let Some(waits) = waits {
        // A host that ends answers as if the time were over: the call is accepted, and the next host goes on with it.
        if let Some(waited) = unless_closing(closing, durable.get(record.id, waits)).await {
            record = waited?;
        }
    }
    let mut response = json_body(&document(durable, &record).await?);
    *response.status_mut() = if record.state.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(&format!("/api/v1/calls/{}", record.id));
    headers.insert(header::LOCATION, location.expect("an id is ASCII"));
    if waits.is_some() {
        headers.insert("preference-applied", HeaderValue::from_static("wait"));
    }
    Ok(response)
}

/// A call with its output, where it has one.
async fn document(durable: &Durable, record: &CallRecord) -> Result<Value, Problem> {
    let mut value = call(record);
    if record.state == State::Done
        && let Some(output) = durable.output(record.id).await?
    {
        value["output"] = durable::output_value(&output);
    }
    Ok(value)
}

/// Answers below `/calls/{id}`.
pub async fn one(
    durable: &Arc<Durable>,
    closing: &watch::Receiver<bool>,
    id: &str,
    rest: &[&str],
    request: &Request<Incoming>,
) -> Answer {
    let id: CallId = id.parse().map_err(|error| bad_query(format!("{error}")))?;
    let method = request.method();
    match (rest, method) {
        ([], &Method::GET | &Method::HEAD) => {
            let record = awaited(durable, closing, id, request).await?;
            Ok(json_body(&document(durable, &record).await?))
        }
        ([], &Method::DELETE) => {
            let durable = durable.clone();
            // To the end: one that breaks off between the disk and the memory would leave them apart.
            let record = crate::tasks::to_the_end(async move { durable.cancel(id).await }).await?;
            Ok(json_body(&call(&record)))
        }
        ([], _) => Err(Problem::method("GET, HEAD, DELETE")),
        (["result"], &Method::GET | &Method::HEAD) => {
            let record = awaited(durable, closing, id, request).await?;
            if let Some(failure) = record.failure {
                return Err(failure.into());
            }
            match durable.output(id).await?.filter(|_| record.state == State::Done) {
                Some(output) => {
                    let mut response = payload(output);
                    response.headers_mut().insert("bireme-receipt", receipt_header(&record.receipt));
                    Ok(response)
                }
                None => {
                    let mut response = json_body(&call(&record));
                    *response.status_mut() = StatusCode::ACCEPTED;
                    Ok(response)
                }
            }
        }
        (["result"], _) => Err(Problem::method("GET, HEAD")),
        (["input"], &Method::GET | &Method::HEAD) => {
            durable.get(id, Duration::ZERO).await?;
            let input = durable.input(id).await?;
            let input = input.ok_or_else(|| Problem::not_found("the input of this call is gone"))?;
            Ok(payload(input))
        }
        _ => Err(Problem::not_found("a call has its result and its input below it")),
    }
}

async fn awaited(
    durable: &Durable,
    closing: &watch::Receiver<bool>,
    id: CallId,
    request: &Request<Incoming>,
) -> Result<CallRecord, Problem> {
    let query = pairs(request.uri().query().unwrap_or_default(), &["wait"])?.pop().map(|(_, value)| value);
    let Some(waits) = wait(request.headers(), query.as_deref())?.filter(|waits| !waits.is_zero()) else {
        return Ok(durable.get(id, Duration::ZERO).await?);
    };
    match unless_closing(closing, durable.get(id, waits)).await {
        Some(record) => Ok(record?),
        None => {
            let detail = format!("the host is shutting down; the next one goes on with call `{id}`");
            Err(Problem::new(Code::Unavailable, detail))
        }
    }
}

/// Waits for `work`, unless the host ends.
async fn unless_closing<T>(closing: &watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let mut closing = closing.clone();
    tokio::select! {
        biased;
        done = work => Some(done),
        _ = closing.wait_for(|closing| *closing) => None,
    }
}

/// What a list of calls is asked for.
#[derive(Default)]
struct ListQuery {
    query: Query,
    state: Option<String>,
    kind: Option<Kind>,
    limit: usize,
}

impl ListQuery {
    fn read(text: &str) -> Result<Self, Problem> {
        let mut list = Self { limit: LIST_LEN, ..Self::default() };
        for (name, value) in pairs(text, &["app", "function", "state", "kind", "limit", "before"])? {
            let named = |error: crate::ids::NameError| bad_query(error.to_string());
            match name.as_str() {
                "app" => list.query.app = Some(AppName::new(&value).map_err(named)?),
                "function" => {
                    let (app, function) = match value.split_once("::") {
                        Some((app, function)) => (Some(AppName::new(app).map_err(named)?), function),
                        None => (None, value.as_str()),
                    };
                    list.query.app = app.or(list.query.app);
                    list.query.function = Some(FunctionName::new(function).map_err(named)?);
                }
                "state" => {
                    let states = State::ALL.iter().map(|state| state.as_str());
                    let mut states: Vec<&str> =
                        states.chain(MapState::ALL.iter().map(|state| state.as_str())).collect();
                    states.push("live");
                    if !states.contains(&value.as_str()) {
                        return Err(bad_query(format!("`state` is one of {}, not `{value}`", states.join(", "))));
                    }
                    list.state = Some(value);
                }
                "kind" => {
                    list.kind = Some(match value.as_str() {
                        "call" => Kind::Call,
                        "map" => Kind::Map,
                        _ => return Err(bad_query(format!("`kind` is call or map, not `{value}`"))),
                    });
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIST_LEN_MAX).contains(limit));
                    list.limit =
                        limit.ok_or_else(|| bad_query(format!("`limit` is 1 to {LIST_LEN_MAX}, not `{value}`")))?;
                }
                _ => {
                    let id: CallId = value.parse().map_err(|error| bad_query(format!("{error}")))?;
                    list.query.before = Some(*id.as_bytes());
                }
            }
        }
        if list.query.function.is_some() && list.query.app.is_none() {
            return Err(bad_query("a `function` is named as APP::FUNCTION, or together with its `app`"));
        }
        Ok(list)
    }

    fn wants(&self, kind: Kind, state: &str, is_live: bool) -> bool {
        let is_kind = self.kind.is_none_or(|wanted| wanted == kind);
        is_kind && self.state.as_deref().is_none_or(|wanted| wanted == state || (wanted == "live" && is_live))
    }
}

/// Lists calls and maps: under `live` what runs at this moment, under `calls` what the journal keeps, newest first.
pub async fn list(durable: &Durable, dispatcher: &Dispatcher, query: &str) -> Answer {
    let mut list = ListQuery::read(query)?;
    let mut calls = Vec::new();
    let mut scanned = 0;
    let mut next = None;
    loop {
        list.query.limit = (list.limit - calls.len()).max(if list.state.is_some() { 256 } else { 1 });
        scanned += list.query.limit;
        let (listed, more) = durable.list(list.query.clone()).await?;
        for listed in listed {
            let (is_wanted, id) = match &listed {
                ListEntry::Call(record) => {
                    let state = record.state;
                    (list.wants(Kind::Call, state.as_str(), !state.is_terminal()), *record.id.as_bytes())
                }
                ListEntry::Map(record) => {
                    let state = record.state();
                    let is_live = matches!(state, MapState::Open | MapState::Running);
                    (list.wants(Kind::Map, state.as_str(), is_live), *record.header.id.as_bytes())
                }
            };
            if is_wanted && calls.len() < list.limit {
                calls.push(match &listed {
                    ListEntry::Call(record) => call(record),
                    ListEntry::Map(record) => map(record),
                });
            } else if is_wanted {
                break;
            }
            next = Some(id);
        }
        let Some(more) = more else {
            if calls.len() < list.limit {
                next = None;
            }
            break;
        };
        if calls.len() >= list.limit || scanned >= SCAN_LEN_MAX {
            break;
        }
        list.query.before = Some(more);
    }
    let next = next.map(CallId::from_bytes);
    let live: Vec<Value> = dispatcher.live().iter().map(|(id, call)| live(*id, call)).collect();
    let (waiting, maps) = durable.load();
    Ok(json_body(&json!({ "calls": calls, "next": next, "live": live, "waiting": waiting, "maps": maps })))
}

fn live(id: CallId, call: &LiveCall) -> Value {
    json!({
        "id": id,
        "function": call.function.to_string(),
        "depth": call.depth,
        "since_ms": u64::try_from(call.since.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_it_cannot_read() {
        let wrong = |text: &str| ListQuery::read(text).err().map(|problem| problem.detail).unwrap_or_default();
        assert!(wrong("state=odd").contains("`odd`"));
        assert!(wrong("limit=0").contains("1 to 1000"));
        assert!(wrong("function=f").contains("APP::FUNCTION"));
        assert!(wrong("before=x").contains("no id"));
        let list = ListQuery::read("function=a::f&state=live").unwrap();
        assert!(list.wants(Kind::Call, "leased", true) && !list.wants(Kind::Call, "done", false));
    }
}
