//! A stream of a map's inputs: lines are kept as inputs while they come, and the map is closed at their end.
//!
//! Invariants: bytes that wait to be written take room of the request bodies' budget; each byte is scanned once; a stream that
//! breaks closes its map, which ends with the inputs that it has.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body::{Room, stalled, unreadable};
use super::durable;
use super::problem::Problem;
use crate::call::Payload;
use crate::codes::Code;
use crate::dispatch::Durable;
use crate::ids::MapId;
use crate::limits::{HTTP_BODY_STALL_TIMEOUT, MAP_INPUTS_BODY_BYTES_MAX, MAP_UPLOAD_IDLE};

/// Inputs of a stream that one write takes.
const APPEND_LEN_MAX: usize = 4_096;
const APPEND_BYTES_MAX: usize = 4 << 20;
/// How long a stream may pause before the inputs that came are written.
const APPEND_PAUSE: Duration = Duration::from_millis(5);
/// How long a map waits to be made for its first input.
const FIRST_INPUT_WAIT: Duration = Duration::from_secs(1);

/// A body of lines, its first input read.
pub struct Upload {
    lines: Lines,
    takes_bytes: bool,
    /// Inputs that are not written.
    inputs: Vec<Payload>,
    bytes: usize,
    /// Inputs that are written.
    accepted: u64,
}

impl Upload {
    /// Reads the first input, so that a body that is no JSON Lines makes no map. A client that sends none within
    /// `FIRST_INPUT_WAIT` may be waiting for the answer's head, and gets a map.
    pub async fn begin(body: Incoming, room: Room, takes_bytes: bool) -> Result<Self, Problem> {
        let lines = Lines::new(body, room);
        let mut upload = Self { lines, takes_bytes, inputs: Vec::new(), bytes: 0, accepted: 0 };
        timeout(FIRST_INPUT_WAIT, upload.first()).await.unwrap_or(Ok(()))?;
        Ok(upload)
    }

    async fn first(&mut self) -> Result<(), Problem> {
        while self.inputs.is_empty() {
            match self.lines.next(false).await? {
                Next::Line(line) => self.take(&line)?,
                Next::End => break,
                Next::Pause => {}
            }
        }
        Ok(())
    }

    /// Keeps the inputs, and closes the map.
    pub async fn run(mut self, durable: &Arc<Durable>, id: MapId) -> Result<(), Problem> {
        let ended = self.read(durable, id).await;
        // Those before the fault are as good as any.
        let appended = self.append(durable, id).await;
        let closed = durable.close_map(id).await;
        let accepted = self.accepted;
        ended.map_err(|problem| {
            let detail = format!("{}; the map is closed, and ends with the {accepted} inputs before", problem.detail);
            Problem { detail, ..problem }
        })?;
        appended?;
        closed?;
        Ok(())
    }

    async fn read(&mut self, durable: &Arc<Durable>, id: MapId) -> Result<(), Problem> {
        loop {
            match self.lines.next(!self.inputs.is_empty()).await? {
                Next::Line(line) => self.take(&line)?,
                Next::End => return Ok(()),
                Next::Pause => self.append(durable, id).await?,
            }
            if self.inputs.len() >= APPEND_LEN_MAX || self.bytes >= APPEND_BYTES_MAX {
                self.append(durable, id).await?;
            }
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Problem> {
        let text = line.trim_ascii();
        if !text.is_empty() {
            let index = self.accepted + self.inputs.len() as u64;
            let input = durable::input(text, self.takes_bytes).map_err(|why| bad_input(index, &why))?;
            self.inputs.push(input);
        }
        self.bytes += line.len();
        Ok(())
    }

    async fn append(&mut self, durable: &Arc<Durable>, id: MapId) -> Result<(), Problem> {
        if !self.inputs.is_empty() {
            let inputs = std::mem::take(&mut self.inputs);
            self.accepted = durable.append(id, Some(self.accepted), inputs).await?;
        }
        self.lines.room.give_back(std::mem::take(&mut self.bytes));
        Ok(())
    }
}

/// An input that cannot be read.
pub fn bad_input(index: u64, why: &str) -> Problem {
    Problem::new(Code::InvalidInput, format!("input {index} {why}; nothing of this request from there on was accepted"))
}

enum Next {
    /// With its end. Its room is the reader's to give back.
    Line(Bytes),
    /// Nothing comes at the moment.
    Pause,
    End,
}

/// The lines of a body.
struct Lines {
    body: Incoming,
    room: Room,
    /// Bytes that came and were not taken.
    buffer: BytesMut,
    /// Of those, bytes without a line end.
    scanned: usize,
    is_over: bool,
}

impl Lines {
    fn new(body: Incoming, room: Room) -> Self {
        Self { body, room, buffer: BytesMut::new(), scanned: 0, is_over: false }
    }

    /// Waits for the next line. `Pause` only where the reader `has_inputs` to write meanwhile.
    async fn next(&mut self, has_inputs: bool) -> Result<Next, Problem> {
        loop {
            if let Some(line) = next_line(&mut self.buffer, &mut self.scanned) {
                return Ok(Next::Line(line));
            }
            if self.is_over {
                let rest = self.buffer.copy_to_bytes(self.buffer.len());
                self.scanned = 0;
                return Ok(if rest.is_empty() { Next::End } else { Next::Line(rest) });
            }
            if self.buffer.len() as u64 > MAP_INPUTS_BODY_BYTES_MAX {
                let detail = format!("a line is over {MAP_INPUTS_BODY_BYTES_MAX} bytes; is this JSON Lines?");
                return Err(Problem::new(Code::InputTooLarge, detail));
            }
            let patience = match (has_inputs, self.buffer.is_empty()) {
                (true, _) => APPEND_PAUSE,
                (false, true) => MAP_UPLOAD_IDLE,
                (false, false) => HTTP_BODY_STALL_TIMEOUT,
            };
            match timeout(patience, self.body.frame()).await {
                Ok(None) => self.is_over = true,
                Ok(Some(Err(error))) => return Err(unreadable(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(part) = frame.into_data() {
                        self.room.take(part.len())?;
                        self.buffer.extend_from_slice(&part);
                    }
                }
                Err(_) if has_inputs => return Ok(Next::Pause),
                Err(_) if self.buffer.is_empty() => {
                    let detail = format!("no input came for {MAP_UPLOAD_IDLE:?}");
                    return Err(Problem::new(Code::BodyTimeout, detail));
                }
                Err(_) => return Err(stalled()),
            }
        }
    }
}

/// Takes the first line out of `buffer`, of which `scanned` bytes are known to hold no line end.
fn next_line(buffer: &mut BytesMut, scanned: &mut usize) -> Option<Bytes> {
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
