//! Inputs of a map, read line by line in chunks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::codes::Code;

/// Lines per chunk.
const CHUNK_LINES: usize = 256;
/// Bytes that end a chunk early.
const CHUNK_BYTES: usize = 1 << 20;
/// Longest line or file; the call itself checks the function's own limit (8 MiB by default).
const INPUT_BYTES_MAX: u64 = 64 << 20;
/// Chunks in the queue between the reader and the map.
const CHUNKS_WAITING: usize = 2;

/// Format of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineFormat {
    /// Paths of files that hold the inputs.
    pub are_paths: bool,
    /// Raw bytes rather than JSON.
    pub are_bytes: bool,
}

/// Receiver of chunks.
pub(crate) struct Inputs {
    first: Option<io::Result<Vec<Payload>>>,
    rest: mpsc::Receiver<io::Result<Vec<Payload>>>,
}

impl Inputs {
    /// Waits for the first chunk, so that unreadable inputs fail before a map is created for them.
    pub(crate) async fn begin(&mut self) -> io::Result<()> {
        self.first = self.rest.recv().await.transpose()?.map(Ok);
        Ok(())
    }

    /// Waits for the next chunk; `None` at the end. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<io::Result<Vec<Payload>>> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.rest.recv().await,
        }
    }

    /// Blocking `recv`.
    pub(crate) fn blocking_recv(&mut self) -> Option<io::Result<Vec<Payload>>> {
        self.first.take().or_else(|| self.rest.blocking_recv())
    }

    /// Whether no chunk is ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}

/// Starts a thread that reads lines: a blocking read of standard input cannot be cancelled.
pub(crate) fn open(inputs: &str, lines: LineFormat) -> Result<Inputs, Exit> {
    let reader: Box<dyn Read + Send> = if inputs == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(inputs).map_err(|error| {
            Exit::new(Code::InputsUnreadable, format!("cannot open the inputs `{inputs}`: {error}"))
        })?)
    };
    let reader = BufReader::with_capacity(1 << 16, reader);
    let (chunks, rest) = mpsc::channel(CHUNKS_WAITING);
    std::thread::Builder::new().name("inputs".into()).spawn(move || read_lines(reader, lines, &chunks))?;
    Ok(Inputs { first: None, rest })
}

/// Counts the inputs of a regular file, standard input included; `None` for anything else. Reads all of the file.
pub(crate) fn count(inputs: &str) -> Option<u64> {
    // Opened anew, so that the reader's place in it stays as it is.
    let path = if inputs == "-" { "/dev/stdin" } else { inputs };
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    count_lines(BufReader::with_capacity(1 << 16, File::open(path).ok()?)).ok()
}

/// Counts the lines that are not blank.
pub(super) fn count_lines(mut reader: impl BufRead) -> io::Result<u64> {
    let (mut count, mut is_blank) = (0, true);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(count + u64::from(!is_blank));
        }
        for part in buffer.split_inclusive(|byte| *byte == b'\n') {
            is_blank &= part.trim_ascii().is_empty();
            if part.ends_with(b"\n") {
                count += u64::from(!is_blank);
                is_blank = true;
            }
        }
        let len = buffer.len();
        reader.consume(len);
    }
}

fn read_lines<R: Read>(mut reader: BufReader<R>, lines: LineFormat, chunks: &mpsc::Sender<io::Result<Vec<Payload>>>) {
    loop {
        match read_chunk(&mut reader, lines) {
            Ok(chunk) if chunk.is_empty() => return,
            Ok(chunk) => {
                if chunks.blocking_send(Ok(chunk)).is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        }
    }
}

/// Reads one line, and more while they are buffered; empty at the end. So a slow producer gets each result at once, and
/// a fast one is read in large chunks.
pub(super) fn read_chunk<R: Read>(reader: &mut BufReader<R>, lines: LineFormat) -> io::Result<Vec<Payload>> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(INPUT_BYTES_MAX + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok(chunk);
        }
        if line.len() as u64 > INPUT_BYTES_MAX {
            let message = format!("a line of the inputs is over {} MiB; is this JSON Lines?", INPUT_BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let is_blank = line.trim_ascii().is_empty();
        if !is_blank {
            let input = lines.payload(line)?;
            bytes += input.data.len();
            chunk.push(input);
        }
        let is_full = chunk.len() >= CHUNK_LINES || bytes >= CHUNK_BYTES;
        if !chunk.is_empty() && (is_full || !reader.buffer().contains(&b'\n')) {
            return Ok(chunk);
        }
    }
}

impl LineFormat {
    fn payload(self, mut line: Vec<u8>) -> io::Result<Payload> {
        if self.are_paths {
            let path = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            let bytes = read_file(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot read the input `{path}`: {error}")))?;
            return Ok(match self.are_bytes {
                true => Payload { content_type: "application/octet-stream".to_owned(), data: bytes.into() },
                false => Payload::json(bytes),
            });
        }
        if self.are_bytes {
            let end = line.strip_suffix(b"\n").unwrap_or(&line);
            let end = end.strip_suffix(b"\r").unwrap_or(end).len();
            line.truncate(end);
            return Ok(Payload { content_type: "text/plain".to_owned(), data: line.into() });
        }
        Ok(Payload::json(line.trim_ascii().to_vec()))
    }
}

fn read_file(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("over {} MiB", INPUT_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_as_they_are_read_without_the_blank_ones() {
        let count = |text: &str, capacity| count_lines(BufReader::with_capacity(capacity, text.as_bytes())).unwrap();
        for capacity in [1, 3, 1 << 10] {
            assert_eq!(count("1\n\n  \r\n\"two\"  \n3", capacity), 3, "{capacity}");
            assert_eq!(count("", capacity), 0);
            assert_eq!(count("1\n2\n", capacity), 2);
        }
    }
}
