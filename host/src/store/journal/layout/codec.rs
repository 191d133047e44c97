//! Codec of chunks and segments: varints (LEB128), and lengths before bytes.
//!
//! A row may be damaged, so a reader never trusts a length further than the bytes that are there.

use bytes::Bytes;

use crate::call::JSON;
use crate::storage::{PayloadPlace, StoredPayload};

/// Reason why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CodecError(pub &'static str);

const JSON_INLINE: u8 = 0;
const INLINE: u8 = 1;
const IN_FILE: u8 = 2;

pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_stored(out: &mut Vec<u8>, stored: &StoredPayload) {
    match &stored.at {
        PayloadPlace::Inline(data) if stored.content_type == JSON => {
            out.push(JSON_INLINE);
            put_bytes(out, data);
        }
        PayloadPlace::Inline(data) => {
            out.push(INLINE);
            put_bytes(out, stored.content_type.as_bytes());
            put_bytes(out, data);
        }
        PayloadPlace::File { digest, bytes } => {
            out.push(IN_FILE);
            put_bytes(out, stored.content_type.as_bytes());
            out.extend_from_slice(digest);
            put_u64(out, *bytes);
        }
    }
}

/// Reads what the functions above wrote. Slices share the row's memory.
pub(crate) struct Reader {
    row: Bytes,
}

impl Reader {
    pub(crate) fn new(row: Vec<u8>) -> Self {
        Self { row: row.into() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// Returns all that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.row)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError("a number is longer than 64 bits"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        u32::try_from(self.u64()?).map_err(|_| CodecError("a number is longer than 32 bits"))
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, CodecError> {
        if len > self.row.len() {
            return Err(CodecError("it ends early"));
        }
        Ok(self.row.split_to(len))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let len = usize::try_from(self.u64()?).map_err(|_| CodecError("a length is too long"))?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<String, CodecError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| CodecError("a text is not UTF-8"))
    }

    pub(crate) fn stored(&mut self) -> Result<StoredPayload, CodecError> {
        match self.byte()? {
            JSON_INLINE => Ok(StoredPayload { content_type: JSON.to_owned(), at: PayloadPlace::Inline(self.bytes()?) }),
            INLINE => Ok(StoredPayload { content_type: self.text()?, at: PayloadPlace::Inline(self.bytes()?) }),
            IN_FILE => {
                let content_type = self.text()?;
                let digest = self.take(32)?.as_ref().try_into().map_err(|_| CodecError("a digest is short"))?;
                Ok(StoredPayload { content_type, at: PayloadPlace::File { digest, bytes: self.u64()? } })
            }
            _ => Err(CodecError("an unknown kind of payload")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(numbers in proptest::collection::vec(any::<u64>(), 0..50), text in ".{0,40}", data in proptest::collection::vec(any::<u8>(), 0..40)) {
            let stored = [
                StoredPayload { content_type: JSON.to_owned(), at: PayloadPlace::Inline(data.clone().into()) },
                StoredPayload { content_type: text.clone(), at: PayloadPlace::Inline(data.clone().into()) },
                StoredPayload { content_type: text, at: PayloadPlace::File { digest: [7; 32], bytes: 1 << 40 } },
            ];
            let mut row = Vec::new();
            numbers.iter().for_each(|number| put_u64(&mut row, *number));
            stored.iter().for_each(|stored| put_stored(&mut row, stored));
            let mut reader = Reader::new(row);
            for number in numbers {
                prop_assert_eq!(reader.u64().unwrap(), number);
            }
            for stored in stored {
                prop_assert_eq!(reader.stored().unwrap(), stored);
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn anything_else_is_an_error_or_a_value_but_no_panic(row in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(row);
            while reader.stored().is_ok() {}
        }
    }
}
