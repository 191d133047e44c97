//! Upload of a map's inputs as a stream: lines are accepted as they come, and the map is closed at their end.
//!
//! Invariants: bytes that wait to be written are charged to the budget of request bodies; each byte is scanned once; a
//! stream that breaks by its client's fault closes its map, which ends with the inputs that it has.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use dashmap::DashMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::timeout;

use super::map_inputs::{bad_input, parse_input};
use super::problem::Problem;
use super::request_body::{MinDataRate, Reservation, unreadable};
use crate::call::Payload;
use crate::codes::Code;
use crate::dispatch::Durable;
use crate::ids::MapId;
use crate::limits::{MAP_INPUTS_BODY_BYTES_MAX, MAP_UPLOAD_IDLE};

/// Inputs of a stream in one write, at most.
const APPEND_LEN_MAX: usize = 4_096;
const APPEND_BYTES_MAX: usize = 4 << 20;
/// Pause of a stream after which the inputs so far are written.
const APPEND_PAUSE: Duration = Duration::from_millis(5);
/// Wait for the first input before the map is created without it.
const FIRST_INPUT_WAIT: Duration = Duration::from_secs(1);

/// Upload whose first input was read.
pub(crate) struct Upload {
    lines: LineReader,
    takes_bytes: bool,
    /// Inputs to be written.
    inputs: Vec<Payload>,
    bytes: usize,
    /// Inputs written.
    accepted: u64,
}

impl Upload {
    /// Reads the first input, so that a body that is not JSON Lines creates no map. A client that sends none within
    /// `FIRST_INPUT_WAIT` may be waiting for the response's head, and gets a map.
    pub(crate) async fn begin(body: Incoming, reservation: Reservation, takes_bytes: bool) -> Result<Self, Problem> {
        let lines = LineReader::new(body, reservation);
        let mut upload = Self { lines, takes_bytes, inputs: Vec::new(), bytes: 0, accepted: 0 };
        timeout(FIRST_INPUT_WAIT, upload.read_first()).await.unwrap_or(Ok(()))?;
        Ok(upload)
    }

    async fn read_first(&mut self) -> Result<(), Problem> {
        while self.inputs.is_empty() {
            match self.lines.next(false).await? {
                LineEvent::Line(line) => self.push(&line)?,
                LineEvent::End => break,
                LineEvent::Pause => {}
            }
        }
        Ok(())
    }

    /// Appends the inputs to the map, and closes it at their end, or where the stream breaks unless another upload
    /// feeds it. A host that shuts down or cannot write leaves the map open, so that the client can resume.
    pub(crate) async fn run(
        mut self,
        durable: &Arc<Durable>,
        id: MapId,
        guard: &UploadGuard,
        mut closing: watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        let ended = self.read(durable, id, &mut closing).await;
        // Inputs before a fault are accepted.
        let appended = self.append(durable, id).await;
        match ended.and_then(|()| appended.clone()) {
            Ok(()) => {
                durable.close_map(id).await?;
                Ok(())
            }
            Err(UploadError::Client(code, detail)) if appended.is_ok() && guard.is_alone() => {
                let accepted = self.accepted;
                durable.close_map(id).await?;
                let detail = format!("{detail}; the map is closed, and ends with the {accepted} inputs before");
                Err(Problem::new(code, detail))
            }
            // A map that refuses inputs will refuse them again.
            Err(UploadError::Host(code @ (Code::MapClosed | Code::InputDiffers), detail)) => {
                Err(Problem::new(code, detail))
            }
            Err(UploadError::Client(code, detail) | UploadError::Host(code, detail)) => {
                let from = self.accepted;
                let detail = format!("{detail}; the map is open, go on with POST /api/v1/maps/{id}/inputs?from={from}");
                Err(Problem::new(code, detail))
            }
        }
    }

    async fn read(
        &mut self,
        durable: &Arc<Durable>,
        id: MapId,
        closing: &mut watch::Receiver<bool>,
    ) -> Result<(), UploadError> {
        loop {
            // Only the wait for the client is cancelled; a write completes.
            let next = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => {
                    return Err(UploadError::Host(Code::Unavailable, SHUTTING_DOWN.to_owned()));
                }
                next = self.lines.next(!self.inputs.is_empty()) => next?,
            };
            match next {
                LineEvent::Line(line) => self.push(&line)?,
                LineEvent::End => return Ok(()),
                LineEvent::Pause => self.append(durable, id).await?,
            }
            if self.inputs.len() >= APPEND_LEN_MAX || self.bytes >= APPEND_BYTES_MAX {
                self.append(durable, id).await?;
            }
        }
    }

    fn push(&mut self, line: &[u8]) -> Result<(), Problem> {
        let text = line.trim_ascii();
        if !text.is_empty() {
            let index = self.accepted + self.inputs.len() as u64;
            let input = parse_input(text, self.takes_bytes).map_err(|reason| bad_input(index, &reason))?;
            self.inputs.push(input);
        }
        self.bytes += line.len();
        Ok(())
    }

    async fn append(&mut self, durable: &Arc<Durable>, id: MapId) -> Result<(), UploadError> {
        if !self.inputs.is_empty() {
            let inputs = std::mem::take(&mut self.inputs);
            let until = self.accepted + inputs.len() as u64;
            // A map found by its idempotency key may have more already.
            let appended = durable.append(id, Some(self.accepted), inputs).await;
            appended.map_err(|error| {
                let Problem { code, detail, .. } = error.into();
                UploadError::Host(code, detail)
            })?;
            self.accepted = until;
        }
        self.lines.reservation.shrink(std::mem::take(&mut self.bytes));
        Ok(())
    }
}

