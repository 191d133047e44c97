//! The tokenizer: text to the token ids of a model with WordPiece and BERT's rules.
//!
//! Not here: batches (`inference::batcher`), the arithmetic (`worker`).
//!
//! Invariants: ids are those of the whole text cut to [`Tokenizer::max_tokens`], special tokens included; the padding
//! and truncation that `tokenizer.json` asks for are ignored, for batches have no padding and the model's limit is
//! elsewhere. A host makes tokenizers of tables that a worker has read, and parses no file of a model.
//!
//! Limits: those of a [`Table`]. Of a text, some [`BYTES_TOKEN_MAX`] bytes a token are read (see [`Excerpt`]).

mod error;
mod excerpt;
mod pair;
mod read;
mod table;

use std::path::Path;

use tokenizers::Encoding;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

pub use self::error::TokenizerError;
pub(crate) use self::table::{ADDED_MAX, PIECES_MAX, TOKEN_BYTES_MAX, TOKENS_MAX};
pub use self::table::{AddedToken, Normalizer, Piece, Slot, Table, TableError};

use self::excerpt::Excerpt;

/// A model's tokenizer, ready to use from any thread.
#[derive(Debug)]
pub struct Tokenizer {
    /// The library's, which turns text into words and words into tokens, without special ones.
    inner: tokenizers::Tokenizer,
    single: Vec<Piece>,
    pair: Vec<Piece>,
    max_tokens: usize,
    /// The tokens of a text when the special ones are taken off.
    text_tokens_max: usize,
    /// Words longer than this become one unknown token; none if words may contain added tokens.
    word_chars_max: usize,
}

/// The treatment of an input that is longer than the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its end is left out.
    #[default]
    Truncate,
    /// It is refused by its position.
    Reject,
}

/// Bytes of text that are tokenised first for each possible token: English has 4 to 5 bytes a token.
const BYTES_TOKEN_FIRST: usize = 8;

/// Bytes of text that are tokenised at most for each possible token.
const BYTES_TOKEN_MAX: usize = 1024;

impl Tokenizer {
    /// Makes a tokenizer of a table.
    pub fn new(table: Table) -> Result<Self, TokenizerError> {
        table.check().map_err(|source| TokenizerError::BadTable { source })?;
        let Table { vocabulary, added, unknown, continuation, word_chars_max, normalizer, single, pair, tokens_max } =
            table;
        let build = |source| TokenizerError::Build { source };
        // An empty map of the type that the library takes.
        let mut tokens = WordPiece::read_bytes(&[]).map_err(build)?;
        tokens.extend(vocabulary.into_iter().map(|(id, text)| (text, id)));
        let model = WordPiece::builder()
            .vocab(tokens)
            .unk_token(unknown)
            .continuing_subword_prefix(continuation)
            .max_input_chars_per_word(word_chars_max as usize)
            .build()
            .map_err(build)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        let normalizer =
            normalizer.map(|table::Normalizer { cleans_text, splits_chinese, strips_accents, lowers_case }| {
                BertNormalizer::new(cleans_text, splits_chinese, strips_accents, lowers_case)
            });
        inner.with_normalizer(normalizer).map_err(build)?;

        // A word that may hold one of them is not cut.
        let splits_words = added.iter().any(|token| token.content.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let ids: Vec<u32> = added.iter().map(|token| token.id).collect();
        let contents: Vec<String> = added.iter().map(|token| token.content.clone()).collect();
        let added = added.into_iter().map(|token| {
            tokenizers::AddedToken::from(token.content, token.is_special)
                .single_word(token.is_single_word)
                .lstrip(token.strips_left)
                .rstrip(token.strips_right)
                .normalized(token.is_normalized)
        });
        inner.add_tokens(added).map_err(build)?;
        // The library numbers them itself.
        let numbered = contents.iter().zip(&ids).find(|(content, id)| inner.token_to_id(content) != Some(**id));
        if let Some((_, &id)) = numbered {
            return Err(TokenizerError::Numbering { id });
        }

        let (max_tokens, special) = (tokens_max as usize, single.len() - 1);
        if max_tokens <= special {
            return Err(TokenizerError::TooShort { max_tokens, special });
        }
        let word_chars_max = if splits_words { usize::MAX } else { word_chars_max as usize };
        Ok(Self { inner, single, pair, max_tokens, text_tokens_max: max_tokens - special, word_chars_max })
    }

    /// Reads a model's files and makes its tokenizer, for programs that trust the files.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        Self::new(Table::read(dir)?)
    }

