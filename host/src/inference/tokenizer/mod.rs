//! The tokenizer: text to the token ids of a model with WordPiece and BERT's rules.
//!
//! Not here: two texts at once (`pair`), batches (`batcher`), and the arithmetic (`worker`).
//!
//! Invariants: ids are those of the whole text cut to [`Tokenizer::max_tokens`], special tokens included; the padding
//! and truncation that `tokenizer.json` asks for are ignored, for batches have no padding and the model's limit is
//! elsewhere.
//!
//! Limits: `tokenizer.json` up to 64 MiB. Of a text, some [`BYTES_TOKEN_MAX`] bytes a token are read (see [`Excerpt`]).

mod pair;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::{Encoding, ModelWrapper, NormalizerWrapper, PostProcessor, PreTokenizerWrapper, TruncationDirection};

/// A model's tokenizer, ready to use from any thread.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
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

/// A tokenizer cannot be loaded or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// Missing or unreadable file.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// File over 64 MiB.
    #[error("`{}` is over the limit of {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
    },
    /// File that is not JSON of the expected form.
    #[error("`{}` is not what it should be", path.display())]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Tokenizer with a part of a family other than BERT's.
    #[error("the {part} in `{}` is not one of BERT's, which are the only ones supported", path.display())]
    Unsupported {
        /// Path of `tokenizer.json`.
        path: PathBuf,
        /// Name of the part: `normalizer`, `pre-tokenizer` or `model`.
        part: &'static str,
    },
    /// Limit of tokens that leaves no room for text beside the special tokens.
    #[error("a text may have {max_tokens} tokens, of which {special} are special ones")]
    TooShort {
        /// Limit of the model, special tokens included.
        max_tokens: usize,
        /// Special tokens of one text, or of a pair.
        special: usize,
    },
    /// Text over the limit of tokens, under [`Overflow::Reject`].
    #[error("it has {tokens} tokens, over the model's limit of {max_tokens}; shorten it, or let its end be left out")]
    TooLong {
        /// Tokens of the text or pair, special ones included; a lower bound for long text, read in part.
        tokens: usize,
        /// Limit of the model, special tokens included.
        max_tokens: usize,
    },
    /// Token id outside the vocabulary, in an input that is tokens already.
    #[error("it has the token {id}, and the model knows those below {vocabulary}")]
    UnknownToken {
        /// First such id.
        id: u32,
        /// Number of the model's tokens, added ones included; all ids are below it.
        vocabulary: usize,
    },
    /// Failure of the tokenizer library on a text.
    #[error("the text cannot be turned into tokens")]
    Encode {
        /// Error of the library.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Real ones hold up to 17 MiB.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The tokens of a text when neither the model's limit nor the directory's is lower.
const MAX_TOKENS_DEFAULT: usize = 512;

/// Bytes of text that are tokenised first for each possible token: English has 4 to 5 bytes a token.
const BYTES_TOKEN_FIRST: usize = 8;

/// Bytes of text that are tokenised at most for each possible token.
const BYTES_TOKEN_MAX: usize = 1024;

impl Tokenizer {
    /// Loads `tokenizer.json` from a model's directory, and the limit of tokens from the files beside it.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        let path = dir.join("tokenizer.json");
        let bytes = read(&path)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|source| TokenizerError::Parse { path: path.clone(), source })?;
        let mut word_chars_max = check_family(&inner, &path)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|source| TokenizerError::Parse { path: path.clone(), source })?;

        let added = inner.get_added_tokens_decoder();
        if added.values().any(|token| token.content.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            word_chars_max = usize::MAX;
        }
        let max_tokens = load_max_tokens(dir)?;
        let special = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if max_tokens <= special {
            return Err(TokenizerError::TooShort { max_tokens, special });
        }
        Ok(Self { inner, max_tokens, text_tokens_max: max_tokens - special, word_chars_max })
    }

    /// The most tokens that a text is turned into, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Returns the ids of a text, cut to [`max_tokens`](Self::max_tokens) where it may be. An empty text has its
    /// special tokens.
    pub fn encode(&self, text: &str, overflow: Overflow) -> Result<Vec<u32>, TokenizerError> {
        let mut encoding = self.words(text)?;
        self.check_length(encoding.len(), overflow)?;
        encoding.truncate(self.text_tokens_max, 0, TruncationDirection::Right);
        let encoding =
            self.inner.post_process(encoding, None, true).map_err(|source| TokenizerError::Encode { source })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The same for a text that is tokens already, without the special ones.
    pub(crate) fn encode_tokens(&self, ids: &[u32], overflow: Overflow) -> Result<Vec<u32>, TokenizerError> {
        self.check_length(ids.len(), overflow)?;
        let vocabulary = self.inner.get_vocab_size(true);
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(TokenizerError::UnknownToken { id, vocabulary });
        }
        let ids = &ids[..ids.len().min(self.text_tokens_max)];
        let n = ids.len();
        let encoding = Encoding::new(
            ids.to_vec(),
            vec![0; n],
            vec![String::new(); n],
            vec![None; n],
            vec![(0, 0); n],
            vec![0; n],
            vec![1; n],
            Vec::new(),
            Default::default(),
        );
        let encoding =
            self.inner.post_process(encoding, None, true).map_err(|source| TokenizerError::Encode { source })?;
        Ok(encoding.get_ids().to_vec())
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

/// The start of a long text, without the parts that cannot change its tokens.
///
/// A model takes 256 or 512 tokens, so 8 MiB of text must not cost 8 MiB of work. BERT splits a text at blanks and
/// punctuation and looks at each word alone, so the first words of a text are the first words of any longer one: an
/// excerpt that gives enough tokens before its last word decides the result. Some text gives few tokens a byte. Runs of
/// blanks become one blank, and runs of ASCII letters and digits are cut one past the length from which on WordPiece
/// calls a word unknown: both give the same tokens. The rest is text made of characters that vanish (combining marks,
/// control characters) or of unbroken foreign words of a KiB: it alone is cut at the limit of [`BYTES_TOKEN_MAX`]
/// instead.
struct Excerpt<'a> {
    rest: std::str::Chars<'a>,
    text: String,
    word_chars_max: usize,
    /// The ASCII letters and digits at the end of `text`.
    run: usize,
    is_blank: bool,
}

