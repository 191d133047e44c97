//! Bytes of a file or of standard input, within a bound.

use std::fs::File;
use std::io::{self, Read};

/// Reads the file at `path`, or standard input for `-`. Returns `None` if it is over `bytes_max`.
pub(crate) fn read(path: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit = bytes_max.saturating_add(1);
    if path == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}
