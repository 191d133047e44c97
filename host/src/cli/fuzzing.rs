//! Reader of a map's inputs, for the targets in `fuzz/`.

use std::io::{self, BufReader, Read};

use super::map_inputs::{LineFormat, count_lines, read_chunk};
use crate::call::Payload;

/// Reads all inputs of a map, in chunks, through a buffer of `capacity` bytes.
pub fn inputs(reader: impl Read, capacity: usize, are_bytes: bool) -> io::Result<Vec<Payload>> {
    let (mut reader, lines) = (BufReader::with_capacity(capacity, reader), LineFormat { are_paths: false, are_bytes });
    let mut inputs = Vec::new();
    loop {
        match read_chunk(&mut reader, lines)? {
            chunk if chunk.is_empty() => return Ok(inputs),
            chunk => inputs.extend(chunk),
        }
    }
}

/// Counts the inputs of a map.
pub fn count(reader: impl Read, capacity: usize) -> io::Result<u64> {
    count_lines(BufReader::with_capacity(capacity, reader))
}
