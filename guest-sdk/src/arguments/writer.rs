//! Writer of inputs, on the caller's side.

use serde::Serialize;

use super::invalid;
use crate::failure::Result;
use crate::payload::{JSON, Payload};

/// Writes an input in its named form.
#[derive(Debug)]
pub struct ArgumentsWriter {
    json: Vec<u8>,
}

impl ArgumentsWriter {
    /// Begins an input.
    #[expect(clippy::new_without_default, reason = "only the macro's code begins one")]
    pub fn new() -> Self {
        Self { json: vec![b'{'] }
    }

    /// Adds one argument; `name` is an identifier, so it needs no escapes.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        self.json.push(b'"');
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        serde_json::to_writer(&mut self.json, value)
            .map_err(|error| invalid(format!("parameter `{name}` cannot be written as JSON: {error}")))
    }

    /// Ends the input.
    pub fn finish(mut self) -> Payload {
        self.json.push(b'}');
        Payload { content_type: JSON.to_owned(), data: self.json }
    }
}
