//! Takes texts apart. Try it, from this folder: `bireme run .::words --text "a ship with two decks"`,
//! `bireme run .::total --texts '["of oars", "rows"]'`, and `cargo test`.

use bireme_sdk::prelude::*;

/// Counts of the words of a text.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Words {
    pub count: usize,
    pub longest: String,
}

/// Counts the words of a text and finds the longest.
#[function(timeout = "5s", memory = "32MiB")]
pub fn words(text: String) -> Result<Words> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let longest = words.iter().max_by_key(|word| word.chars().count());
    let longest = longest.context("the text has no words")?.to_string();
    Ok(Words {
        count: words.len(),
        longest,
    })
}

/// Counts the words of many texts, each in a call of its own.
#[function]
pub fn total(texts: Vec<String>) -> Result<usize> {
    words::map(texts).map(|words| Ok(words?.count)).sum()
}

#[test]
fn words_are_counted() {
    assert_eq!(words("a longer word".to_owned()).unwrap().longest, "longer");
    assert_eq!(total(vec!["a b".to_owned(), "c".to_owned()]), Ok(3));
    assert!(words(" ".to_owned()).is_err());
}
