//! A stream of a map's inputs: lines are kept as inputs while they come, and the map is closed at their end.
//!
//! Invariants: bytes that wait to be written take room of the request bodies' budget; each byte is scanned once; a
//! stream that breaks by its client's fault closes its map, which ends with the inputs that it has.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use dashmap::DashMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::timeout;

use super::body::{Pace, Room, unreadable};
use super::durable;
use super::problem::Problem;
use crate::call::Payload;
use crate::codes::Code;
use crate::dispatch::Durable;
use crate::ids::MapId;
use crate::limits::{MAP_INPUTS_BODY_BYTES_MAX, MAP_UPLOAD_IDLE};

/// Inputs of a stream that one write takes.
const APPEND_LEN_MAX: usize = 4_096;
const APPEND_BYTES_MAX: usize = 4 << 20;
/// Pause of a stream after which the inputs that came are written.
const APPEND_PAUSE: Duration = Duration::from_millis(5);
/// Wait for the first input before the map is made without it.
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

    /// Keeps the inputs, and closes the map at their end, or where the stream breaks, unless another stream feeds it, too.
    /// A host that ends or cannot write leaves the map open, so that the client can go on.
    pub async fn run(
        mut self,
        durable: &Arc<Durable>,
        id: MapId,
        feeding: &Feeding,
        mut closing: watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        let ended = self.read(durable, id, &mut closing).await;
        // Inputs before a fault are as good as any.
        let appended = self.append(durable, id).await;
        match ended.and_then(|()| appended.clone()) {
            Ok(()) => {
                durable.close_map(id).await?;
                Ok(())
            }
            Err(Broken::Client(code, detail)) if appended.is_ok() && feeding.is_alone() => {
                let accepted = self.accepted;
                durable.close_map(id).await?;
                let detail = format!("{detail}; the map is closed, and ends with the {accepted} inputs before");
                Err(Problem::new(code, detail))
            }
            // What the map itself refuses is no reason to go on.
            Err(Broken::Host(code @ (Code::MapClosed | Code::InputDiffers), detail)) => Err(Problem::new(code, detail)),
            Err(Broken::Client(code, detail) | Broken::Host(code, detail)) => {
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
    ) -> Result<(), Broken> {
        loop {
            // Only a wait for the client is broken off: a write goes to its end.
            let next = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => {
                    return Err(Broken::Host(Code::Unavailable, SHUTTING_DOWN.to_owned()));
                }
                next = self.lines.next(!self.inputs.is_empty()) => next?,
            };
            match next {
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

    async fn append(&mut self, durable: &Arc<Durable>, id: MapId) -> Result<(), Broken> {
        if !self.inputs.is_empty() {
            let inputs = std::mem::take(&mut self.inputs);
            let until = self.accepted + inputs.len() as u64;
            // A map that was found by its key may have more already.
            let appended = durable.append(id, Some(self.accepted), inputs).await;
            appended.map_err(|error| {
                let Problem { code, detail, .. } = error.into();
                Broken::Host(code, detail)
            })?;
            self.accepted = until;
        }
        self.lines.room.give_back(std::mem::take(&mut self.bytes));
        Ok(())
    }
}

/// The streams that feed each map: one that is sent again, with its key, may meet the one that it replaces.
#[derive(Clone, Default)]
pub struct Feeds(Arc<DashMap<MapId, usize>>);

impl Feeds {
    /// Counts a stream of a map until the result is dropped.
    pub fn begin(&self, map: MapId) -> Feeding {
        *self.0.entry(map).or_default() += 1;
        Feeding { feeds: self.clone(), map }
    }
}

/// One stream of a map.
pub struct Feeding {
    feeds: Feeds,
    map: MapId,
}

impl Feeding {
    fn is_alone(&self) -> bool {
        self.feeds.0.get(&self.map).is_none_or(|streams| *streams <= 1)
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.feeds.0.remove_if_mut(&self.map, |_, streams| {
            *streams -= 1;
            *streams == 0
        });
    }
}

const SHUTTING_DOWN: &str = "the host is shutting down";

/// Why a stream ended early.
#[derive(Clone)]
enum Broken {
    /// By its client, or by what it sent.
    Client(Code, String),
    /// By the host: its disk, its end, a map that takes no more.
    Host(Code, String),
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        match problem.code {
            Code::Overloaded => Self::Host(problem.code, problem.detail),
            code => Self::Client(code, problem.detail),
        }
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
    /// Of the line that has begun.
    pace: Pace,
    is_over: bool,
}

impl Lines {
    fn new(body: Incoming, room: Room) -> Self {
        Self { body, room, buffer: BytesMut::new(), scanned: 0, pace: Pace::begin(), is_over: false }
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
            let part = match (has_inputs, self.buffer.is_empty()) {
                (false, false) => self.pace.next(&mut self.body).await?,
                (has_inputs, is_between_lines) => {
                    let patience = if has_inputs { APPEND_PAUSE } else { MAP_UPLOAD_IDLE };
                    // Nothing is held for a client that pauses between two lines.
                    if is_between_lines {
                        self.pace = Pace::begin();
                    }
                    match timeout(patience, self.body.frame()).await {
                        Ok(None) => None,
                        Ok(Some(Err(error))) => return Err(unreadable(&error)),
                        Ok(Some(Ok(frame))) => Some(frame.into_data().unwrap_or_default()),
                        Err(_) if has_inputs => return Ok(Next::Pause),
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
                    self.room.take(part.len())?;
                    self.buffer.extend_from_slice(&part);
                }
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
