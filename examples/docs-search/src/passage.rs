//! A page's blocks, cut into passages of a size that a model reads well.
//!
//! A heading begins a passage. Below it, paragraphs are gathered until the next would make it too long; a paragraph
//! that is too long by itself is cut at sentences, code at lines, and only what has neither at words.

use bireme_sdk::prelude::*;

/// The words that a passage aims at: about what the model reads before it truncates, at 1.5 tokens a word with code.
const WORDS_MAX: usize = 120;
/// A lone paragraph may be this long before it is cut.
const WORDS_ALONE_MAX: usize = 180;
/// Bounds what has no spaces.
const BYTES_MAX: usize = 4_096;

/// A piece of a page that can be found by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Passage {
    /// The headings above it, outermost first.
    pub heading: Vec<String>,
    /// The id of the innermost heading; empty before the first one.
    pub anchor: String,
    pub text: String,
}

/// A piece of a page as its markup gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    Heading { level: u8, anchor: String, text: String },
    Text(String),
    Code(String),
}

impl Block {
    pub fn text(&self) -> &str {
        match self {
            Self::Heading { text, .. } | Self::Text(text) | Self::Code(text) => text,
        }
    }

    pub fn is_heading(&self) -> bool {
        matches!(self, Self::Heading { .. })
    }
}

/// Cuts the blocks into passages, in order; nothing but a heading without text is lost.
pub fn cut(blocks: Vec<Block>) -> Vec<Passage> {
    let mut cutter = Cutter::default();
    for block in blocks {
        match block {
            Block::Heading { level, anchor, text } => cutter.heading(level, anchor, text),
            Block::Text(text) => cutter.add(&text, |text| text.split_inclusive(['.', '!', '?', ';'])),
            Block::Code(code) => cutter.add(&code, |code| code.split_inclusive(['\n'])),
        }
    }
    cutter.emit();
    cutter.passages
}

#[derive(Default)]
struct Cutter {
    passages: Vec<Passage>,
    /// The headings above, with their levels and anchors.
    headings: Vec<(u8, String, String)>,
    text: String,
    words: usize,
}

impl Cutter {
    fn heading(&mut self, level: u8, anchor: String, text: String) {
        self.emit();
        self.headings.retain(|(above, ..)| *above < level);
        self.headings.push((level, anchor, text));
    }

    fn emit(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.words = 0;
        let text = text.trim_end();
        if !text.is_empty() {
            self.passages.push(Passage {
                heading: self.headings.iter().map(|(_, _, heading)| heading.clone()).collect(),
                anchor: self.headings.last().map(|(_, anchor, _)| anchor.clone()).unwrap_or_default(),
                text: text.to_owned(),
            });
        }
    }

    fn add<'a, I: Iterator<Item = &'a str>>(&mut self, block: &'a str, parts: impl FnOnce(&'a str) -> I) {
        let words = block.split_whitespace().count();
        if !self.has_room(words, block.len(), WORDS_MAX) {
            self.emit();
        }
        if self.has_room(words, block.len(), WORDS_ALONE_MAX) {
            return self.push(block, words, "\n");
        }
        for part in parts(block) {
            self.part(part);
        }
        self.emit();
    }

    /// Adds a sentence or a line; where it is too long by itself, its words.
    fn part(&mut self, part: &str) {
        let words = part.split_whitespace().count();
        if words <= WORDS_MAX && part.len() <= BYTES_MAX {
            if !self.has_room(words, part.len(), WORDS_MAX) {
                self.emit();
            }
            return self.push(part, words, "");
        }
        for word in part.split_inclusive(char::is_whitespace) {
            let mut rest = word;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.floor_char_boundary(BYTES_MAX));
                if !self.has_room(1, piece.len(), WORDS_MAX) {
                    self.emit();
                }
                self.push(piece, 1, "");
                rest = after;
            }
        }
    }

    fn has_room(&self, words: usize, bytes: usize, words_max: usize) -> bool {
        self.words + words <= words_max && self.text.len() + 1 + bytes <= BYTES_MAX + 1
    }

    fn push(&mut self, text: &str, words: usize, separator: &str) {
        if !self.text.is_empty() {
            self.text.push_str(separator);
        }
        self.text.push_str(if self.text.is_empty() { text.trim_start_matches([' ', '\n']) } else { text });
        self.words += words;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> String {
        vec!["word"; count].join(" ")
    }

    fn lens(blocks: Vec<Block>) -> Vec<usize> {
        cut(blocks).iter().map(|passage| passage.text.split_whitespace().count()).collect()
    }

    #[test]
    fn paragraphs_are_gathered_and_kept_whole() {
        assert_eq!(lens(vec![Block::Text(words(50)), Block::Text(words(60)), Block::Text(words(70))]), [110, 70]);
        assert_eq!(lens(vec![Block::Text(words(30)), Block::Text(words(170)), Block::Text(words(30))]), [30, 170, 30]);
    }

    #[test]
    fn a_long_paragraph_is_cut_at_sentences_and_long_code_at_lines() {
        let sentence = format!("{}. ", words(50));
        assert_eq!(lens(vec![Block::Text(sentence.repeat(5))]), [100, 100, 50]);
        let lines = format!("{}\n", words(100)).repeat(2);
        assert_eq!(lens(vec![Block::Code(lines)]), [100, 100]);
        assert_eq!(lens(vec![Block::Text(words(300))]), [120, 120, 60]);
    }

    #[test]
    fn what_has_no_spaces_is_bounded_and_nothing_is_lost() {
        let passages = cut(vec![Block::Text("é".repeat(5_000))]);
        assert!(passages.iter().all(|passage| passage.text.len() <= BYTES_MAX));
        assert_eq!(passages.iter().map(|passage| passage.text.chars().count()).sum::<usize>(), 5_000);
    }

    #[test]
    fn a_heading_closes_those_of_its_level_and_below() {
        let heading = |level, text: &str| Block::Heading { level, anchor: text.to_lowercase(), text: text.to_owned() };
        let text = || Block::Text("text".to_owned());
        let passages = cut(vec![
            text(),
            heading(1, "A"),
            text(),
            heading(3, "B"),
            text(),
            heading(2, "C"),
            heading(3, "D"),
            text(),
        ]);
        let paths: Vec<_> =
            passages.iter().map(|passage| (passage.heading.join("/"), passage.anchor.as_str())).collect();
        assert_eq!(
            paths,
            [(String::new(), ""), ("A".to_owned(), "a"), ("A/B".to_owned(), "b"), ("A/C/D".to_owned(), "d")]
        );
    }
}