    /// The most tokens that a text is turned into, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Returns the ids of a text, cut to [`max_tokens`](Self::max_tokens) where it may be. An empty text has its
    /// special tokens.
    pub fn encode(&self, text: &str, overflow: Overflow) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.words(text)?;
        self.check_length(encoding.len(), overflow)?;
        let ids = encoding.get_ids();
        Ok(fill(&self.single, &ids[..ids.len().min(self.text_tokens_max)], &[]))
    }

    /// The same for a text that is tokens already, without the special ones.
    pub(crate) fn encode_tokens(&self, ids: &[u32], overflow: Overflow) -> Result<Vec<u32>, TokenizerError> {
        self.check_length(ids.len(), overflow)?;
        let vocabulary = self.inner.get_vocab_size(true);
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(TokenizerError::UnknownToken { id, vocabulary });
        }
        Ok(fill(&self.single, &ids[..ids.len().min(self.text_tokens_max)], &[]))
    }

    /// Refuses a row of ids, special ones included, that the model cannot take.
    pub(crate) fn check_row(&self, ids: &[u32]) -> Result<(), TokenizerError> {
        if ids.len() > self.max_tokens {
            return Err(TokenizerError::TooLong { tokens: ids.len(), max_tokens: self.max_tokens });
        }
        let vocabulary = self.inner.get_vocab_size(true);
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(TokenizerError::UnknownToken { id, vocabulary }),
            None => Ok(()),
        }
    }

    fn check_length(&self, tokens: usize, overflow: Overflow) -> Result<(), TokenizerError> {
        if overflow == Overflow::Reject && tokens > self.text_tokens_max {
            let special = self.max_tokens - self.text_tokens_max;
            return Err(TokenizerError::TooLong { tokens: tokens + special, max_tokens: self.max_tokens });
        }
        Ok(())
    }

    /// Returns the tokens of as much of the text as decides the result, without special tokens.
    fn words(&self, text: &str) -> Result<Encoding, TokenizerError> {
        let encode = |text: &str| self.inner.encode(text, false).map_err(|source| TokenizerError::Encode { source });
        let mut bytes = self.text_tokens_max * BYTES_TOKEN_FIRST;
        if text.len() <= bytes {
            return encode(text);
        }
        let bytes_max = self.text_tokens_max * BYTES_TOKEN_MAX;
        let mut excerpt = Excerpt::new(text, self.word_chars_max);
        loop {
            let is_whole = excerpt.extend(bytes);
            let encoding = encode(&excerpt.text)?;
            // The last word may have been cut; those before it are as they are in the whole text.
            let words = encoding.get_word_ids();
            let cut = words.iter().rev().take_while(|word| **word == words[words.len() - 1]).count();
            if is_whole || words.len() - cut >= self.text_tokens_max || bytes >= bytes_max {
                return Ok(encoding);
            }
            bytes = (bytes * 2).min(bytes_max);
        }
    }
}

