//! Input of a call from a file or standard input: JSON, or bytes for a function that takes bytes.

use bytes::Bytes;
use clap::Args;

use super::invalid;
use crate::app::metadata::FunctionInfo;
use crate::call::Payload;
use crate::cli::bounded_input;
use crate::cli::exit::Exit;
use crate::codes::Code;

/// Largest file that is read; the call itself checks the function's own limit (8 MiB by default).
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Default media type of bytes.
const OCTET_STREAM: &str = "application/octet-stream";

/// Flags that name the file and its media type.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputFile {
    /// Read the input from FILE (`-` for standard input): JSON, or the bytes as they are if the function takes bytes.
    #[arg(long = "input", value_name = "FILE")]
    pub path: Option<String>,
    /// Media type of the bytes. The default is application/octet-stream.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
}

impl InputFile {
    /// Reads a flag behind the target; returns whether it is one of these.
    pub(crate) fn take(&mut self, name: &str, value: impl FnOnce() -> Result<String, Exit>) -> Result<bool, Exit> {
        match name {
            "input" => self.path = Some(value()?),
            "content_type" => self.content_type = Some(value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads the file at `path`, or standard input for `-`.
pub(crate) fn read(function: &FunctionInfo, path: &str, content_type: Option<String>) -> Result<Payload, Exit> {
    let bytes = bounded_input::read(path, FILE_BYTES_MAX)
        .map_err(|error| Exit::new(Code::InputsUnreadable, format!("cannot read the input `{path}`: {error}")))?;
    let Some(bytes) = bytes else {
        return Err(invalid::error(function, format!("the input `{path}` is over {} MiB", FILE_BYTES_MAX >> 20)));
    };
    if function.takes_bytes() {
        let content_type = content_type.unwrap_or_else(|| OCTET_STREAM.to_owned());
        return Ok(Payload { content_type, data: Bytes::from(bytes) });
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        invalid::error(function, format!("the input `{path}` is not JSON: it is not UTF-8 ({error})"))
    })?;
    Ok(Payload::json(invalid::parse_json(function, text)?.to_string()))
}
