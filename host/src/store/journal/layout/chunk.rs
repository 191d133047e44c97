//! Chunk: consecutive inputs of a map, in one row.

use super::codec::{CodecError, Reader, put_bytes, put_stored, put_u64};
use crate::storage::{CHUNK_BYTES_MAX, CHUNK_LEN_MAX, StoredPayload};

const FORMAT: u8 = 1;

/// Writes inputs as a row.
pub(crate) fn encode(inputs: &[StoredPayload]) -> Vec<u8> {
    let bytes: usize = inputs.iter().map(|input| input.row_bytes() + 8).sum();
    let mut row = Vec::with_capacity(bytes + 8);
    row.push(FORMAT);
    put_u64(&mut row, inputs.len() as u64);
    inputs.iter().for_each(|input| put_stored(&mut row, input));
    row
}

/// Reads the inputs of a row.
pub(crate) fn decode(row: Vec<u8>) -> Result<Vec<StoredPayload>, CodecError> {
    let mut reader = Reader::new(row);
    let len = header(&mut reader)?;
    // A length is believed as far as inputs follow.
    let mut inputs = Vec::with_capacity(len.min(CHUNK_LEN_MAX));
    for _ in 0..len {
        inputs.push(reader.stored()?);
    }
    if reader.is_empty() { Ok(inputs) } else { Err(CodecError("a chunk is followed by more")) }
}

fn header(reader: &mut Reader) -> Result<usize, CodecError> {
    if reader.byte()? != FORMAT {
        return Err(CodecError("a chunk is of an unknown format"));
    }
    usize::try_from(reader.u64()?).map_err(|_| CodecError("a chunk is too long"))
}

/// Reads how many inputs a row has, without reading them.
pub(crate) fn len(row: &[u8]) -> Result<usize, CodecError> {
    header(&mut Reader::new(row[..row.len().min(16)].to_vec()))
}

/// Splits inputs into chunks, in order. No chunk is empty.
pub(crate) fn split(inputs: Vec<StoredPayload>) -> Vec<Vec<StoredPayload>> {
    let mut chunks: Vec<Vec<StoredPayload>> = Vec::new();
    let mut bytes = 0;
    for input in inputs {
        let is_full = chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_LEN_MAX || bytes >= CHUNK_BYTES_MAX);
        if is_full {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += input.row_bytes();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(input);
        }
    }
    chunks
}

/// Writes one input or output that stands in a row of its own.
pub(crate) fn encode_one(stored: &StoredPayload) -> Vec<u8> {
    let mut row = vec![FORMAT];
    put_stored(&mut row, stored);
    row
}

/// Reads such a row.
pub(crate) fn decode_one(row: Vec<u8>) -> Result<StoredPayload, CodecError> {
    let mut reader = Reader::new(row);
    if reader.byte()? != FORMAT {
        return Err(CodecError("a payload is of an unknown format"));
    }
    reader.stored()
}

/// Writes a failure.
pub(super) fn put_json<T: serde::Serialize>(row: &mut Vec<u8>, value: &T) {
    put_bytes(row, &serde_json::to_vec(value).expect("records have string keys only"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Payload;

    fn input(bytes: usize) -> StoredPayload {
        StoredPayload::inline(Payload::json(vec![b'1'; bytes]))
    }

    #[test]
    fn chunks_are_full_by_length_or_by_bytes() {
        let lens = |inputs| split(inputs).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(vec![]), [0_usize; 0]);
        assert_eq!(lens(vec![input(1); CHUNK_LEN_MAX * 2 + 1]), [CHUNK_LEN_MAX, CHUNK_LEN_MAX, 1]);
        assert_eq!(lens(vec![input(CHUNK_BYTES_MAX / 2); 5]), [2, 2, 1]);
        assert_eq!(lens(vec![input(CHUNK_BYTES_MAX * 2); 2]), [1, 1]);
    }

    #[test]
    fn a_chunk_is_read_as_it_was_written_and_a_damaged_one_is_refused() {
        let inputs = vec![input(3), StoredPayload { content_type: "text/plain".to_owned(), ..input(0) }];
        let row = encode(&inputs);
        assert_eq!(len(&row), Ok(2));
        assert_eq!(decode(row.clone()), Ok(inputs));
        for cut in 0..row.len() {
            assert!(decode(row[..cut].to_vec()).is_err(), "{cut}");
        }
        assert!(decode([row, vec![0]].concat()).is_err());
    }
}
