//! The whole job: from URLs to an index that is searched.
//!
//! Both maps run at once: while pages are still being scraped, the passages of earlier ones are embedded. What waits
//! here is bounded by what the host has in flight; finished segments leave at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use bireme_sdk::prelude::*;

use crate::catalog::Manifest;
use crate::segment::{Located, SEGMENT_LEN_MAX, Segment};
use crate::{MODEL, Scraped, commit, embed, scrape, store};

/// Texts of one call of `embed`; the host makes larger batches of them.
const TEXTS_LEN_MAX: usize = 32;

/// Counts of one `index`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    pub pages: u64,
    pub passages: u64,
    pub segments: u32,
    /// Number of URLs that were no pages, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// URLs that could not be scraped, and why; the first 10,000 of them.
    pub failed: BTreeMap<String, String>,
}

/// Builds and commits a new index of the URLs.
pub fn run(urls: Vec<String>) -> Result<Summary> {
    let mut summary = Summary { pages: 0, passages: 0, segments: 0, skipped: BTreeMap::new(), failed: BTreeMap::new() };
    let mut builder =
        Builder { generation: context::current().call_id, number: 0, passages: Vec::new(), vectors: Vec::new() };
    let mut scraped = scrape::map(urls.iter().cloned()).keep_going();
    let waiting = RefCell::new(VecDeque::new());

    let passages = scraped.by_ref().flat_map(|scraped| match scraped {
        Scraped::Page(page) => {
            summary.pages += 1;
            let located = page.passages.into_iter().map(|passage| Located {
                url: page.url.clone(),
                title: page.title.clone(),
                passage,
            });
            located.collect()
        }
        Scraped::Skipped { reason, .. } => {
            *summary.skipped.entry(reason.name().to_owned()).or_default() += 1;
            Vec::new()
        }
    });
    let texts = Chunks(passages).map(|chunk| {
        let texts = chunk.iter().map(text).collect();
        waiting.borrow_mut().push_back(chunk);
        texts
    });
    for vectors in embed::map(texts) {
        let chunk: Vec<Located> =
            waiting.borrow_mut().pop_front().context("`embed` returned more lists than it was given")?;
        let vectors = vectors.context("cannot embed the passages")?;
        if vectors.len() != chunk.len() {
            bail!("`embed` returned {} vectors for {} passages", vectors.len(), chunk.len());
        }
        builder.passages.extend(chunk);
        builder.vectors.extend(vectors);
        while builder.passages.len() >= SEGMENT_LEN_MAX {
            summary.passages += builder.store()?;
        }
    }
    if !builder.passages.is_empty() {
        summary.passages += builder.store()?;
    }

    summary.failed =
        scraped.failures().iter().map(|(index, failure)| (url(&urls, *index), failure.to_string())).collect();
    summary.segments = builder.number;
    if summary.segments == 0 {
        let (failed, skipped) = (scraped.failures_count(), summary.skipped.values().sum::<u64>());
        return Err(Failure::terminal(format!(
            "none of {} URLs has a page to index: {failed} failed, {skipped} were no pages",
            urls.len()
        )));
    }
    commit::call(Manifest {
        generation: builder.generation,
        segments: summary.segments,
        passages: summary.passages,
        model: MODEL.to_owned(),
    })?;
    log::info!(pages = summary.pages, passages = summary.passages, segments = summary.segments; "committed a new index");
    Ok(summary)
}

fn url(urls: &[String], index: u64) -> String {
    usize::try_from(index).ok().and_then(|index| urls.get(index)).cloned().unwrap_or_default()
}

/// Returns the text for the model: the passage below its headings, which often say what the passage takes for granted.
fn text(located: &Located) -> String {
    format!("{}\n{}", located.passage.heading.join(" > "), located.passage.text)
}

/// The segment that is being filled.
struct Builder {
    generation: String,
    number: u32,
    passages: Vec<Located>,
    vectors: Vec<Vector>,
}

impl Builder {
    /// Stores what is there, up to a whole segment; returns how many passages that were.
    fn store(&mut self) -> Result<u64> {
        let len = self.passages.len().min(SEGMENT_LEN_MAX);
        let segment = Segment {
            generation: self.generation.clone(),
            number: self.number,
            passages: self.passages.drain(..len).collect(),
            vectors: self.vectors.drain(..len).collect(),
        };
        let stored = store::call(segment).with_context(|| format!("cannot store segment {}", self.number))?;
        self.number += 1;
        Ok(stored.passages.into())
    }
}

/// Lists of at most [`TEXTS_LEN_MAX`] items.
struct Chunks<I>(I);

impl<I: Iterator> Iterator for Chunks<I> {
    type Item = Vec<I::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk: Vec<_> = self.0.by_ref().take(TEXTS_LEN_MAX).collect();
        (!chunk.is_empty()).then_some(chunk)
    }
}
