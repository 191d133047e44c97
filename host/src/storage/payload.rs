//! Payload as the journal keeps it: in a row, or in a file of its own.

use bytes::Bytes;

use crate::call::Payload;

/// A payload as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPayload {
    pub content_type: String,
    pub at: PayloadPlace,
}

/// Where the bytes of a payload are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadPlace {
    Inline(Bytes),
    /// In a file that is named by its SHA-256.
    File {
        digest: [u8; 32],
        bytes: u64,
    },
}

impl StoredPayload {
    /// A payload whose bytes lie beside everything else.
    pub(crate) fn inline(payload: Payload) -> Self {
        Self { content_type: payload.content_type, at: PayloadPlace::Inline(payload.data) }
    }

    /// Returns what it takes in a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.content_type.len()
            + match &self.at {
                PayloadPlace::Inline(data) => data.len(),
                PayloadPlace::File { .. } => 40,
            }
    }
}
