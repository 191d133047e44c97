//! Upload of a map's inputs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::client::{self, Answer, Client};
use super::paths;
use super::reconnect::Reconnect;
use crate::api::{InputsAccepted, Map};
use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::cli::map_inputs::Inputs;
use crate::codes::Code;

/// Bytes of inputs that fill a request.
const REQUEST_BYTES: usize = 1 << 20;
/// Inputs that fill a request.
const REQUEST_LEN: u64 = 4_096;

/// Sends inputs to one map. A request is repeated until it is answered: the host skips inputs that it has.
struct Upload<'a> {
    client: &'a Client,
    id: &'a str,
    /// Inputs that the host has.
    accepted: &'a AtomicU64,
    stop: &'a AtomicBool,
}

/// Sends all inputs that the host does not have, then closes the map.
pub(crate) fn upload(
    client: &Client,
    id: &str,
    mut inputs: Inputs,
    accepted: &AtomicU64,
    stop: &AtomicBool,
) -> Result<(), Exit> {
    let upload = Upload { client, id, accepted, stop };
    // The last input that the host has is sent again, which detects inputs of another map.
    let known = accepted.load(Ordering::Relaxed);
    let skipped = known.saturating_sub(1);
    let (mut index, mut body, mut len) = (0_u64, Vec::new(), 0_u64);
    while let Some(chunk) = inputs.blocking_recv() {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        for input in chunk? {
            index += 1;
            if index > skipped {
                write_line(&mut body, &input);
                len += 1;
            }
            if body.len() >= REQUEST_BYTES || len >= REQUEST_LEN {
                upload.send(index - len, &mut body)?;
                len = 0;
            }
        }
        // A slow producer: send what is there.
        if len > 0 && inputs.is_empty() {
            upload.send(index - len, &mut body)?;
            len = 0;
        }
    }
    if index < known {
        return Err(Exit::usage(format!(
            "the map has {known} inputs already, and these are {index}: are they of another map?"
        )));
    }
    if len > 0 {
        upload.send(index - len, &mut body)?;
    }
    upload.close()
}

impl Upload<'_> {
    /// Sends the inputs in `body`, of which the first has the index `from`, and clears it.
    fn send(&self, from: u64, body: &mut Vec<u8>) -> Result<(), Exit> {
        let mut reconnect = Reconnect::default();
        let path = paths::map(self.id, "/inputs")?;
        loop {
            let sent = self.client.post(&path, &[("from", from.to_string())], "application/x-ndjson", body);
            let answer: Result<Answer<InputsAccepted>, Exit> = sent.and_then(client::answer);
            match answer {
                Ok(answer) => {
                    self.accepted.store(answer.document.accepted, Ordering::Relaxed);
                    body.clear();
                    return Ok(());
                }
                Err(exit) if matches!(exit.code, Code::NoHost | Code::DiskFull) && !self.is_stopped() => {
                    reconnect.wait(exit)?;
                }
                Err(exit) => return Err(exit),
            }
        }
    }

    /// Closes the map: no more inputs.
    fn close(&self) -> Result<(), Exit> {
        let mut reconnect = Reconnect::default();
        loop {
            match self.client.send::<Map>("POST", &paths::map(self.id, "/close")?, &[]) {
                Ok(_) => return Ok(()),
                Err(exit) if exit.code == Code::NoHost && !self.is_stopped() => reconnect.wait(exit)?,
                Err(exit) => return Err(exit),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Appends an input as one JSON line.
fn write_line(body: &mut Vec<u8>, input: &Payload) {
    if input.is_json() {
        // A line end between JSON tokens is white space; inside tokens JSON has none.
        body.extend(input.data.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    } else {
        let object = json!({ "content_type": input.content_type, "base64": BASE64.encode(&input.data) });
        body.extend_from_slice(object.to_string().as_bytes());
    }
    body.push(b'\n');
}