/// Puts texts into a template.
fn fill(pieces: &[Piece], first: &[u32], second: &[u32]) -> Vec<u32> {
    let mut ids = Vec::with_capacity(pieces.len() + first.len() + second.len());
    for piece in pieces {
        match piece.slot {
            Slot::Token(id) => ids.push(id),
            Slot::First => ids.extend_from_slice(first),
            Slot::Second => ids.extend_from_slice(second),
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    const UNKNOWN: u32 = 1;
    const CLS: u32 = 2;
    const SEP: u32 = 3;

    pub(super) fn tokenizer_json() -> Value {
        json!({
            "version": "1.0",
            "truncation": { "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
            "padding": {
                "strategy": { "Fixed": 9 }, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
            },
            "added_tokens": [{
                "id": 4, "special": true, "content": "[MASK]",
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
            }],
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] },
            "decoder": null,
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 20,
                "vocab": {
                    "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4,
                    "a": 5, "b": 6, "##a": 7, "##b": 8, "sea": 9, "##son": 10, ".": 11, "海": 12
                }
            }
        })
    }

    fn files(json: &Value, max_seq_length: Option<usize>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
        fs::write(dir.path().join("config.json"), r#"{ "max_position_embeddings": 64 }"#).unwrap();
        if let Some(max_seq_length) = max_seq_length {
            let json = json!({ "max_seq_length": max_seq_length, "do_lower_case": false });
            fs::write(dir.path().join("sentence_bert_config.json"), json.to_string()).unwrap();
        }
        dir
    }

    pub(super) fn load(json: &Value, max_seq_length: Option<usize>) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::load(files(json, max_seq_length).path())
    }

    /// Encodes the text, and checks that the excerpt of it gives what the whole text gives.
    fn check(text: &str, expected: &[u32]) {
        let tokenizer = load(&tokenizer_json(), Some(16)).unwrap();
        let whole = tokenizer.inner.encode(text, false).unwrap();
        let whole = &whole.get_ids()[..whole.len().min(14)];
        let ids = tokenizer.encode(text, Overflow::Truncate).unwrap();
        assert_eq!(ids, [&[CLS], whole, &[SEP]].concat());
        assert_eq!(&ids[1..ids.len() - 1], expected);
    }

    #[test]
    fn a_text_has_its_special_tokens_and_no_padding() {
        check("", &[]);
        check("Season. [MASK] 海a", &[9, 10, 11, 4, 12, 5]);
    }

    #[test]
    fn a_long_text_is_cut_to_the_limit() {
        check(&"a b ".repeat(1_000), &[5, 6].repeat(7));
        check(&"season".repeat(1_000), &[UNKNOWN]);
        check(&".".repeat(10_000), &[11; 14]);
    }

    #[test]
    fn text_that_gives_few_tokens_is_looked_at_further() {
        check(&format!("a{}b", " \n".repeat(50_000)), &[5, 6]);
        check(&format!("{} sea{} b", "a".repeat(50_000), " ".repeat(50_000)), &[UNKNOWN, 9, 6]);
        check(
            &format!("{}.{}.b", "a".repeat(19), "a".repeat(5_000)),
            &[&[5][..], &[7; 18], &[11, UNKNOWN, 11, 6]].concat()[..14],
        );
        check(&format!("a\u{b}b\u{85}\u{85}a{}", " b".repeat(100)), &[&[5, 8, 7][..], &[6; 11]].concat());
        check(&format!("{} [MASK]", "\u{301}".repeat(2_000)), &[4]);
    }

    #[test]
    fn a_word_at_the_end_of_an_excerpt_is_not_cut() {
        // The first excerpt of 112 bytes ends inside each of these in turn.
        for blanks in 0..12 {
            let text = format!("{}{}", ".".repeat(8 + blanks), " season".repeat(100));
            let dots = vec![11; 8 + blanks];
            check(&text, &[&dots[..], &[9, 10].repeat(7)].concat()[..14]);
        }
    }

    #[test]
    fn of_eight_mebibytes_a_bounded_part_is_looked_at() {
        let tokenizer = load(&tokenizer_json(), Some(16)).unwrap();
        for part in ["a ", " ", "a", ".", "\u{301}", "\0", "ж", "海"] {
            let text = part.repeat((8 << 20) / part.len());
            let mut excerpt = Excerpt::new(&text, tokenizer.word_chars_max);
            excerpt.extend(14 * BYTES_TOKEN_MAX);
            assert!(excerpt.text.len() <= 14 * BYTES_TOKEN_MAX + 3);
            assert!(tokenizer.encode(&text, Overflow::Truncate).unwrap().len() <= 16);
        }
    }

    #[test]
    fn the_limit_is_the_lowest_of_the_directory_the_model_and_512() {
        assert_eq!(load(&tokenizer_json(), None).unwrap().max_tokens(), 64);
        assert_eq!(load(&tokenizer_json(), Some(32)).unwrap().max_tokens(), 32);
        assert_eq!(load(&tokenizer_json(), Some(4096)).unwrap().max_tokens(), 64);
        let error = load(&tokenizer_json(), Some(2)).unwrap_err();
        assert!(matches!(error, TokenizerError::TooShort { max_tokens: 2, special: 2 }), "{error}");
    }

    #[test]
    fn tokenizers_of_other_families_are_refused_by_the_part() {
        let refused = |part: &str, value: Value| {
            let mut json = tokenizer_json();
            json[part] = value;
            load(&json, None).unwrap_err()
        };
        let error = refused("pre_tokenizer", json!({ "type": "Whitespace" }));
        assert!(matches!(error, TokenizerError::Unsupported { part: "pre-tokenizer", .. }), "{error}");
        let error = refused("normalizer", json!({ "type": "NFC" }));
        assert!(matches!(error, TokenizerError::Unsupported { part: "normalizer", .. }), "{error}");
        let error = refused("model", json!({ "type": "WordLevel", "vocab": { "[UNK]": 1 }, "unk_token": "[UNK]" }));
        assert!(matches!(error, TokenizerError::Unsupported { part: "model", .. }), "{error}");
        assert!(matches!(refused("model", json!(7)), TokenizerError::Parse { .. }));
    }

    #[test]
    fn a_table_that_the_files_cannot_give_is_refused() {
        let dir = files(&tokenizer_json(), None);
        let table = Table::read(dir.path()).unwrap();
        assert_eq!(table.added.len(), 1);
        assert_eq!(table.single.len(), 3);
        let refused = |change: &dyn Fn(&mut Table)| {
            let mut table = table.clone();
            change(&mut table);
            format!("{:#}", anyhow::Error::from(Tokenizer::new(table).unwrap_err()))
        };
        assert_eq!(refused(&|table| table.added[0].id = 40), "the added token 40 is out of its order");
        let error = refused(&|table| table.single.clear());
        assert_eq!(error, "the tokenizer's table cannot be used: its template does not hold each text once");
    }

    #[test]
    fn hostile_files_are_refused_by_name() {
        let refused = |text: String| {
            let dir = files(&Value::Null, None);
            fs::write(dir.path().join("tokenizer.json"), text).unwrap();
            let error = Table::read(dir.path()).unwrap_err();
            let shown = format!("{:#}", anyhow::Error::from(error));
            shown.replace(&dir.path().display().to_string(), "DIR")
        };
        let nested = format!("{}{}", "{\"model\":".repeat(100_000), "1");
        let expected = "`DIR/tokenizer.json` is not what it should be: recursion limit exceeded";
        assert!(refused(nested).starts_with(expected));
        let endless = "[".to_owned() + &" ".repeat(64 << 20);
        assert_eq!(refused(endless), "`DIR/tokenizer.json` is over the limit of 67108864 bytes");
        let mut long = tokenizer_json();
        long["model"]["vocab"]["x".repeat(5_000)] = json!(13);
        let expected = "`DIR/tokenizer.json` cannot be used: it has 5000 bytes in one token, over the limit of 4096";
        assert_eq!(refused(long.to_string()), expected);
        let mut slow = tokenizer_json();
        slow["model"]["max_input_chars_per_word"] = json!(1_000_000);
        assert!(refused(slow.to_string()).ends_with("it has 1000000 characters in a word, over the limit of 1024"));
        let mut regex = tokenizer_json();
        regex["pre_tokenizer"] = json!({
            "type": "Split", "pattern": { "Regex": "(a{1,1000}){1,1000}" }, "behavior": "Removed", "invert": false
        });
        assert!(refused(regex.to_string()).starts_with("`DIR/tokenizer.json` is not what it should be"));
        let mut twice = tokenizer_json();
        twice["post_processor"] = json!({
            "type": "TemplateProcessing", "single": [
                { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }
            ], "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": {},
        });
        assert!(refused(twice.to_string()).ends_with("its template does not hold each text once"));
    }

    #[test]
    fn a_limit_of_tokens_beyond_any_model_is_lowered() {
        let dir = files(&tokenizer_json(), Some(1 << 60));
        fs::write(dir.path().join("config.json"), json!({ "max_position_embeddings": 1_u64 << 60 }).to_string())
            .unwrap();
        assert_eq!(Table::read(dir.path()).unwrap().tokens_max, 1 << 17);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Tokenizer::load(Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nowhere/tokenizer.json`");
    }
}
