//! `/api/v1/maps` and `/api/v1/apps/{app}/functions/{function}/maps`: durable maps, as JSON Lines in both directions.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::answers::held_by;
use super::documents::output_value;
use super::handler::HandlerResult;
use super::headers::{idempotency_key, preferred_wait, refuse_encoding};
use super::ids;
use super::map_inputs::{bad_input, parse_input};
use super::map_results::{failure_line, line_channel, outcome, send_outcomes};
use super::problem::Problem;
use super::query::{self, bad_query};
use super::request_body::RequestBodies;
use super::respond::{json_response, json_response_as};
use super::router::Matched;
use super::upload::{ActiveUploads, Upload};
use crate::api::{self, Operation};
use crate::budgets::{ByteBudget, Reservation};
use crate::call::Principal;
use crate::codes::Code;
use crate::dispatch::{Dispatcher, Durable, DurableError, Options, ResultsOrder, find_function};
use crate::ids::{AppName, MapId};
use crate::limits::{MAP_INPUTS_BODY_BYTES_MAX, MAP_INPUTS_REQUEST_MAX};
use crate::sandbox::FunctionRef;
use crate::storage::MapRecord;
use crate::tasks::to_the_end;

/// Durable maps of one host.
pub(crate) struct Maps {
    pub durable: Arc<Durable>,
    pub dispatcher: Arc<Dispatcher>,
    pub bodies: Arc<RequestBodies>,
    pub uploads: ActiveUploads,
    /// Memory for answers.
    pub memory: ByteBudget,
    pub closing: watch::Receiver<bool>,
}

impl Maps {
    /// Creates a map. With a body its lines are the inputs, and the outcomes stream back while they come.
    pub(crate) async fn create(
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
        let order = order(matched)?;
        let is_stream = !hyper::body::Body::is_end_stream(request.body());
        refuse_encoding(request.headers())?;
        let upload = if is_stream {
            let reservation = self.bodies.reserve(function.app());
            Some(Upload::begin(request.into_body(), reservation, function.takes_bytes).await?)
        } else {
            None
        };
        let (durable, closing, uploads) = (self.durable.clone(), self.closing.clone(), self.uploads.clone());
        let lines_memory = self.lines_memory(function.app());
        // Detached: if the client disconnects, no map stays behind without its inputs.
        let created = to_the_end(async move {
            let record = durable.create_map(&function, options).await?;
            let Some(upload) = upload else { return Ok::<_, DurableError>((record, None)) };
            let id = record.header.id;
            let guard = uploads.begin(id);
            let (lines, response) = line_channel(lines_memory);
            lines.send(&api::MapStreamLine::Created { map: Box::new((&record).into()) }).await;
            let (uploading, errors, is_closing) = (durable.clone(), lines.clone(), closing.clone());
            // Runs detached: accepted inputs stay valid if the client disconnects.
            tokio::spawn(async move {
                if let Err(problem) = upload.run(&uploading, id, &guard, is_closing).await {
                    errors.send(&failure_line(&problem, None)).await;
                }
            });
            let results = durable.results(id, 0, order, true).await?;
            tokio::spawn(send_outcomes(durable, results, false, lines, closing));
            Ok((record, Some(response)))
        });
        let (record, streamed) = created.await?;
        let mut response = streamed.unwrap_or_else(|| json_response(&api::Map::from(&record)));
        *response.status_mut() = StatusCode::CREATED;
        let location = format!("/api/v1/maps/{}", record.header.id);
        let location = HeaderValue::from_str(&location).expect("an id is ASCII");
        response.headers_mut().insert(header::LOCATION, location);
        Ok(response)
    }

