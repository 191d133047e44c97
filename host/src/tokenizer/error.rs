//! Errors of a tokenizer, from its file and from texts.

use std::io;
use std::path::PathBuf;

use super::table::{FILE_BYTES_MAX, TableError};

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
    /// File whose tokenizer is over a limit.
    #[error("`{}` cannot be used", path.display())]
    Table {
        /// Path of `tokenizer.json`.
        path: PathBuf,
        /// Limit.
        source: TableError,
    },
    /// Table over a limit, from a worker that should have refused it.
    #[error("the tokenizer's table cannot be used")]
    BadTable {
        /// Limit.
        source: TableError,
    },
    /// Table that the tokenizer library does not take.
    #[error("the tokenizer's table cannot be used")]
    Build {
        /// Error of the library.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Added token whose id is not the one that the library gives it.
    #[error("the added token {id} is out of its order")]
    Numbering {
        /// Id in the table.
        id: u32,
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
