//! A question and a text as one sequence of tokens, for models that read both at once.
//!
//! Invariant: the ids are those of Transformers, cut by its `longest_first`. If each alone exceeds the model, each gets
//! half and the text the odd token: their lengths are not compared, and by the library not reliably.

use tokenizers::utils::truncation::{TruncationParams, TruncationStrategy, truncate_encodings};
use tokenizers::{Encoding, TruncationDirection};

use super::{Overflow, Slot, Tokenizer, TokenizerError, fill};

/// A question that texts are scored against; it is tokenised once.
pub(crate) struct Question<'a> {
    tokenizer: &'a Tokenizer,
    encoding: Encoding,
    /// The tokens of question and text when the special ones are taken off.
    tokens_max: usize,
}

impl Tokenizer {
    /// Tokenises a question, to score texts against it.
    pub(crate) fn question(&self, question: &str) -> Result<Question<'_>, TokenizerError> {
        let special = self.pair.len() - 2;
        // One token of each, or there is nothing to compare.
        if self.max_tokens < special + 2 {
            return Err(TokenizerError::TooShort { max_tokens: self.max_tokens, special });
        }
        let tokens_max = self.max_tokens - special;
        let mut encoding = self.words(question)?;
        // Each text copies it. That it is too long still shows.
        encoding.truncate(tokens_max + 1, 0, TruncationDirection::Right);
        Ok(Question { tokenizer: self, encoding, tokens_max })
    }
}

impl Question<'_> {
    /// Returns the ids of the question and a text, and how many of them belong to the question.
    pub(crate) fn encode(&self, text: &str, overflow: Overflow) -> Result<(Vec<u32>, u32), TokenizerError> {
        let Self { tokenizer, tokens_max, .. } = *self;
        let (question, mut text) = (self.encoding.clone(), tokenizer.words(text)?);
        let tokens = question.len() + text.len();
        if overflow == Overflow::Reject && tokens > tokens_max {
            let special = tokenizer.max_tokens - tokens_max;
            return Err(TokenizerError::TooLong { tokens: tokens + special, max_tokens: tokenizer.max_tokens });
        }
        // The reported length depends on the excerpt; that it is too long does not.
        text.truncate(tokens_max + 1, 0, TruncationDirection::Right);
        let params = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: tokens_max,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        let encode = |source| TokenizerError::Encode { source };
        let (question, text) = truncate_encodings(question, Some(text), &params).map_err(encode)?;
        let text = text.expect("it was given");
        let ids = fill(&tokenizer.pair, question.get_ids(), text.get_ids());
        let first = tokenizer.pair.iter().take_while(|piece| piece.segment == 0);
        let lengths = first.map(|piece| match piece.slot {
            Slot::Token(_) => 1,
            Slot::First => question.len(),
            Slot::Second => text.len(),
        });
        Ok((ids, lengths.sum::<usize>() as u32))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tests::{load, tokenizer_json};
    use super::*;

    /// Returns the library's result for whole texts.
    fn whole(json: &Value, question: &str, text: &str, max_length: usize) -> (Vec<u32>, u32) {
        let mut library = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
        let strategy = TruncationStrategy::LongestFirst;
        let params = TruncationParams { max_length, strategy, ..Default::default() };
        library.with_padding(None).with_truncation(Some(params)).unwrap();
        let pair = library.encode((question, text), true).unwrap();
        (pair.get_ids().to_vec(), pair.get_type_ids().iter().filter(|segment| **segment == 0).count() as u32)
    }

    /// The same special tokens by a template, as newer files have them.
    fn template_json() -> Value {
        let mut json = tokenizer_json();
        let special = |name: &str, segment: u32| json!({ "SpecialToken": { "id": name, "type_id": segment } });
        let sequence = |name: &str, segment: u32| json!({ "Sequence": { "id": name, "type_id": segment } });
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [
                special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0), sequence("B", 1), special("[SEP]", 1)
            ],
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] },
            },
        });
        json
    }

    fn encode(tokenizer: &Tokenizer, question: &str, text: &str) -> (Vec<u32>, u32) {
        tokenizer.question(question).unwrap().encode(text, Overflow::Truncate).unwrap()
    }

    #[test]
    fn a_pair_has_three_special_tokens_and_two_segments() {
        for json in [tokenizer_json(), template_json()] {
            let tokenizer = load(&json, Some(16)).unwrap();
            assert_eq!(encode(&tokenizer, "a b", "season."), (vec![2, 5, 6, 3, 9, 10, 11, 3], 4));
            assert_eq!(encode(&tokenizer, "", ""), (vec![2, 3, 3], 2));
        }
    }

    #[test]
    fn a_pair_too_long_is_refused_where_that_is_asked() {
        let tokenizer = load(&tokenizer_json(), Some(8)).unwrap();
        let question = tokenizer.question("a b").unwrap();
        assert!(question.encode("a b .", Overflow::Reject).is_ok());
        let error = question.encode("a b . a", Overflow::Reject).unwrap_err();
        assert!(matches!(error, TokenizerError::TooLong { tokens: 9, max_tokens: 8 }), "{error}");
    }

    #[test]
    fn a_model_without_room_for_a_pair_says_so() {
        let tokenizer = load(&tokenizer_json(), Some(4)).unwrap();
        let error = tokenizer.question("a").map(drop).unwrap_err();
        assert!(matches!(error, TokenizerError::TooShort { max_tokens: 4, special: 3 }), "{error}");
    }

    #[test]
    fn of_two_endless_texts_a_bounded_part_is_looked_at() {
        let tokenizer = load(&tokenizer_json(), Some(16)).unwrap();
        let (a, b) = ("a ".repeat(4 << 20), "b ".repeat(4 << 20));
        assert_eq!(encode(&tokenizer, &a, &b), ([&[2][..], &[5; 6], &[3], &[6; 7], &[3]].concat(), 8));
    }

    fn words() -> impl Strategy<Value = String> {
        let word =
            prop::sample::select(vec!["a", "b", "sea", "season", ".", "海", "[MASK]", " ", "\u{301}", "unknown"]);
        // Short, about as long as the model takes, and longer than what is looked at first.
        let count = prop_oneof![0..4_usize, 4..40_usize, 100..200_usize];
        count.prop_flat_map(move |count| prop::collection::vec(word.clone(), count)).prop_map(|words| words.join(" "))
    }

    proptest! {
        #[test]
        fn pairs_are_the_librarys_own(question in words(), text in words(), max in 5..24_usize, by_template: bool) {
            let json = if by_template { template_json() } else { tokenizer_json() };
            let tokenizer = load(&json, Some(max)).unwrap();
            let tokens = |text: &str| tokenizer.inner.encode(text, false).unwrap().len();
            let actual = encode(&tokenizer, &question, &text);
            let room = max - 3;
            let expected = if tokens(&question).min(tokens(&text)) <= room {
                whole(&json, &question, &text, max)
            } else {
                let cut = |text: &str, n: usize| tokenizer.inner.encode(text, false).unwrap().get_ids()[..n].to_vec();
                let (first, second) = (cut(&question, room / 2), cut(&text, room.div_ceil(2)));
                ([&[2], &first[..], &[3], &second, &[3]].concat(), first.len() as u32 + 2)
            };
            prop_assert_eq!(actual, expected);
        }
    }
}