impl<'a> Excerpt<'a> {
    fn new(text: &'a str, word_chars_max: usize) -> Self {
        Self { rest: text.chars(), text: String::new(), word_chars_max, run: 0, is_blank: false }
    }

    /// Grows the excerpt to `bytes` bytes; true if that is the whole text.
    fn extend(&mut self, bytes: usize) -> bool {
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

/// Refuses tokenizers that do not look at each word alone, and returns the longest word that is not unknown.
fn check_family(tokenizer: &tokenizers::Tokenizer, path: &Path) -> Result<usize, TokenizerError> {
    let unsupported = |part| Err(TokenizerError::Unsupported { path: path.to_owned(), part });
    if !matches!(tokenizer.get_normalizer(), None | Some(NormalizerWrapper::BertNormalizer(_))) {
        return unsupported("normalizer");
    }
    if !matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_))) {
        return unsupported("pre-tokenizer");
    }
    match tokenizer.get_model() {
        ModelWrapper::WordPiece(model) => Ok(model.max_input_chars_per_word),
        _ => unsupported("model"),
    }
}

/// Returns the limit of the directory, or else of the model.
fn load_max_tokens(dir: &Path) -> Result<usize, TokenizerError> {
    #[derive(Deserialize)]
    struct ConfigJson {
        max_position_embeddings: usize,
    }
    #[derive(Default, Deserialize)]
    struct SentenceJson {
        max_seq_length: Option<usize>,
    }

    let ConfigJson { max_position_embeddings } = parse(&dir.join("config.json"))?;
    let SentenceJson { max_seq_length } = match parse(&dir.join("sentence_bert_config.json")) {
        Err(TokenizerError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => SentenceJson::default(),
        other => other?,
    };
    Ok(max_seq_length.unwrap_or(MAX_TOKENS_DEFAULT).min(max_position_embeddings))
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, TokenizerError> {
    serde_json::from_slice(&read(path)?)
        .map_err(|source| TokenizerError::Parse { path: path.to_owned(), source: source.into() })
}

fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let read = |source| TokenizerError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TokenizerError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
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

    pub(super) fn load(json: &Value, max_seq_length: Option<usize>) -> Result<Tokenizer, TokenizerError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
        fs::write(dir.path().join("config.json"), r#"{ "max_position_embeddings": 64 }"#).unwrap();
        if let Some(max_seq_length) = max_seq_length {
            let json = json!({ "max_seq_length": max_seq_length, "do_lower_case": false });
            fs::write(dir.path().join("sentence_bert_config.json"), json.to_string()).unwrap();
        }
        Tokenizer::load(dir.path())
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
    fn a_missing_file_is_named() {
        let error = Tokenizer::load(Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nowhere/tokenizer.json`");
    }
}
