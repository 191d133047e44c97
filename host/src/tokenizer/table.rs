//! A tokenizer as plain data: the vocabulary and the settings of BERT's rules.
//!
//! A worker reads it from a model's files, and the host makes a [`Tokenizer`](super::Tokenizer) of it: the host itself
//! parses no file of a model.

/// Bytes of a file that is read. Real ones hold up to 17 MiB.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 20;
/// Tokens of a vocabulary. The largest in use have half a million.
pub(crate) const TOKENS_MAX: usize = 1 << 20;
/// Bytes of all tokens together.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;
/// Bytes of one token, or of a name.
pub(crate) const TOKEN_BYTES_MAX: usize = 4 << 10;
/// Tokens beside the vocabulary, which are looked for in each text.
pub(crate) const ADDED_MAX: usize = 1 << 16;
/// Pieces of a template. Real ones have five.
pub(crate) const PIECES_MAX: usize = 64;
/// Characters of a word that is looked up; the work grows with their square. Real ones have 100.
const WORD_CHARS_MAX: u32 = 1 << 10;
/// Tokens of one text.
pub(super) const LENGTH_MAX: u32 = 1 << 17;
/// First id that no token has: those above stand for sequences.
pub(super) const ID_END: u32 = 1 << 31;

/// A tokenizer's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Tokens of the model, each with its id.
    pub vocabulary: Vec<(u32, String)>,
    /// Tokens that stand for themselves in a text, whatever is around them.
    pub added: Vec<AddedToken>,
    /// Token for words that the vocabulary cannot spell.
    pub unknown: String,
    /// Prefix of the tokens inside a word.
    pub continuation: String,
    /// Characters of the longest word that is not unknown.
    pub word_chars_max: u32,
    /// Changes to the text before it is split; `None` leaves it as it is.
    pub normalizer: Option<Normalizer>,
    /// Tokens around one text.
    pub single: Vec<Piece>,
    /// Tokens around two texts.
    pub pair: Vec<Piece>,
    /// Tokens that the model takes, special ones included.
    pub tokens_max: u32,
}

/// A token that stands for itself in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Id of the token, in the vocabulary or above it.
    pub id: u32,
    /// The token.
    pub content: String,
    /// Whether it counts only between blanks or punctuation.
    pub is_single_word: bool,
    /// Whether it takes the blanks before it.
    pub strips_left: bool,
    /// Whether it takes the blanks behind it.
    pub strips_right: bool,
    /// Whether it is looked for in the normalised text.
    pub is_normalized: bool,
    /// Whether it is special.
    pub is_special: bool,
}

/// BERT's changes to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalizer {
    /// Drops control characters and makes each blank a space.
    pub cleans_text: bool,
    /// Makes each Chinese character a word.
    pub splits_chinese: bool,
    /// Drops accents; `None` does so where it lowers the case.
    pub strips_accents: Option<bool>,
    /// Lowers the case.
    pub lowers_case: bool,
}

/// A part of what a model is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Content of the part.
    pub slot: Slot,
    /// Segment of its tokens.
    pub segment: u32,
}

/// Content of a part of what a model is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A special token.
    Token(u32),
    /// The first text.
    First,
    /// The second text.
    Second,
}

/// A table over a limit, or one that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Count or length over its limit.
    #[error("it has {value} {what}, over the limit of {max}")]
    TooMuch {
        /// Unit of the value.
        what: &'static str,
        /// Count or length found.
        value: u64,
        /// Limit.
        max: u64,
    },
    /// Template without each of its texts exactly once.
    #[error("its template does not hold each text once")]
    Template,
}

impl Table {
    /// Returns an error unless the table is within its limits.
    pub(crate) fn check(&self) -> Result<(), TableError> {
        let at_most = |what, value: usize, max: usize| match value > max {
            true => Err(TableError::TooMuch { what, value: value as u64, max: max as u64 }),
            false => Ok(()),
        };
        at_most("tokens", self.vocabulary.len(), TOKENS_MAX)?;
        at_most("added tokens", self.added.len(), ADDED_MAX)?;
        at_most("pieces around a text", self.single.len().max(self.pair.len()), PIECES_MAX)?;
        let tokens = self.vocabulary.iter().map(|(id, text)| (*id, text));
        let all = tokens.chain(self.added.iter().map(|token| (token.id, &token.content)));
        let (mut bytes, mut longest, mut last) = (0, self.unknown.len().max(self.continuation.len()), 0);
        for (id, text) in all {
            bytes += text.len();
            longest = longest.max(text.len());
            last = last.max(id);
        }
        at_most("bytes of tokens", bytes, TEXT_BYTES_MAX)?;
        at_most("bytes in one token", longest, TOKEN_BYTES_MAX)?;
        let slots = self.single.iter().chain(&self.pair).filter_map(|piece| match piece.slot {
            Slot::Token(id) => Some(id),
            _ => None,
        });
        at_most("as a token's id", slots.fold(last, u32::max) as usize, ID_END as usize - 1)?;
        at_most("characters in a word", self.word_chars_max as usize, WORD_CHARS_MAX as usize)?;
        at_most("tokens in one text", self.tokens_max as usize, LENGTH_MAX as usize)?;
        let count = |pieces: &[Piece], slot| pieces.iter().filter(|piece| piece.slot == slot).count();
        let counts = |pieces| (count(pieces, Slot::First), count(pieces, Slot::Second));
        if (counts(&self.single), counts(&self.pair)) != ((1, 0), (1, 1)) {
            return Err(TableError::Template);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with one thing too many is refused by it.
    fn check(change: impl FnOnce(&mut Table), expected: &str) {
        let piece = |slot| Piece { slot, segment: 0 };
        let (single, pair) = (vec![piece(Slot::First)], vec![piece(Slot::First), piece(Slot::Second)]);
        let mut table = Table { single, pair, ..Table::default() };
        table.check().unwrap();
        change(&mut table);
        assert_eq!(table.check().unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_over_a_limit_is_named() {
        let token = |id, bytes| (id, "x".repeat(bytes));
        check(
            |table| table.vocabulary = vec![token(0, 0); TOKENS_MAX + 1],
            "it has 1048577 tokens, over the limit of 1048576",
        );
        check(
            |table| table.vocabulary = vec![token(0, TOKEN_BYTES_MAX); TEXT_BYTES_MAX / TOKEN_BYTES_MAX + 1],
            "it has 16781312 bytes of tokens, over the limit of 16777216",
        );
        check(
            |table| table.continuation = "x".repeat(TOKEN_BYTES_MAX + 1),
            "it has 4097 bytes in one token, over the limit of 4096",
        );
        check(
            |table| table.vocabulary = vec![token(ID_END, 1)],
            "it has 2147483648 as a token's id, over the limit of 2147483647",
        );
        check(
            |table| table.single.push(Piece { slot: Slot::Token(ID_END), segment: 0 }),
            "it has 2147483648 as a token's id, over the limit of 2147483647",
        );
        check(|table| table.word_chars_max = 1_025, "it has 1025 characters in a word, over the limit of 1024");
        check(|table| table.tokens_max = 131_073, "it has 131073 tokens in one text, over the limit of 131072");
        check(|table| table.pair.truncate(1), "its template does not hold each text once");
        check(
            |table| table.single.extend(vec![Piece { slot: Slot::First, segment: 0 }; PIECES_MAX]),
            "it has 65 pieces around a text, over the limit of 64",
        );
    }
}
