//! Files of requests and tensors.

use bytes::Bytes;

use crate::cli::exit::Exit;
use crate::cli::{bounded_input, output};
use crate::codes::Code;

/// Reads a file of at most `bytes_max`, or standard input for `-`.
pub(super) fn read(path: &str, bytes_max: u64) -> Result<Bytes, Exit> {
    let bytes = bounded_input::read(path, bytes_max)
        .map_err(|error| Exit::new(Code::InputsUnreadable, format!("cannot read `{path}`: {error}")))?;
    let too_large = || Exit::new(Code::InputTooLarge, format!("`{path}` is over {}", output::bytes(bytes_max)));
    bytes.map(Bytes::from).ok_or_else(too_large)
}
