//! `/api/v1/maps` and `/api/v1/apps/{app}/functions/{function}/maps`: durable maps, as JSON Lines in both directions.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::body::{RequestBodies, ResponseBody, refuse_encoding, whole};
use super::control::{bad_query, pairs};
use super::durable::{self, error, key, map, priority};
use super::problem::Problem;
use super::routes::{Answer, get, json_body};
use super::upload::{Feeds, Upload, bad_input};
use crate::codes::Code;
use crate::dispatch::{Dispatcher, Durable, DurableError, FunctionRef, Options, Results, ResultsOrder, find_function};
use crate::ids::MapId;
use crate::journal::{Entry, EntryKind, MapRecord};
use crate::limits::{MAP_INPUTS_BODY_BYTES_MAX, MAP_INPUTS_REQUEST_MAX};

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// Pieces of lines that wait for a client to read them, and about the bytes of one.
const LINES_WAITING: usize = 4;
const LINES_BYTES: usize = 1 << 20;

/// The maps of one host.
pub struct Maps {
    pub durable: Arc<Durable>,
    pub dispatcher: Arc<Dispatcher>,
    pub bodies: Arc<RequestBodies>,
    pub feeds: Feeds,
    pub closing: watch::Receiver<bool>,
}

impl Maps {
    /// Makes a map. With a body its lines are the inputs, and the outcomes stream back while they come.
    pub async fn create(&self, function: FunctionRef, request: Request<Incoming>) -> Answer {
        let mut options = Options { key: key(request.headers())?, ..Options::default() };
        let mut order = ResultsOrder::Input;
        for (name, value) in pairs(request.uri().query().unwrap_or_default(), &["priority", "order"])? {
            match name.as_str() {
                "priority" => options.priority = priority(&value)?,
                _ => order = read_order(&value)?,
            }
        }
        let is_stream = !hyper::body::Body::is_end_stream(request.body());
        refuse_encoding(request.headers())?;
        let upload = if is_stream {
            let takes_bytes = function.takes_bytes;
            Some(Upload::begin(request.into_body(), self.bodies.room(), takes_bytes).await?)
        } else {
            None
        };
        let (durable, closing, feeds) = (self.durable.clone(), self.closing.clone(), self.feeds.clone());
        // In a task of its own: a client that goes away leaves no map without its inputs.
        let made = crate::tasks::to_the_end(async move {
            let record = durable.create_map(&function, options).await?;
            let Some(upload) = upload else { return Ok::<_, DurableError>((record, None)) };
            let id = record.header.id;
            let feeding = feeds.begin(id);
            let (lines, come) = mpsc::channel(LINES_WAITING);
            let _ = lines.send(line(&json!({ "map": map(&record) }))).await;
            let (uploading, errors, is_closing) = (durable.clone(), lines.clone(), closing.clone());
            // Runs detached: accepted inputs stay valid if the client disconnects.
            tokio::spawn(async move {
                if let Err(problem) = upload.run(&uploading, id, &feeding, is_closing).await {
                    let error = json!({ "error": { "code": problem.code, "message": problem.detail } });
                    let _ = errors.send(line(&error)).await;
                }
            });
            let results = durable.results(id, 0, order, true).await?;
            tokio::spawn(tell(durable, results, false, lines, closing));
            Ok((record, Some(come)))
        });
        let (record, come) = made.await?;
        let id = record.header.id;
        let mut response = match come {
            Some(come) => stream_of(come),
            None => json_body(&map(&record)),
        };
        *response.status_mut() = StatusCode::CREATED;
        let location = HeaderValue::from_str(&format!("/api/v1/maps/{id}")).expect("an id is ASCII");
        response.headers_mut().insert(header::LOCATION, location);
        Ok(response)
    }

