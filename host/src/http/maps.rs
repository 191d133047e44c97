//! `/api/v1/maps` and `/api/v1/apps/{app}/functions/{function}/maps`: durable maps, as JSON Lines in both directions.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;

use super::documents::{map_document, output_value};
use super::handler::{HandlerResult, read_only};
use super::headers::{idempotency_key, refuse_encoding};
use super::map_inputs::{bad_input, parse_input};
use super::map_results::{line_channel, problem_line, send_outcomes, write_outcome};
use super::problem::Problem;
use super::query::{self, bad_query};
use super::request_body::RequestBodies;
use super::respond::{json_response, json_text_response};
use super::upload::{ActiveUploads, Upload};
use crate::call::Principal;
use crate::codes::Code;
use crate::dispatch::{Dispatcher, Durable, DurableError, Options, ResultsOrder, find_function};
use crate::ids::MapId;
use crate::journal::MapRecord;
use crate::limits::{MAP_INPUTS_BODY_BYTES_MAX, MAP_INPUTS_REQUEST_MAX};
use crate::sandbox::FunctionRef;
use crate::tasks::to_the_end;

/// Durable maps of one host.
pub struct Maps {
    pub durable: Arc<Durable>,
    pub dispatcher: Arc<Dispatcher>,
    pub bodies: Arc<RequestBodies>,
    pub uploads: ActiveUploads,
    pub closing: watch::Receiver<bool>,
}

impl Maps {
    /// Creates a map. With a body its lines are the inputs, and the outcomes stream back while they come.
    pub async fn create(&self, function: FunctionRef, request: Request<Incoming>) -> HandlerResult {
        let mut options =
            Options { key: idempotency_key(request.headers())?, principal: Principal::Operator, ..Options::default() };
        let mut order = ResultsOrder::Input;
        for (name, value) in query::parse(request.uri(), &["priority", "order"])? {
            match name.as_str() {
                "priority" => options.priority = query::priority(&value)?,
                _ => order = parse_order(&value)?,
            }
        }
        let is_stream = !hyper::body::Body::is_end_stream(request.body());
        refuse_encoding(request.headers())?;
        let upload = if is_stream {
            Some(Upload::begin(request.into_body(), self.bodies.reserve(), function.takes_bytes).await?)
        } else {
            None
        };
        let (durable, closing, uploads) = (self.durable.clone(), self.closing.clone(), self.uploads.clone());
        // Detached: if the client disconnects, no map stays behind without its inputs.
        let created = to_the_end(async move {
            let record = durable.create_map(&function, options).await?;
            let Some(upload) = upload else { return Ok::<_, DurableError>((record, None)) };
            let id = record.header.id;
            let guard = uploads.begin(id);
            let (lines, response) = line_channel();
            lines.send(&json!({ "map": map_document(&record) })).await;
            let (uploading, errors, is_closing) = (durable.clone(), lines.clone(), closing.clone());
            // Runs detached: accepted inputs stay valid if the client disconnects.
            tokio::spawn(async move {
                if let Err(problem) = upload.run(&uploading, id, &guard, is_closing).await {
                    errors.send(&problem_line(&problem)).await;
                }
            });
            let results = durable.results(id, 0, order, true).await?;
            tokio::spawn(send_outcomes(durable, results, false, lines, closing));
            Ok((record, Some(response)))
        });
        let (record, streamed) = created.await?;
        let mut response = streamed.unwrap_or_else(|| json_response(&map_document(&record)));
        *response.status_mut() = StatusCode::CREATED;
        let location = format!("/api/v1/maps/{}", record.header.id);
        let location = HeaderValue::from_str(&location).expect("an id is ASCII");
        response.headers_mut().insert(header::LOCATION, location);
        Ok(response)
    }

