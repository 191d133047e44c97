//! The text side of a model, as a worker reads it from JSON files and a host takes it: plain data within limits.

use std::collections::BTreeMap;

use super::codec::{Reader, count, text, word};
use super::header::WireError;
use crate::tokenizer::{
    ADDED_MAX, AddedToken, Normalizer, PIECES_MAX, Piece, Slot, TOKEN_BYTES_MAX, TOKENS_MAX, Table,
};

/// Labels of one model.
pub(crate) const LABELS_MAX: usize = 1 << 16;
/// Bytes of one label.
pub(crate) const LABEL_BYTES_MAX: usize = 4 << 10;

/// What the JSON files of a model say, but for the weights' shapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Tokenizer; `None` for a model of named tensors.
    pub tokenizer: Option<Table>,
    /// Names of labels by their place in the scores.
    pub labels: BTreeMap<u32, String>,
    /// Whether a text may have several labels.
    pub is_multi_label: bool,
    /// Settings of `serving.json`, unchecked.
    pub serving: ServingSettings,
}

/// Settings of `serving.json`. The names are Triton's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingSettings {
    /// Never unloaded to make room for other models.
    pub keep: bool,
    /// Rows of one batch.
    pub max_batch_size: Option<u64>,
    /// Tokens of one batch.
    pub max_batch_tokens: Option<u64>,
    /// Rows that wait.
    pub max_queue_size: Option<u64>,
    /// How long a partial batch waits for more requests, in microseconds.
    pub max_queue_delay_us: Option<u64>,
}

impl Manifest {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        flag(out, self.tokenizer.is_some());
        if let Some(table) = &self.tokenizer {
            encode_table(out, table);
        }
        count(out, self.labels.len());
        for (place, name) in &self.labels {
            word(out, *place);
            text(out, name);
        }
        flag(out, self.is_multi_label);
        let ServingSettings { keep, max_batch_size, max_batch_tokens, max_queue_size, max_queue_delay_us } =
            self.serving;
        flag(out, keep);
        for setting in [max_batch_size, max_batch_tokens, max_queue_size, max_queue_delay_us] {
            flag(out, setting.is_some());
            out.extend_from_slice(&setting.unwrap_or(0).to_le_bytes());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let tokenizer = if reader.flag()? { Some(decode_table(reader)?) } else { None };
        let labels = reader.many(LABELS_MAX, |reader| Ok((reader.word()?, reader.name(LABEL_BYTES_MAX)?)))?;
        if !labels.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(WireError::Body { what: "labels out of their order" });
        }
        let labels = labels.into_iter().collect();
        let is_multi_label = reader.flag()?;
        let keep = reader.flag()?;
        let mut setting = || match (reader.flag()?, reader.long()?) {
            (true, value) => Ok(Some(value)),
            (false, 0) => Ok(None),
            (false, _) => Err(WireError::Body { what: "a setting that is neither there nor not" }),
        };
        let serving = ServingSettings {
            keep,
            max_batch_size: setting()?,
            max_batch_tokens: setting()?,
            max_queue_size: setting()?,
            max_queue_delay_us: setting()?,
        };
        Ok(Self { tokenizer, labels, is_multi_label, serving })
    }
}

fn flag(out: &mut Vec<u8>, value: bool) {
    word(out, u32::from(value));
}

fn encode_table(out: &mut Vec<u8>, table: &Table) {
    count(out, table.vocabulary.len());
    for (id, token) in &table.vocabulary {
        word(out, *id);
        text(out, token);
    }
    count(out, table.added.len());
    for token in &table.added {
        word(out, token.id);
        text(out, &token.content);
        let AddedToken { is_single_word, strips_left, strips_right, is_normalized, is_special, .. } = *token;
        let flags = [is_single_word, strips_left, strips_right, is_normalized, is_special];
        word(out, flags.into_iter().rev().fold(0, |bits, flag| bits << 1 | u32::from(flag)));
    }
    text(out, &table.unknown);
    text(out, &table.continuation);
    word(out, table.word_chars_max);
    word(out, normalizer_word(table.normalizer));
    for pieces in [&table.single, &table.pair] {
        count(out, pieces.len());
        for piece in pieces {
            let (kind, token) = match piece.slot {
                Slot::Token(id) => (0, id),
                Slot::First => (1, 0),
                Slot::Second => (2, 0),
            };
            word(out, kind);
            word(out, token);
            word(out, piece.segment);
        }
    }
    word(out, table.tokens_max);
}

fn decode_table(reader: &mut Reader<'_>) -> Result<Table, WireError> {
    let vocabulary = reader.many(TOKENS_MAX, |reader| Ok((reader.word()?, reader.name(TOKEN_BYTES_MAX)?)))?;
    let added = reader.many(ADDED_MAX, |reader| {
        let (id, content) = (reader.word()?, reader.name(TOKEN_BYTES_MAX)?);
        let flags = match reader.word()? {
            flags @ 0..32 => flags,
            _ => return Err(WireError::Body { what: "an added token's flags" }),
        };
        Ok(AddedToken {
            id,
            content,
            is_single_word: flags & 1 != 0,
            strips_left: flags & 2 != 0,
            strips_right: flags & 4 != 0,
            is_normalized: flags & 8 != 0,
            is_special: flags & 16 != 0,
        })
    })?;
    let (unknown, continuation) = (reader.name(TOKEN_BYTES_MAX)?, reader.name(TOKEN_BYTES_MAX)?);
    let word_chars_max = reader.word()?;
    let normalizer = normalizer_of(reader.word()?)?;
    let mut pieces = || {
        reader.many(PIECES_MAX, |reader| {
            let slot = match (reader.word()?, reader.word()?) {
                (0, id) => Slot::Token(id),
                (1, 0) => Slot::First,
                (2, 0) => Slot::Second,
                _ => return Err(WireError::Body { what: "an unknown piece of a template" }),
            };
            Ok(Piece { slot, segment: reader.word()? })
        })
    };
    let (single, pair) = (pieces()?, pieces()?);
    let tokens_max = reader.word()?;
    Ok(Table { vocabulary, added, unknown, continuation, word_chars_max, normalizer, single, pair, tokens_max })
}

/// Writes a normalizer in bits: there, cleans, splits, strips (two bits), lowers.
fn normalizer_word(normalizer: Option<Normalizer>) -> u32 {
    let Some(Normalizer { cleans_text, splits_chinese, strips_accents, lowers_case }) = normalizer else {
        return 0;
    };
    let strips = strips_accents.map_or(0, |strips| 1 + u32::from(strips));
    1 | u32::from(cleans_text) << 1 | u32::from(splits_chinese) << 2 | strips << 3 | u32::from(lowers_case) << 5
}

fn normalizer_of(word: u32) -> Result<Option<Normalizer>, WireError> {
    if word == 0 {
        return Ok(None);
    }
    let strips_accents = match word >> 3 & 3 {
        0 => Ok(None),
        1 => Ok(Some(false)),
        2 => Ok(Some(true)),
        _ => Err(WireError::Body { what: "a normalizer's accents" }),
    }?;
    let flag = |bit: u32| word & 1 << bit != 0;
    let normalizer = Normalizer { cleans_text: flag(1), splits_chinese: flag(2), strips_accents, lowers_case: flag(5) };
    match normalizer_word(Some(normalizer)) == word {
        true => Ok(Some(normalizer)),
        false => Err(WireError::Body { what: "an unknown normalizer" }),
    }
}
