//! `/api/v1/calls` and `/api/v1/apps/{app}/functions/{function}/calls`: durable calls.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::answers::held_by;
use super::documents::{live_call, output_value};
use super::handler::HandlerResult;
use super::headers::{idempotency_key, input_media_type, preferred_wait};
use super::problem::Problem;
use super::query::{self, bad_query};
use super::request_body::RequestBodies;
use super::respond::{json_response, json_response_as, payload_response, set_receipt};
use super::router::Matched;
use super::{ids, respond};
use crate::api::{self, STATES};
use crate::call::{Payload, Principal};
use crate::codes::Code;
use crate::dispatch::{Dispatcher, Durable, Options};
use crate::ids::{AppName, CallId, FunctionName, NameError};
use crate::sandbox::FunctionRef;
use crate::storage::{CallRecord, Kind, ListEntry, MapState, Query, State};
use crate::tasks::to_the_end;

/// Rows of a list by default.
const LIST_LEN: usize = 50;
const LIST_LEN_MAX: usize = 1_000;
/// Bytes of a list after which its page ends.
const LIST_BYTES_MAX: usize = 1 << 20;
/// Rows scanned for a list whose filter drops most of them.
const SCAN_LEN_MAX: usize = 10_000;

/// Durable calls of one host.
pub(crate) struct Calls {
    pub durable: Arc<Durable>,
    pub dispatcher: Arc<Dispatcher>,
    pub bodies: Arc<RequestBodies>,
    pub closing: watch::Receiver<bool>,
}

impl Calls {
    /// Spawns a call; with a preferred wait the response has its outcome, if it ends in time.
    pub(crate) async fn spawn(
        &self,
        function: FunctionRef,
        matched: &Matched,
        request: Request<Incoming>,
    ) -> HandlerResult {
        let options = Options {
            key: idempotency_key(request.headers())?,
            priority: matched.priority()?,
            principal: Principal::Operator,
            ..Options::default()
        };
        let wait = preferred_wait(request.headers(), matched.parameter("wait"))?;
        let content_type = input_media_type(request.headers(), function.takes_bytes)?;
        let bytes_max = function.limits.input_bytes_max;
        let body = self.bodies.read(function.app(), request, bytes_max, "the function's input limit").await?;
        let input = Payload { content_type, data: body.bytes.clone() };
        let durable = self.durable.clone();
        // Detached: if the client disconnects, there is either a call or none.
        let mut record = to_the_end(async move { durable.spawn(&function, input, options).await }).await?;
        drop(body);
        if let Some(wait) = wait {
            // A shutdown ends the wait as its timeout does: the call is accepted, and the next host runs it.
            if let Some(waited) = self.unless_closing(self.durable.get(record.id, wait)).await {
                record = waited?;
            }
        }
        let status = if record.state.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
        let mut response = json_response_as(status, &self.with_output(&record).await?);
        let headers = response.headers_mut();
        let location = HeaderValue::from_str(&format!("/api/v1/calls/{}", record.id));
        headers.insert(header::LOCATION, location.expect("an id is ASCII"));
        if wait.is_some() {
            headers.insert("preference-applied", HeaderValue::from_static("wait"));
        }
        Ok(held_by(&record.app, response))
    }

    /// Answers the state of a call, with its output.
    pub(crate) async fn get(&self, matched: &Matched, headers: &HeaderMap) -> HandlerResult {
        let record = self.awaited(matched, headers).await?;
        Ok(held_by(&record.app, json_response(&self.with_output(&record).await?)))
    }

    pub(crate) async fn cancel(&self, matched: &Matched) -> HandlerResult {
        let id = self.id(matched).await?;
        let durable = self.durable.clone();
        // Detached: a cancellation must not stop between the disk and the memory.
        let record = to_the_end(async move { durable.cancel(id).await }).await?;
        Ok(json_response(&api::Call::from(&record)))
    }

    pub(crate) async fn input(&self, matched: &Matched) -> HandlerResult {
        let id = self.id(matched).await?;
        let record = self.durable.get(id, Duration::ZERO).await?;
        let input = self.durable.input(id).await?;
        let input = input.ok_or_else(|| Problem::not_found("the input of this call is gone"))?;
        Ok(held_by(&record.app, payload_response(input)))
    }

    pub(crate) async fn result(&self, matched: &Matched, headers: &HeaderMap) -> HandlerResult {
        let record = self.awaited(matched, headers).await?;
        if let Some(failure) = record.failure {
            return Err(failure.into());
        }
        match self.durable.output(record.id).await?.filter(|_| record.state == State::Done) {
            Some(output) => {
                let mut response = payload_response(output);
                set_receipt(response.headers_mut(), &record.receipt);
                Ok(held_by(&record.app, response))
            }
            None => Ok(json_response_as(StatusCode::ACCEPTED, &api::Call::from(&record))),
        }
    }

    async fn id(&self, matched: &Matched) -> Result<CallId, Problem> {
        ids::call(&self.durable, matched.path("id")).await
    }

    /// Returns a call's document with its output, if it has one.
    async fn with_output(&self, record: &CallRecord) -> Result<api::Call, Problem> {
        let output = match record.state {
            State::Done => self.durable.output(record.id).await?,
            _ => None,
        };
        Ok(api::Call { output: output.as_ref().map(output_value), ..record.into() })
    }

    /// Returns a call's record, after the wait that the client prefers.
    async fn awaited(&self, matched: &Matched, headers: &HeaderMap) -> Result<CallRecord, Problem> {
        let id = self.id(matched).await?;
        let wait = preferred_wait(headers, matched.parameter("wait"))?.unwrap_or_default();
        if wait.is_zero() {
            return Ok(self.durable.get(id, wait).await?);
        }
        match self.unless_closing(self.durable.get(id, wait)).await {
            Some(record) => Ok(record?),
            None => {
                let detail = format!("the host is shutting down; the next one goes on with call `{id}`");
                Err(Problem::new(Code::Unavailable, detail))
            }
        }
    }

