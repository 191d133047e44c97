//! Escaping of control characters, so that text of guests and files is safe on a terminal.

/// Escapes control characters, so that a guest's text cannot move the reader's cursor or forge a line.
pub(crate) fn printable(text: &str) -> String {
    printable_within(text, usize::MAX).0
}

/// Returns the printable start of a text, in at most `bytes_max` bytes, and the number of bytes of `text` that were
/// cut.
pub(crate) fn printable_within(text: &str, bytes_max: usize) -> (String, usize) {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for (at, c) in text.char_indices() {
        let is_escaped = c.is_control() && c != '\t';
        let len = if is_escaped { c.escape_default().len() } else { c.len_utf8() };
        if len > bytes_max - out.len() {
            return (out, text.len() - at);
        }
        if is_escaped {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    (out, 0)
}
