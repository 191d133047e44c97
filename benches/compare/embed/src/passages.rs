//! The prose of a folder of mdBook pages, in passages of 60 to 200 tokens.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use crate::inference::tokenizer::{Overflow, Tokenizer};

const TOKENS_MIN: usize = 60;
const TOKENS_MAX: usize = 200;

/// Returns the ids of the first `count` passages, pages in order of their names.
pub fn read(book: &Path, tokenizer: &Tokenizer, count: usize) -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
    let mut pages: Vec<PathBuf> = fs::read_dir(book)
        .map_err(|error| format!("cannot list `{}`: {error}; is the rust-docs component installed?", book.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        // The page for printing holds all the others once more.
        .filter(|path| path.extension().is_some_and(|extension| extension == "html") && !path.ends_with("print.html"))
        .collect();
    pages.sort();
    let mut passages = Vec::new();
    for page in pages {
        let html = fs::read_to_string(&page)?;
        let mut passage = String::new();
        for paragraph in paragraphs(&html) {
            passage.push_str(&paragraph);
            passage.push(' ');
            let ids = tokenizer.encode(&passage, Overflow::Truncate)?;
            if ids.len() >= TOKENS_MIN {
                if ids.len() <= TOKENS_MAX {
                    passages.push(ids);
                }
                passage.clear();
            }
            if passages.len() == count {
                return Ok(passages);
            }
        }
    }
    Err(format!("`{}` has {} passages, expected {count}", book.display(), passages.len()).into())
}

/// The text of each `<p>` of a page's main part, its blanks joined.
fn paragraphs(html: &str) -> Vec<String> {
    let main = html.split_once("<main>").map_or("", |(_, rest)| rest);
    let main = main.split_once("</main>").map_or(main, |(main, _)| main);
    main.split("<p>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</p>"))
        .map(|(paragraph, _)| text(paragraph).split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Takes out tags and resolves the entities that mdBook writes.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        rest = tag.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&amp;", "&")
}
