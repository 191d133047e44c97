//! A passage that was found, as a reader needs it.

use bireme_sdk::prelude::*;

use crate::segment::Located;

/// The words of an excerpt.
const EXCERPT_WORDS_MAX: usize = 60;

/// One passage that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    /// With the anchor of the passage's heading.
    pub url: String,
    pub title: String,
    pub heading: Vec<String>,
    /// The beginning of the passage.
    pub excerpt: String,
    /// The cosine of the angle to the query: 1 is the same.
    pub score: f32,
}

impl Hit {
    /// Puts together what a reader needs of a passage.
    pub fn new(located: Located, score: f32) -> Self {
        let Located { url, title, passage } = located;
        let mut words = passage.text.split_whitespace();
        let mut excerpt = words.by_ref().take(EXCERPT_WORDS_MAX).collect::<Vec<_>>().join(" ");
        if words.next().is_some() {
            excerpt.push('…');
        }
        let url = if passage.anchor.is_empty() { url } else { format!("{url}#{}", passage.anchor) };
        Self { url, title, heading: passage.heading, excerpt, score }
    }
}
