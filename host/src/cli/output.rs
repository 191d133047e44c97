//! Printing: results to stdout, everything else to stderr. A closed pipe is not an error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use base64::Engine;
use serde_json::value::RawValue;

use crate::call::{Failure, FailureCode, Payload};
use crate::logs::printable;

/// Writes one line to stdout. A broken pipe ends the process silently, as in other Unix tools.
pub(crate) fn line(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Err(error) = written {
        leave(&error);
    }
}

/// Writes a result and a line end.
pub(crate) fn bytes_and_newline(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    if let Err(error) = written {
        leave(&error);
    }
}

/// Writes a result: JSON with a line end, bytes without.
pub(crate) fn result(payload: &Payload) {
    if payload.is_json() {
        return bytes_and_newline(&payload.data);
    }
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() && std::str::from_utf8(&payload.data).is_err() {
        let (size, of) = (bytes(payload.data.len() as u64), &payload.content_type);
        return note(&printable(&format!("the result is {size} of `{of}`; send it to a file with `> FILE`")));
    }
    if let Err(error) = stdout.write_all(&payload.data).and_then(|()| stdout.flush()) {
        leave(&error);
    }
}

/// Returns a result as JSON: its own text if it is JSON, else an object of media type and Base64.
pub(crate) fn json(payload: &Payload) -> Result<Cow<'_, RawValue>, Failure> {
    if !payload.is_json() {
        let base64 = base64::engine::general_purpose::STANDARD.encode(&payload.data);
        let object = serde_json::json!({ "content_type": payload.content_type, "base64": base64 });
        return Ok(Cow::Owned(serde_json::value::to_raw_value(&object).expect("string keys only")));
    }
    serde_json::from_slice(&payload.data).map(Cow::Borrowed).map_err(|error| {
        let message = format!("the result is no JSON ({error}); it is said to be `{}`", payload.content_type);
        Failure::new(FailureCode::Failed, message)
    })
}

/// Writes one line to stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Ends the process after a failed write to stdout.
fn leave(error: &io::Error) -> ! {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    note(&format!("error[io]: cannot write to standard output: {error}"));
    std::process::exit(1);
}

/// Formats a size in its largest unit.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Formats microseconds in their largest unit.
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        1_000_000..600_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        600_000_000..7_200_000_000 => format!("{:.0} min", micros as f64 / 6e7),
        _ => format!("{:.1} h", micros as f64 / 3.6e9),
    }
}

/// Formats a count with its noun: `1 call`, `12,345 calls`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", self::count(count as u64), if count == 1 { "" } else { "s" })
}

/// Formats a count in groups of three digits: `12,345`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(12), bytes(1_536), bytes(90_868_376)], ["12 B", "1.5 KiB", "86.7 MiB"]);
        assert_eq!([micros(9), micros(1_500), micros(2_500_000)], ["9 µs", "1.5 ms", "2.5 s"]);
        assert_eq!([micros(599_000_000), micros(600_000_000), micros(7_200_000_000)], ["599.0 s", "10 min", "2.0 h"]);
    }
}