    /// Awaits `work`; `None` if the host shuts down first.
    async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.clone();
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = closing.wait_for(|closing| *closing) => None,
        }
    }

    /// Lists calls and maps: `live` are those under way, `calls` those in the journal, newest first.
    pub(crate) async fn list(&self, matched: &Matched) -> HandlerResult {
        let mut list = ListQuery::parse(matched)?;
        let mut calls = Vec::new();
        let (mut scanned, mut bytes) = (0, 0);
        let mut next = None;
        loop {
            list.query.limit = (list.limit - calls.len()).max(if list.state.is_some() { 256 } else { 1 });
            scanned += list.query.limit;
            let (listed, more) = self.durable.list(list.query.clone()).await?;
            let is_full = |calls: &[_], bytes| calls.len() >= list.limit || bytes >= LIST_BYTES_MAX;
            for listed in listed {
                let (is_match, id) = match &listed {
                    ListEntry::Call(record) => {
                        let state = record.state;
                        (list.matches(Kind::Call, state.as_str(), !state.is_terminal()), *record.id.as_bytes())
                    }
                    ListEntry::Map(record) => {
                        let state = record.state();
                        let is_live = matches!(state, MapState::Open | MapState::Running);
                        (list.matches(Kind::Map, state.as_str(), is_live), *record.header.id.as_bytes())
                    }
                };
                if is_match && is_full(&calls, bytes) {
                    break;
                }
                if is_match {
                    let entry = match &listed {
                        ListEntry::Call(record) => api::CallOrMap::Call(Box::new(record.into())),
                        ListEntry::Map(record) => api::CallOrMap::Map(Box::new(record.into())),
                    };
                    bytes += respond::json_bytes(&entry);
                    calls.push(entry);
                }
                next = Some(id);
            }
            let Some(more) = more else {
                if !is_full(&calls, bytes) {
                    next = None;
                }
                break;
            };
            if is_full(&calls, bytes) {
                break;
            }
            if scanned >= SCAN_LEN_MAX {
                next = Some(more);
                break;
            }
            list.query.before = Some(more);
        }
        let next = next.map(CallId::from_bytes);
        let live = self.dispatcher.live().iter().map(|(id, call)| live_call(*id, call)).collect();
        let (waiting, maps) = self.durable.load();
        Ok(json_response(&api::CallList { calls, next, live, waiting, maps }))
    }
}

/// Query of a list of calls.
#[derive(Default)]
struct ListQuery {
    query: Query,
    state: Option<String>,
    kind: Option<Kind>,
    limit: usize,
}

impl ListQuery {
    fn parse(matched: &Matched) -> Result<Self, Problem> {
        let mut list = Self { limit: LIST_LEN, ..Self::default() };
        for (name, value) in matched.query() {
            let bad_name = |error: NameError| bad_query(error.to_string());
            match name {
                "app" => list.query.app = Some(AppName::new(value).map_err(bad_name)?),
                "function" => {
                    let (app, function) = match value.split_once("::") {
                        Some((app, function)) => (Some(AppName::new(app).map_err(bad_name)?), function),
                        None => (None, value),
                    };
                    list.query.app = app.or(list.query.app);
                    list.query.function = Some(FunctionName::new(function).map_err(bad_name)?);
                }
                "state" => {
                    if !STATES.contains(&value) {
                        return Err(bad_query(format!("`state` is one of {}, not `{value}`", STATES.join(", "))));
                    }
                    list.state = Some(value.to_owned());
                }
                "kind" => {
                    list.kind = Some(match value {
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
                    let id: CallId = query::id(value)?;
                    list.query.before = Some(*id.as_bytes());
                }
            }
        }
        if list.query.function.is_some() && list.query.app.is_none() {
            return Err(bad_query("a `function` is named as APP::FUNCTION, or together with its `app`"));
        }
        Ok(list)
    }

    fn matches(&self, kind: Kind, state: &str, is_live: bool) -> bool {
        let is_kind = self.kind.is_none_or(|wanted| wanted == kind);
        is_kind && self.state.as_deref().is_none_or(|wanted| wanted == state || (wanted == "live" && is_live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router::{self, Target};

    fn parse(query: &str) -> Result<ListQuery, Problem> {
        let uri = format!("/api/v1/calls?{query}").parse().unwrap();
        match router::find(&http::Method::GET, &uri)? {
            Target::Operation(matched) => ListQuery::parse(&matched),
            _ => panic!("it is a route"),
        }
    }

    #[test]
    fn a_list_names_what_it_cannot_read() {
        let wrong = |text: &str| parse(text).err().map(|problem| problem.detail).unwrap_or_default();
        assert!(wrong("state=odd").contains("`odd`"));
        assert!(wrong("limit=0").contains("1 to 1000"));
        assert!(wrong("function=f").contains("APP::FUNCTION"));
        assert!(wrong("before=x").contains("no id"));
        let list = parse("function=a::f&state=live").unwrap();
        assert!(list.matches(Kind::Call, "leased", true) && !list.matches(Kind::Call, "done", false));
    }

    #[test]
    fn states_in_the_table_are_those_of_the_records() {
        let states = State::ALL.iter().map(|state| state.as_str());
        let states: std::collections::BTreeSet<_> =
            states.chain(MapState::ALL.iter().map(|state| state.as_str())).chain(["live"]).collect();
        assert_eq!(states, STATES.iter().copied().collect());
    }
}