    /// Answers below `/maps/{id}`.
    pub async fn route(&self, id: &str, rest: &[&str], request: Request<Incoming>) -> HandlerResult {
        let id: MapId = query::id(id)?;
        match (rest, request.method()) {
            ([], &Method::GET | &Method::HEAD) => Ok(json_response(&map_document(&self.durable.map(id).await?))),
            ([], &Method::DELETE) => {
                let durable = self.durable.clone();
                // Detached: a cancellation must not stop between the disk and the memory.
                let record = to_the_end(async move { durable.cancel_map(id).await }).await?;
                Ok(json_response(&map_document(&record)))
            }
            ([], _) => Err(Problem::method("GET, HEAD, DELETE")),
            (["inputs"], &Method::POST) => self.append(id, request).await,
            (["inputs"], _) => Err(Problem::method("POST")),
            (["inputs", index], &Method::GET | &Method::HEAD) => {
                self.get_input(id, query::number("an index", index)?).await
            }
            (["close"], &Method::POST) => {
                let durable = self.durable.clone();
                let closed = to_the_end(async move { durable.close_map(id).await }).await?;
                Ok(json_response(&map_document(&closed)))
            }
            (["retry-failed"], &Method::POST) => {
                let durable = self.durable.clone();
                let retried = to_the_end(async move { durable.retry_failed(id).await }).await?;
                let record = self.durable.map(id).await?;
                Ok(json_response(&json!({ "retried": retried, "map": map_document(&record) })))
            }
            (["close" | "retry-failed"], _) => Err(Problem::method("POST")),
            (["results"], &Method::GET | &Method::HEAD) => self.get_outcomes(id, &request).await,
            (["results", index], &Method::GET | &Method::HEAD) => {
                self.get_outcome(id, query::number("an index", index)?).await
            }
            (["results", ..], _) => read_only(&request, || Err(Problem::not_found("a result is at /results/INDEX"))),
            _ => Err(Problem::not_found("a map has inputs, results, close and retry-failed below it")),
        }
    }

    async fn get_input(&self, id: MapId, index: u64) -> HandlerResult {
        let record = self.durable.map(id).await?;
        let input = self.durable.map_input(id, index).await?;
        let input = input.ok_or(DurableError::NoInput { id, index, accepted: record.header.accepted })?;
        Ok(json_response(&json!({ "index": index, "call": id.call(index), "input": output_value(&input) })))
    }

    async fn get_outcome(&self, id: MapId, index: u64) -> HandlerResult {
        match self.durable.outcome(id, index).await? {
            Some(entry) => {
                let mut text = Vec::new();
                write_outcome(&self.durable, &mut text, &entry).await?;
                Ok(json_text_response(text))
            }
            None => {
                let mut response = json_response(&json!({ "index": index, "state": "pending" }));
                *response.status_mut() = StatusCode::ACCEPTED;
                Ok(response)
            }
        }
    }

    async fn append(&self, id: MapId, request: Request<Incoming>) -> HandlerResult {
        let record = self.durable.map(id).await?;
        let mut from = None;
        for (_, value) in query::parse(request.uri(), &["from"])? {
            from = Some(query::number("`from`", &value)?);
        }
        let takes_bytes = self.takes_bytes(&record)?;
        let body = self.bodies.read(request, MAP_INPUTS_BODY_BYTES_MAX, "the limit of inputs in one request").await?;
        let mut inputs = Vec::new();
        for line in body.bytes.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if !line.is_empty() {
                let index = from.unwrap_or(record.header.accepted) + inputs.len() as u64;
                if inputs.len() == MAP_INPUTS_REQUEST_MAX {
                    let detail =
                        format!("a request has at most {MAP_INPUTS_REQUEST_MAX} inputs; send the rest in another");
                    return Err(Problem::new(Code::InputTooLarge, detail));
                }
                inputs.push(parse_input(line, takes_bytes).map_err(|reason| bad_input(index, &reason))?);
            }
        }
        let durable = self.durable.clone();
        let accepted = to_the_end(async move { durable.append(id, from, inputs).await }).await?;
        drop(body);
        Ok(json_response(&json!({ "accepted": accepted })))
    }

    fn takes_bytes(&self, record: &MapRecord) -> Result<bool, Problem> {
        let program = self.dispatcher.program(record.header.app.as_str());
        let program = program.ok_or_else(|| {
            let detail =
                format!("`{}` is not deployed now; deploy it before the map gets more inputs", record.header.app);
            Problem::new(Code::UnknownApp, detail)
        })?;
        Ok(find_function(&program, record.header.function.as_str())?.takes_bytes)
    }

    async fn get_outcomes(&self, id: MapId, request: &Request<Incoming>) -> HandlerResult {
        let (mut from, mut order, mut follows, mut only_failed) = (0, ResultsOrder::Input, false, false);
        for (name, value) in query::parse(request.uri(), &["from", "order", "follow", "failed"])? {
            match name.as_str() {
                "from" => from = query::number("`from`", &value)?,
                "order" => order = parse_order(&value)?,
                "follow" => follows = query::flag(&value),
                _ => only_failed = query::flag(&value),
            }
        }
        let results = self.durable.results(id, from, order, follows).await?;
        let (lines, response) = line_channel();
        tokio::spawn(send_outcomes(self.durable.clone(), results, only_failed, lines, self.closing.clone()));
        Ok(response)
    }
}

fn parse_order(text: &str) -> Result<ResultsOrder, Problem> {
    match text {
        "input" => Ok(ResultsOrder::Input),
        "completion" => Ok(ResultsOrder::Completion),
        _ => Err(bad_query(format!("`order` is input or completion, not `{text}`"))),
    }
}
