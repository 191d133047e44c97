//! Outcomes of a map as JSON Lines: one line for each, and the stream of them.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::documents::{failure_document, map_document, output};
use super::problem::Problem;
use super::respond::{ResponseBody, json_lines_stream};
use crate::dispatch::{Durable, DurableError, Results};
use crate::journal::{Entry, EntryKind};

/// Chunks of lines that wait for the client to read them.
const CHUNKS_WAITING: usize = 4;
/// Bytes at which a chunk is sent, though more outcomes are there.
const CHUNK_BYTES: usize = 1 << 20;

/// Sending side of a response of JSON Lines.
#[derive(Clone)]
pub struct LineSender(mpsc::Sender<Bytes>);

/// Returns a response of JSON Lines, and its sending side. The response ends once all senders are dropped.
pub fn line_channel() -> (LineSender, Response<ResponseBody>) {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let chunks = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    (LineSender(sender), json_lines_stream(chunks))
}

impl LineSender {
    /// Sends a line. A client that is gone needs none.
    pub async fn send(&self, line: &Value) {
        let _ = self.send_chunk(format!("{line}\n")).await;
    }

    async fn send_chunk(&self, lines: impl Into<Bytes>) -> Result<(), mpsc::error::SendError<Bytes>> {
        self.0.send(lines.into()).await
    }
}

/// Sends outcomes as they come, then the map's summary; ends early when the host shuts down or the client disconnects.
pub async fn send_outcomes(
    durable: Arc<Durable>,
    mut results: Results,
    only_failed: bool,
    lines: LineSender,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let next = tokio::select! {
            next = results.next() => next,
            _ = closing.wait_for(|closing| *closing) => return,
            () = lines.0.closed() => return,
        };
        let mut chunk = Vec::new();
        match next {
            Ok(entries) if entries.is_empty() => break,
            Ok(entries) => {
                for entry in entries.iter().filter(|entry| !only_failed || entry.is_failure()) {
                    if let Err(error) = write_outcome(&durable, &mut chunk, entry).await {
                        // An output that cannot be read does not hold up the others.
                        let mut line = problem_line(&error.into());
                        line["failed_index"] = json!(entry.index);
                        chunk.extend_from_slice(line.to_string().as_bytes());
                    }
                    chunk.push(b'\n');
                    // An entry is small until its output is read from its file.
                    if chunk.len() >= CHUNK_BYTES && lines.send_chunk(std::mem::take(&mut chunk)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => return lines.send(&problem_line(&error.into())).await,
        }
        if !chunk.is_empty() && lines.send_chunk(chunk).await.is_err() {
            return;
        }
    }
    if let Ok(record) = durable.map(results.map()).await {
        lines.send(&json!({ "summary": map_document(&record) })).await;
    }
}

/// Writes one outcome as a line, without its line end.
pub async fn write_outcome(durable: &Durable, text: &mut Vec<u8>, entry: &Entry) -> Result<(), DurableError> {
    let Entry { index, attempt, kind, receipt } = entry;
    let infallible = "writing to memory";
    let receipt = serde_json::to_string(receipt).expect("string keys only");
    match kind {
        EntryKind::Done(stored) => {
            let output = output(&durable.payload(stored.clone()).await?);
            write!(text, "{{\"index\":{index},\"state\":\"done\",\"attempt\":{attempt},\"output\":").expect(infallible);
            // JSON has line ends between tokens only, where a space does as well.
            text.extend(output.get().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            write!(text, ",\"receipt\":{receipt}}}").expect(infallible);
        }
        EntryKind::Failed(failure) | EntryKind::Dead(failure) | EntryKind::Retry { failure, .. } => {
            let state = if matches!(kind, EntryKind::Dead(_)) { "dead" } else { "failed" };
            let error = failure_document(failure);
            write!(
                text,
                "{{\"index\":{index},\"state\":\"{state}\",\"attempt\":{attempt},\"error\":{error},\"receipt\":{receipt}}}"
            )
            .expect(infallible);
        }
    }
    Ok(())
}

/// Returns the line of an error within a stream.
pub fn problem_line(problem: &Problem) -> Value {
    json!({ "error": { "code": problem.code, "message": problem.detail } })
}
