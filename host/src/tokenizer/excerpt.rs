//! The start of a long text: as much as decides its tokens.

/// The start of a long text, without the parts that cannot change its tokens.
///
/// A model takes 256 or 512 tokens, so 8 MiB of text must not cost 8 MiB of work. BERT splits a text at blanks and
/// punctuation and looks at each word alone, so the first words of a text are the first words of any longer one: an
/// excerpt that gives enough tokens before its last word decides the result. Some text gives few tokens a byte. Runs of
/// blanks become one blank, and runs of ASCII letters and digits are cut one past the length from which on WordPiece
/// calls a word unknown: both give the same tokens. The rest is text made of characters that vanish (combining marks,
/// control characters) or of unbroken foreign words of a KiB: it alone is cut at the limit of `BYTES_TOKEN_MAX`
/// instead.
pub(super) struct Excerpt<'a> {
    rest: std::str::Chars<'a>,
    pub(super) text: String,
    word_chars_max: usize,
    /// The ASCII letters and digits at the end of `text`.
    run: usize,
    is_blank: bool,
}

impl<'a> Excerpt<'a> {
    pub(super) fn new(text: &'a str, word_chars_max: usize) -> Self {
        Self { rest: text.chars(), text: String::new(), word_chars_max, run: 0, is_blank: false }
    }

    /// Grows the excerpt to `bytes` bytes; true if that is the whole text.
    pub(super) fn extend(&mut self, bytes: usize) -> bool {
        while self.text.len() < bytes {
            let Some(character) = self.rest.next() else {
                return true;
            };
            // Control characters that count as blanks in Unicode (U+000B, U+0085) vanish in BERT.
            let is_blank =
                matches!(character, '\t' | '\n' | '\r') || character.is_whitespace() && !character.is_control();
            self.run = if character.is_ascii_alphanumeric() { self.run + 1 } else { 0 };
            if !(is_blank && self.is_blank) && self.run <= self.word_chars_max.saturating_add(1) {
                self.text.push(character);
            }
            self.is_blank = is_blank;
        }
        self.rest.as_str().is_empty()
    }
}
