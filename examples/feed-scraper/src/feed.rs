//! A feed, whatever it is written in.

use bireme_sdk::prelude::*;
use feed_rs::model::Entry;
use feed_rs::parser::{self, ParseFeedError};

/// A feed.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Feed {
    pub url: String,
    pub title: String,
    /// In the order of the feed.
    pub items: Vec<Item>,
}

/// One item of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// Unique in its feed.
    pub id: String,
    pub title: String,
    pub link: Option<String>,
    /// RFC 3339.
    pub published: Option<String>,
}

/// Takes RSS 0.9 to 2.0, Atom or JSON Feed.
pub fn parse(url: &str, bytes: &[u8]) -> Result<Feed, ParseFeedError> {
    let feed = parser::parse(bytes)?;
    let title = feed.title.map(|title| tidy(&title.content)).unwrap_or_default();
    let items = feed.entries.into_iter().map(item);
    // An item without both has nothing to show, and an id that the parser draws anew each time.
    let items = items.filter(|item| item.link.is_some() || !item.title.is_empty()).collect();
    Ok(Feed { url: url.to_owned(), title, items })
}

fn item(entry: Entry) -> Item {
    Item {
        id: entry.id,
        title: entry.title.map(|title| tidy(&title.content)).unwrap_or_default(),
        link: entry.links.into_iter().next().map(|link| link.href),
        published: entry.published.or(entry.updated).map(|time| time.to_rfc3339()),
    }
}

/// Titles are wrapped and indented in many feeds.
fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
