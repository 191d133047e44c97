//! A tokenizer's table, read from the files of a model. Only a worker does so: the files are anyone's.
//!
//! Limits: files up to 64 MiB, and those of a [`Table`].

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::{Encoding, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::error::TokenizerError;
use super::table::{
    AddedToken, FILE_BYTES_MAX, ID_END, LENGTH_MAX, Normalizer, Piece, Slot, TOKENS_MAX, Table, TableError,
};

/// The tokens of a text when neither the model's limit nor the directory's is lower.
const LENGTH_DEFAULT: usize = 512;

/// Ids that stand for the texts while a template is found out.
const FIRST: u32 = ID_END;
const SECOND: u32 = ID_END + 1;

impl Table {
    /// Reads `tokenizer.json` in a model's directory, and the limit of tokens from the files beside it.
    pub fn read(dir: &Path) -> Result<Self, TokenizerError> {
        let path = dir.join("tokenizer.json");
        let parse = |source| TokenizerError::Parse { path: path.clone(), source };
        let mut library = tokenizers::Tokenizer::from_bytes(read(&path)?).map_err(parse)?;
        library.with_padding(None);
        library.with_truncation(None).map_err(parse)?;
        let refused = |source| TokenizerError::Table { path: path.clone(), source };
        let table = Self { tokens_max: read_tokens_max(dir)?, ..extract(&library, &path)? };
        table.check().map_err(refused)?;
        Ok(table)
    }
}

/// Copies the library's data out, without the limit of tokens.
fn extract(library: &tokenizers::Tokenizer, path: &Path) -> Result<Table, TokenizerError> {
    let unsupported = |part| TokenizerError::Unsupported { path: path.to_owned(), part };
    let normalizer = match library.get_normalizer() {
        None => None,
        Some(NormalizerWrapper::BertNormalizer(bert)) => Some(Normalizer {
            cleans_text: bert.clean_text,
            splits_chinese: bert.handle_chinese_chars,
            strips_accents: bert.strip_accents,
            lowers_case: bert.lowercase,
        }),
        Some(_) => return Err(unsupported("normalizer")),
    };
    if !matches!(library.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_))) {
        return Err(unsupported("pre-tokenizer"));
    }
    let ModelWrapper::WordPiece(model) = library.get_model() else {
        return Err(unsupported("model"));
    };
    let tokens = library.get_vocab_size(false);
    if tokens > TOKENS_MAX {
        let source = TableError::TooMuch { what: "tokens", value: tokens as u64, max: TOKENS_MAX as u64 };
        return Err(TokenizerError::Table { path: path.to_owned(), source });
    }
    let mut vocabulary: Vec<_> = library.get_vocab(false).into_iter().map(|(text, id)| (id, text)).collect();
    vocabulary.sort_unstable();
    let added = library.get_added_tokens_decoder().into_iter().map(|(id, token)| AddedToken {
        id,
        content: token.content,
        is_single_word: token.single_word,
        strips_left: token.lstrip,
        strips_right: token.rstrip,
        is_normalized: token.normalized,
        is_special: token.special,
    });
    let mut added: Vec<_> = added.collect();
    added.sort_unstable_by_key(|token| token.id);
    Ok(Table {
        vocabulary,
        added,
        unknown: model.unk_token.clone(),
        continuation: model.continuing_subword_prefix.clone(),
        word_chars_max: model.max_input_chars_per_word.try_into().unwrap_or(u32::MAX),
        normalizer,
        single: template(library, false)?,
        pair: template(library, true)?,
        tokens_max: 0,
    })
}

/// Returns the tokens around one text, or a pair of them: what the library makes of texts of one token.
fn template(library: &tokenizers::Tokenizer, is_pair: bool) -> Result<Vec<Piece>, TokenizerError> {
    let text = |id, segment| {
        let (ids, segments) = (vec![id], vec![segment]);
        let (offsets, special, attention) = (vec![(0, 0)], vec![0], vec![1]);
        let (tokens, words) = (vec![String::new()], vec![None]);
        Encoding::new(ids, segments, tokens, words, offsets, special, attention, Vec::new(), Default::default())
    };
    let whole = library
        .post_process(text(FIRST, 0), is_pair.then(|| text(SECOND, 1)), true)
        .map_err(|source| TokenizerError::Encode { source })?;
    let slot = |id| match id {
        FIRST => Slot::First,
        SECOND => Slot::Second,
        id => Slot::Token(id),
    };
    let pieces = whole.get_ids().iter().zip(whole.get_type_ids());
    Ok(pieces.map(|(&id, &segment)| Piece { slot: slot(id), segment }).collect())
}

/// Returns the limit of the directory, or else of the model.
fn read_tokens_max(dir: &Path) -> Result<u32, TokenizerError> {
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
    let length = max_seq_length.unwrap_or(LENGTH_DEFAULT).min(max_position_embeddings);
    Ok(u32::try_from(length).unwrap_or(u32::MAX).min(LENGTH_MAX))
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