    /// Answers a request for one map.
    pub(crate) async fn answer(&self, matched: &Matched, request: Request<Incoming>) -> HandlerResult {
        let id = ids::map(&self.durable, matched.path("id")).await?;
        let durable = self.durable.clone();
        match matched.route.operation {
            Operation::GetMap => self.get(id, matched, request.headers()).await,
            // Detached, like the two below: a change must not stop between the disk and the memory.
            Operation::CancelMap => Ok(map_response(&to_the_end(async move { durable.cancel_map(id).await }).await?)),
            Operation::CloseMap => Ok(map_response(&to_the_end(async move { durable.close_map(id).await }).await?)),
            Operation::RetryFailedInputs => {
                let retried = to_the_end(async move { durable.retry_failed(id).await }).await?;
                let map = (&self.durable.map(id).await?).into();
                Ok(json_response(&api::MapRetried { retried, map }))
            }
            Operation::AppendInputs => self.append(id, matched, request).await,
            Operation::GetMapInput => self.get_input(id, query::number("index", matched.path("index"))?).await,
            Operation::GetMapResult => self.get_outcome(id, query::number("index", matched.path("index"))?).await,
            _ => self.get_outcomes(id, matched).await,
        }
    }

    /// Answers the state of a map, after the wait for its end that the client prefers.
    async fn get(&self, id: MapId, matched: &Matched, headers: &HeaderMap) -> HandlerResult {
        let wait = preferred_wait(headers, matched.parameter("wait"))?.unwrap_or_default();
        let mut closing = self.closing.clone();
        let waited = tokio::select! {
            biased;
            record = self.durable.wait_for_map(id, wait) => Some(record),
            _ = closing.wait_for(|closing| *closing) => None,
        };
        let record = match waited {
            Some(record) => record?,
            None => self.durable.map(id).await?,
        };
        Ok(map_response(&record))
    }

    async fn get_input(&self, id: MapId, index: u64) -> HandlerResult {
        let record = self.durable.map(id).await?;
        let input = self.durable.map_input(id, index).await?;
        let input = input.ok_or(DurableError::NoInput { id, index, accepted: record.header.accepted })?;
        let document = api::MapInput { index, call: id.call(index), input: output_value(&input) };
        Ok(held_by(&record.header.app, json_response(&document)))
    }

    async fn get_outcome(&self, id: MapId, index: u64) -> HandlerResult {
        match self.durable.outcome(id, index).await? {
            Some(entry) => {
                let record = self.durable.map(id).await?;
                Ok(held_by(&record.header.app, json_response(&outcome(&self.durable, &entry).await?)))
            }
            None => {
                let state = api::MapOutcomeState::Pending;
                let pending: api::MapOutcome =
                    api::MapOutcome { index, state, attempt: None, output: None, error: None, receipt: None };
                Ok(json_response_as(StatusCode::ACCEPTED, &pending))
            }
        }
    }

    async fn append(&self, id: MapId, matched: &Matched, request: Request<Incoming>) -> HandlerResult {
        let record = self.durable.map(id).await?;
        let from = matched.parameter("from").map(|from| query::number("from", from)).transpose()?;
        let takes_bytes = self.takes_bytes(&record)?;
        let app = &record.header.app;
        let body =
            self.bodies.read(app, request, MAP_INPUTS_BODY_BYTES_MAX, "the limit of inputs in one request").await?;
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
        Ok(json_response(&api::InputsAccepted { accepted }))
    }

    /// Memory for lines that a client has not read.
    fn lines_memory(&self, app: &AppName) -> Reservation {
        self.memory.reservation(app.into())
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

    async fn get_outcomes(&self, id: MapId, matched: &Matched) -> HandlerResult {
        let from = matched.parameter("from").map_or(Ok(0), |from| query::number("from", from))?;
        let results = self.durable.results(id, from, order(matched)?, matched.flag("follow")).await?;
        let record = self.durable.map(id).await?;
        let (lines, response) = line_channel(self.lines_memory(&record.header.app));
        let closing = self.closing.clone();
        tokio::spawn(send_outcomes(self.durable.clone(), results, matched.flag("failed"), lines, closing));
        Ok(response)
    }
}

fn map_response(record: &MapRecord) -> http::Response<super::respond::ResponseBody> {
    json_response(&api::Map::from(record))
}

fn order(matched: &Matched) -> Result<ResultsOrder, Problem> {
    match matched.parameter("order") {
        None | Some("input") => Ok(ResultsOrder::Input),
        Some("completion") => Ok(ResultsOrder::Completion),
        Some(text) => Err(bad_query(format!("`order` is input or completion, not `{text}`"))),
    }
}