    /// Answers below `/maps/{id}`.
    pub async fn one(&self, id: &str, rest: &[&str], request: Request<Incoming>) -> Answer {
        let id: MapId = id.parse().map_err(|error| bad_query(format!("{error}")))?;
        let method = request.method().clone();
        match (rest, &method) {
            ([], &Method::GET | &Method::HEAD) => Ok(json_body(&map(&self.durable.map(id).await?))),
            ([], &Method::DELETE) => {
                let durable = self.durable.clone();
                // To the end: one that breaks off between the disk and the memory would leave them apart.
                let record = crate::tasks::to_the_end(async move { durable.cancel_map(id).await }).await?;
                Ok(json_body(&map(&record)))
            }
            ([], _) => Err(Problem::method("GET, HEAD, DELETE")),
            (["inputs"], &Method::POST) => self.append(id, request).await,
            (["inputs"], _) => Err(Problem::method("POST")),
            (["inputs", index], &Method::GET | &Method::HEAD) => {
                let index = number("an index", index)?;
                let record = self.durable.map(id).await?;
                let input = self.durable.map_input(id, index).await?;
                let input = input.ok_or(DurableError::NoInput { id, index, accepted: record.header.accepted })?;
                Ok(json_body(
                    &json!({ "index": index, "call": id.call(index), "input": durable::output_value(&input) }),
                ))
            }
            (["close"], &Method::POST) => {
                let durable = self.durable.clone();
                let closed = crate::tasks::to_the_end(async move { durable.close_map(id).await }).await?;
                Ok(json_body(&map(&closed)))
            }
            (["retry-failed"], &Method::POST) => {
                let durable = self.durable.clone();
                let again = crate::tasks::to_the_end(async move { durable.retry_failed(id).await }).await?;
                let record = self.durable.map(id).await?;
                Ok(json_body(&json!({ "retried": again, "map": map(&record) })))
            }
            (["close" | "retry-failed"], _) => Err(Problem::method("POST")),
            (["results"], &Method::GET | &Method::HEAD) => self.results(id, &request).await,
            (["results", index], &Method::GET | &Method::HEAD) => {
                let index = number("an index", index)?;
                match self.durable.outcome(id, index).await? {
                    Some(entry) => {
                        let mut text = Vec::new();
                        self.write(&mut text, &entry).await?;
                        let mut response = http::Response::new(whole(text));
                        response
                            .headers_mut()
                            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                        Ok(response)
                    }
                    None => {
                        let mut response = json_body(&json!({ "index": index, "state": "pending" }));
                        *response.status_mut() = StatusCode::ACCEPTED;
                        Ok(response)
                    }
                }
            }
            (["results", ..], _) => get(&request, || Err(Problem::not_found("a result is at /results/INDEX"))),
            _ => Err(Problem::not_found("a map has inputs, results, close and retry-failed below it")),
        }
    }

    async fn append(&self, id: MapId, request: Request<Incoming>) -> Answer {
        let record = self.durable.map(id).await?;
        let mut from = None;
        for (_, value) in pairs(request.uri().query().unwrap_or_default(), &["from"])? {
            from = Some(number("`from`", &value)?);
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
                inputs.push(durable::input(line, takes_bytes).map_err(|why| bad_input(index, &why))?);
            }
        }
        let durable = self.durable.clone();
        let accepted = crate::tasks::to_the_end(async move { durable.append(id, from, inputs).await }).await?;
        drop(body);
        Ok(json_body(&json!({ "accepted": accepted })))
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

    async fn results(&self, id: MapId, request: &Request<Incoming>) -> Answer {
        let (mut from, mut order, mut follows, mut failed) = (0, ResultsOrder::Input, false, false);
        let known = ["from", "order", "follow", "failed"];
        for (name, value) in pairs(request.uri().query().unwrap_or_default(), &known)? {
            match name.as_str() {
                "from" => from = number("`from`", &value)?,
                "order" => order = read_order(&value)?,
                "follow" => follows = value != "false",
                _ => failed = value != "false",
            }
        }
        let results = self.durable.results(id, from, order, follows).await?;
        let (lines, come) = mpsc::channel(LINES_WAITING);
        tokio::spawn(tell(self.durable.clone(), results, failed, lines, self.closing.clone()));
        Ok(stream_of(come))
    }

