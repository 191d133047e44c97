//! Rows of the journal, as a damaged file may have them.

use bireme::fuzzing::store::reread;

/// A kind in the first byte, and a row. What is read is the same when it was written and is read again.
pub(super) fn row(input: &[u8]) -> Result<(), String> {
    let (kind, row) = input.split_first().ok_or("no kind")?;
    reread(usize::from(*kind), row)
}
