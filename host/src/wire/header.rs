//! The head of a frame, and the names, limits and errors that all frames share.

use std::fmt;

/// Begins each frame; the last byte is the version.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BRM\x03");
/// Bytes of a header.
pub const HEADER_BYTES: usize = 24;
/// Longest body.
pub(crate) const BODY_BYTES_MAX: u64 = 256 << 20;

/// Kind of the answer to `Describe`, whose body has a limit of its own.
pub(super) const DESCRIBED: u32 = 13;
/// Bytes of a model's text side: a vocabulary at its limit, and 1 MiB of labels.
const DESCRIBED_BYTES_MAX: u64 = 48 << 20;

/// Requests of one `Infer`.
pub(crate) const ITEMS_MAX: usize = 4_096;
/// Tensors of one request.
pub(crate) const TENSORS_MAX: usize = 256;

/// A model, by its number on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelId(pub u32);

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the frame's kind, 1 to 13; [`Frame::decode`](super::Frame::decode) refuses others.
    pub kind: u32,
    /// Chosen by the host; the reply carries it back.
    pub job: u64,
    /// Length of the body in bytes, 256 MiB at most.
    pub body_bytes: usize,
    /// The body is in the shared memory, not behind the header.
    pub is_placed: bool,
}

/// Bit of a body's length: the body is in the shared memory.
const PLACED: u64 = 1 << 63;

/// A failure that the worker survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FailureKind {
    /// The model's files cannot be used.
    Load = 1,
    /// The batch does not fit the model.
    BadBatch = 2,
    /// The device has no room for the batch or the model.
    OutOfMemory = 3,
    /// The device failed: its context is not lost, and the batch is not at fault.
    Device = 4,
}

/// A frame that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    #[error("the frame begins with {found:#010x}, not {MAGIC:#010x}: not a worker of this version")]
    Magic { found: u32 },
    #[error("the frame's body is {bytes} bytes, over the limit of {bytes_max}")]
    TooLong { bytes: u64, bytes_max: u64 },
    #[error("the frame is of an unknown kind {found}")]
    Kind { found: u32 },
    #[error("the frame's body is cut off or inconsistent: {what}")]
    Body { what: &'static str },
}

impl Header {
    /// Returns the header in these bytes; refuses another magic number and a body over 256 MiB.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(0) != MAGIC {
            return Err(WireError::Magic { found: u32_at(0) });
        }
        let (body_bytes, is_placed) = (u64_at(16) & !PLACED, u64_at(16) & PLACED != 0);
        let bytes_max = if u32_at(4) == DESCRIBED { DESCRIBED_BYTES_MAX } else { BODY_BYTES_MAX };
        if body_bytes > bytes_max {
            return Err(WireError::TooLong { bytes: body_bytes, bytes_max });
        }
        Ok(Self { kind: u32_at(4), job: u64_at(8), body_bytes: body_bytes as usize, is_placed })
    }
}

/// Marks a whole frame's header: its body is in the shared memory.
pub(crate) fn mark_placed(header: &mut [u8; HEADER_BYTES]) {
    header[23] |= 0x80;
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::*;

    #[test]
    fn a_foreign_header_is_refused() {
        assert_eq!(Header::parse(&[0; HEADER_BYTES]), Err(WireError::Magic { found: 0 }));
        let mut long = [0; HEADER_BYTES];
        long[..4].copy_from_slice(&MAGIC.to_le_bytes());
        long[16..].copy_from_slice(&u64::MAX.to_le_bytes());
        let too_long = |bytes, bytes_max| Err(WireError::TooLong { bytes, bytes_max });
        assert_eq!(Header::parse(&long), too_long(u64::MAX >> 1, BODY_BYTES_MAX));
        long[4..8].copy_from_slice(&DESCRIBED.to_le_bytes());
        long[16..].copy_from_slice(&(DESCRIBED_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(Header::parse(&long), too_long(DESCRIBED_BYTES_MAX + 1, DESCRIBED_BYTES_MAX));
    }

    #[test]
    fn a_mark_says_where_the_body_is() {
        let mut frame = Vec::new();
        Frame::Check.encode(7, &mut frame);
        let header: &mut [u8; HEADER_BYTES] = frame.first_chunk_mut().unwrap();
        assert!(!Header::parse(header).unwrap().is_placed);
        mark_placed(header);
        let placed = Header::parse(header).unwrap();
        assert_eq!((placed.is_placed, placed.body_bytes, placed.job), (true, 0, 7));
    }
}