    async fn write(&self, text: &mut Vec<u8>, entry: &Entry) -> Result<(), DurableError> {
        write(&self.durable, text, entry).await
    }
}

/// Writes one outcome as a line, its end left out.
async fn write(durable: &Durable, text: &mut Vec<u8>, entry: &Entry) -> Result<(), DurableError> {
    use std::io::Write;
    let Entry { index, attempt, kind, receipt } = entry;
    let io = "writing to memory";
    let receipt = serde_json::to_string(receipt).expect("string keys only");
    match kind {
        EntryKind::Done(stored) => {
            let output = durable::output(&durable.payload(stored.clone()).await?);
            write!(text, "{{\"index\":{index},\"state\":\"done\",\"attempt\":{attempt},\"output\":").expect(io);
            // Between tokens a line end is a space like any other; within them JSON has none.
            text.extend(output.get().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            write!(text, ",\"receipt\":{receipt}}}").expect(io);
        }
        EntryKind::Failed(failure) | EntryKind::Dead(failure) | EntryKind::Retry { failure, .. } => {
            let state = if matches!(kind, EntryKind::Dead(_)) { "dead" } else { "failed" };
            let error = error(failure);
            write!(
                text,
                "{{\"index\":{index},\"state\":\"{state}\",\"attempt\":{attempt},\"error\":{error},\"receipt\":{receipt}}}"
            )
            .expect(io);
        }
    }
    Ok(())
}

/// Sends outcomes as they come, and at last what the map came to.
async fn tell(
    durable: Arc<Durable>,
    mut results: Results,
    only_failed: bool,
    lines: mpsc::Sender<Bytes>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let next = tokio::select! {
            next = results.next() => next,
            _ = closing.wait_for(|closing| *closing) => return,
            () = lines.closed() => return,
        };
        let mut text = Vec::new();
        match next {
            Ok(entries) if entries.is_empty() => break,
            Ok(entries) => {
                for entry in entries.iter().filter(|entry| !only_failed || entry.is_failure()) {
                    if let Err(error) = write(&durable, &mut text, entry).await {
                        // The others are well.
                        let mut told = problem_line(error);
                        told["failed_index"] = json!(entry.index);
                        text.extend_from_slice(told.to_string().as_bytes());
                    }
                    text.push(b'\n');
                    // Outcomes are few bytes here until their outputs are read from their files.
                    if text.len() >= LINES_BYTES && lines.send(std::mem::take(&mut text).into()).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = lines.send(line(&problem_line(error))).await;
                return;
            }
        }
        if !text.is_empty() && lines.send(text.into()).await.is_err() {
            return;
        }
    }
    if let Ok(record) = durable.map(results.map()).await {
        let _ = lines.send(line(&json!({ "summary": map(&record) }))).await;
    }
}

fn problem_line(error: DurableError) -> Value {
    let problem = Problem::from(error);
    json!({ "error": { "code": problem.code, "message": problem.detail } })
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn stream_of(lines: mpsc::Receiver<Bytes>) -> http::Response<ResponseBody> {
    let frames = stream::unfold(lines, |mut lines| async move {
        let text = lines.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(text)), lines))
    });
    let mut response = http::Response::new(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, NDJSON);
    response
}

fn read_order(text: &str) -> Result<ResultsOrder, Problem> {
    match text {
        "input" => Ok(ResultsOrder::Input),
        "completion" => Ok(ResultsOrder::Completion),
        _ => Err(bad_query(format!("`order` is input or completion, not `{text}`"))),
    }
}

fn number(name: &str, value: &str) -> Result<u64, Problem> {
    value.parse().map_err(|_| bad_query(format!("{name} is a whole number, not `{value}`")))
}
