//! Files of requests and tensors.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;

use crate::cli::exit::Exit;
use crate::cli::output;
use crate::codes::Code;

/// Reads a file of at most `bytes_max`, or standard input for `-`.
pub(super) fn read(path: &str, bytes_max: u64) -> Result<Bytes, Exit> {
    let read = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader.take(bytes_max + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes =
        if path == "-" { read(&mut io::stdin()) } else { File::open(path).and_then(|mut file| read(&mut file)) };
    let bytes = bytes.map_err(|error| Exit::new(Code::InputsUnreadable, format!("cannot read `{path}`: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Exit::new(Code::InputTooLarge, format!("`{path}` is over {}", output::bytes(bytes_max))));
    }
    Ok(bytes.into())
}