/// Uploads under way of each map: one that is sent again, with its key, may meet the stale one that it replaces.
#[derive(Clone, Default)]
pub(crate) struct ActiveUploads(Arc<DashMap<MapId, usize>>);

impl ActiveUploads {
    /// Counts an upload of a map until the guard is dropped.
    pub(crate) fn begin(&self, map: MapId) -> UploadGuard {
        *self.0.entry(map).or_default() += 1;
        UploadGuard { uploads: self.clone(), map }
    }
}

/// Guard of one upload under way.
pub(crate) struct UploadGuard {
    uploads: ActiveUploads,
    map: MapId,
}

impl UploadGuard {
    fn is_alone(&self) -> bool {
        self.uploads.0.get(&self.map).is_none_or(|count| *count <= 1)
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.uploads.0.remove_if_mut(&self.map, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

const SHUTTING_DOWN: &str = "the host is shutting down";

/// Failure of an upload, by the side at fault.
#[derive(Clone)]
enum UploadError {
    /// The client stopped, or sent something invalid.
    Client(Code, String),
    /// The host: its disk, its shutdown, a map that takes no more inputs.
    Host(Code, String),
}

impl From<Problem> for UploadError {
    fn from(problem: Problem) -> Self {
        match problem.code {
            Code::Overloaded => Self::Host(problem.code, problem.detail),
            code => Self::Client(code, problem.detail),
        }
    }
}

/// Event of a body of lines.
enum LineEvent {
    /// A line with its end. The caller shrinks the reservation by it.
    Line(Bytes),
    /// No bytes at the moment.
    Pause,
    End,
}

/// Reader of a body's lines.
struct LineReader {
    body: Incoming,
    reservation: Reservation,
    /// Bytes received and not yet returned.
    buffer: BytesMut,
    /// Prefix of `buffer` without a line end.
    scanned: usize,
    /// Data rate within a line; between lines a client may pause.
    rate: MinDataRate,
    is_over: bool,
}

impl LineReader {
    fn new(body: Incoming, reservation: Reservation) -> Self {
        Self { body, reservation, buffer: BytesMut::new(), scanned: 0, rate: MinDataRate::begin(), is_over: false }
    }

    /// Waits for the next line. Returns `Pause` only if the caller `has_inputs` to write meanwhile.
    async fn next(&mut self, has_inputs: bool) -> Result<LineEvent, Problem> {
        loop {
            if let Some(line) = next_line(&mut self.buffer, &mut self.scanned) {
                return Ok(LineEvent::Line(line));
            }
            if self.is_over {
                let rest = self.buffer.copy_to_bytes(self.buffer.len());
                self.scanned = 0;
                return Ok(if rest.is_empty() { LineEvent::End } else { LineEvent::Line(rest) });
            }
            if self.buffer.len() as u64 > MAP_INPUTS_BODY_BYTES_MAX {
                let detail = format!("a line is over {MAP_INPUTS_BODY_BYTES_MAX} bytes; is this JSON Lines?");
                return Err(Problem::new(Code::InputTooLarge, detail));
            }
            let part = match (has_inputs, self.buffer.is_empty()) {
                (false, false) => self.rate.next(&mut self.body).await?,
                (has_inputs, is_between_lines) => {
                    let wait = if has_inputs { APPEND_PAUSE } else { MAP_UPLOAD_IDLE };
                    // A client that pauses between two lines holds no memory.
                    if is_between_lines {
                        self.rate = MinDataRate::begin();
                    }
                    match timeout(wait, self.body.frame()).await {
                        Ok(None) => None,
                        Ok(Some(Err(error))) => return Err(unreadable(&error)),
                        Ok(Some(Ok(frame))) => Some(frame.into_data().unwrap_or_default()),
                        Err(_) if has_inputs => return Ok(LineEvent::Pause),
                        Err(_) => {
                            let detail = format!("no input came for {MAP_UPLOAD_IDLE:?}");
                            return Err(Problem::new(Code::BodyTimeout, detail));
                        }
                    }
                }
            };
            match part {
                None => self.is_over = true,
                Some(part) => {
                    self.reservation.grow(part.len())?;
                    self.buffer.extend_from_slice(&part);
                }
            }
        }
    }
}

/// Takes the first line out of `buffer`, whose first `scanned` bytes hold no line end.
pub(super) fn next_line(buffer: &mut BytesMut, scanned: &mut usize) -> Option<Bytes> {
    match memchr::memchr(b'\n', &buffer[*scanned..]) {
        Some(end) => {
            let line = buffer.split_to(*scanned + end + 1).freeze();
            *scanned = 0;
            Some(line)
        }
        None => {
            *scanned = buffer.len();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_whatever_parts_they_come_in_and_no_byte_is_scanned_twice() {
        let (mut buffer, mut scanned, mut lines) = (BytesMut::new(), 0, Vec::new());
        for part in ["a", "bc\nd", "", "e\n\nf"] {
            buffer.extend_from_slice(part.as_bytes());
            while let Some(line) = next_line(&mut buffer, &mut scanned) {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            }
            assert_eq!(scanned, buffer.len());
        }
        assert_eq!(lines, ["abc\n", "de\n", "\n"]);
        assert_eq!(&buffer[..], b"f");
    }
}
