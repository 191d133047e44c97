//! Fetches RSS and Atom feeds and says what is new in them.
//!
//! ```sh
//! bireme run examples/feed-scraper::news --grant feeds=https://blog.rust-lang.org \
//!     --urls '["https://blog.rust-lang.org/feed.xml"]'
//! bireme serve examples/feed-scraper --grant feeds=https://blog.rust-lang.org \
//!     --config 'feeds=["https://blog.rust-lang.org/feed.xml"]'
//! ```

mod feed;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use bireme_sdk::prelude::*;

pub use crate::feed::{Feed, Item};

/// Ids that are remembered of one feed, the newest; no feed lists more.
const SEEN_LEN_MAX: usize = 1_000;

/// New entries, and the feeds that could not be read.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct News {
    /// Items that no earlier call saw, by feed in the order of the feeds.
    pub fresh: Vec<Item>,
    pub failed: Vec<FailedFeed>,
}

/// A feed that could not be read.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedFeed {
    pub url: String,
    pub reason: String,
}

/// Fetches one feed and takes it apart.
#[function(timeout = "30s", memory = "64MiB", outbound = ["$feeds"], retries(max = 1, initial = "500ms"))]
pub fn fetch(url: String) -> Result<Feed> {
    let response = http::get(&url)
        .header("accept", "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.1")
        .retries(2)
        .send()?
        .error_for_status()?;
    // What is no feed now will be none in a second.
    feed::parse(&url, &response.body).map_err(|error| Failure::terminal(error).context(format!("`{url}` is no feed")))
}

/// Fetches feeds, all at a time, and returns what they have that no call before had.
#[function(timeout = "2m", outbound = ["$feeds"])]
pub fn news(urls: Vec<String>) -> Result<News> {
    let seen = kv::open("seen")?;
    let mut news = News::default();
    let mut feeds = fetch::map(urls.iter().cloned()).keep_going();
    for feed in feeds.by_ref() {
        let before: BTreeSet<String> = seen.get_json(&feed.url)?.unwrap_or_default();
        let fresh: Vec<Item> = feed.items.into_iter().filter(|item| !before.contains(&item.id)).collect();
        if fresh.is_empty() {
            continue;
        }
        log::info!("new items", feed = feed.url, count = fresh.len());
        let ids = fresh.iter().map(|item| &item.id).chain(&before).take(SEEN_LEN_MAX);
        seen.set_json(&feed.url, &ids.collect::<Vec<_>>())?;
        news.fresh.extend(fresh);
    }
    news.failed = feeds
        .into_failures()
        .into_iter()
        .map(|(index, failure)| FailedFeed { url: urls[index as usize].clone(), reason: failure.to_string() })
        .collect();
    Ok(news)
}

/// Looks at the configured feeds every morning.
#[function(timeout = "2m", outbound = ["$feeds"], schedule = cron("0 6 * * *", tz = "Europe/Stockholm"))]
pub fn every_morning() -> Result<News> {
    news(config::find("feeds")?.unwrap_or_default())
}
