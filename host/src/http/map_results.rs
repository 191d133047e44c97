//! Outcomes of a map as JSON Lines: one line for each, and the stream of them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use super::answers::charged;
use super::documents::output;
use super::problem::Problem;
use super::respond::{ResponseBody, json_lines_stream};
use crate::api;
use crate::budgets::Reservation;
use crate::codes::Code;
use crate::dispatch::{Durable, DurableError, Results};
use crate::storage::{Entry, EntryKind};

/// Chunks of lines that wait for the client to read them.
const CHUNKS_WAITING: usize = 4;
/// Bytes at which a chunk is sent, though more outcomes are there.
const CHUNK_BYTES: usize = 1 << 20;

/// Sending side of a response of JSON Lines.
#[derive(Clone)]
pub(crate) struct LineSender {
    chunks: mpsc::Sender<Bytes>,
    /// Reservation of nothing, by which chunks are charged.
    memory: Arc<Reservation>,
}

/// Error of a chunk that was not sent.
enum SendError {
    /// The client is gone.
    Closed,
    /// The app has no memory left for it.
    NoMemory { bytes: usize },
}

/// Returns a response of JSON Lines, and its sending side. The response ends once all senders are dropped.
/// Lines that the client has not read are charged to the holder of `memory`.
pub(crate) fn line_channel(memory: Reservation) -> (LineSender, Response<ResponseBody>) {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let chunks = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    (LineSender { chunks: sender, memory: Arc::new(memory) }, json_lines_stream(chunks))
}

impl LineSender {
    /// Sends a line. A client that is gone needs none.
    pub(crate) async fn send(&self, line: &api::MapStreamLine) {
        let mut text = Vec::new();
        write_line(&mut text, line);
        // Short, and the only line that says why the stream ends.
        let _ = self.chunks.send(text.into()).await;
    }

    async fn send_chunk(&self, lines: Vec<u8>) -> Result<(), SendError> {
        let mut reservation = self.memory.another();
        if !reservation.try_set(lines.len() as u64) {
            return Err(SendError::NoMemory { bytes: lines.len() });
        }
        self.chunks.send(charged(lines.into(), reservation)).await.map_err(|_| SendError::Closed)
    }
}

impl LineSender {
    /// Ends the stream with the reason, if there is anybody to read it.
    async fn report(&self, error: SendError, index: Option<u64>) {
        let SendError::NoMemory { bytes } = error else { return };
        let detail = format!(
            "{bytes} bytes of results have no room: answers that clients have not read use up this app's part of the \
             host's memory; go on with `from` set to the first index that is missing"
        );
        self.send(&failure_line(&Problem::new(Code::Overloaded, detail), index)).await;
    }
}

/// Sends outcomes as they come, then the map's summary; ends early when the host shuts down or the client disconnects.
pub(crate) async fn send_outcomes(
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
            () = lines.chunks.closed() => return,
        };
        let mut chunk = Vec::new();
        match next {
            Ok(entries) if entries.is_empty() => break,
            Ok(entries) => {
                for entry in entries.iter().filter(|entry| !only_failed || entry.is_failure()) {
                    match outcome(&durable, entry).await {
                        Ok(outcome) => write_line(&mut chunk, &outcome),
                        // An output that cannot be read does not hold up the others.
                        Err(error) => write_line(&mut chunk, &failure_line(&error.into(), Some(entry.index))),
                    }
                    // An entry is small until its output is read from its file.
                    if chunk.len() >= CHUNK_BYTES
                        && let Err(error) = lines.send_chunk(std::mem::take(&mut chunk)).await
                    {
                        return lines.report(error, Some(entry.index)).await;
                    }
                }
            }
            Err(error) => return lines.send(&failure_line(&error.into(), None)).await,
        }
        if !chunk.is_empty()
            && let Err(error) = lines.send_chunk(chunk).await
        {
            return lines.report(error, None).await;
        }
    }
    if let Ok(record) = durable.map(results.map()).await {
        lines.send(&api::MapStreamLine::Ended { summary: Box::new((&record).into()) }).await;
    }
}

/// Returns an outcome, its output as the JSON text that it is.
pub(crate) async fn outcome(durable: &Durable, entry: &Entry) -> Result<api::MapOutcome<Box<RawValue>>, DurableError> {
    let (state, output, error) = match &entry.kind {
        EntryKind::Done(stored) => {
            (api::MapOutcomeState::Done, Some(output(&durable.payload(stored.clone()).await?)), None)
        }
        EntryKind::Dead(failure) => (api::MapOutcomeState::Dead, None, Some(failure.clone())),
        EntryKind::Failed(failure) | EntryKind::Retry { failure, .. } => {
            (api::MapOutcomeState::Failed, None, Some(failure.clone()))
        }
    };
    let (attempt, receipt) = (Some(entry.attempt), Some(entry.receipt.clone()));
    Ok(api::MapOutcome { index: entry.index, state, attempt, output, error, receipt })
}

/// Writes a document as a line.
fn write_line(text: &mut Vec<u8>, document: &impl Serialize) {
    let start = text.len();
    serde_json::to_writer(&mut *text, document).expect("documents have string keys only");
    // An output's own JSON has line ends between tokens only, where a space does as well.
    text[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    text.push(b'\n');
}

/// Returns the line of an error within a stream; `failed_index` is the input that it is about.
pub(crate) fn failure_line(problem: &Problem, failed_index: Option<u64>) -> api::MapStreamLine {
    let error = api::MapFailureError { code: problem.code.as_str().to_owned(), message: problem.detail.clone() };
    api::MapStreamLine::Failed(api::MapFailure { error, failed_index })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_over_several_lines_is_one_line_of_the_stream() {
        let output = serde_json::from_str::<Box<RawValue>>("{\n  \"a\": \"b\\n\"\r\n}").unwrap();
        let mut text = Vec::new();
        write_line(&mut text, &json!({ "output": output }));
        assert_eq!(text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["output"]["a"], "b\n");
    }
}
