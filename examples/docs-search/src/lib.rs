//! Scrapes a documentation site, embeds its passages and searches them.
//!
//! `index` is the whole job: it maps `scrape` over the URLs and `embed` over the passages, each call in a sandbox of
//! its own, and stores segment after segment; the batches for the model form in the host, of the texts of all callers.
//! `search` reads what the last finished `index` committed.
//!
//! `GET /` is the page with the search box, `GET /search?q=…` the same answer as JSON. The first page links to the
//! questions of `--config docs-search:questions=["…"]`.
//!
//! `page` takes a document apart, `stub` tells what is no page, `passage` cuts; `segment` packs vectors, `catalog`
//! keeps them in the key-value store and finds the nearest, `hit` is what is found; `pipeline` is the body of `index`;
//! `html` writes the search page.

mod catalog;
mod hit;
mod html;
mod page;
mod passage;
mod pipeline;
mod segment;
mod stub;

use std::time::Instant;

use bireme_sdk::prelude::*;
use bireme_sdk::web::{Json, Response};

pub use crate::catalog::{Manifest, Stored};
pub use crate::hit::Hit;
pub use crate::page::Page;
pub use crate::passage::Passage;
pub use crate::pipeline::Summary;
pub use crate::segment::{Located, Segment};
pub use crate::stub::Reason;

/// The model whose vectors are stored.
pub const MODEL: &str = "all-minilm-l6-v2";

const HITS_LEN_DEFAULT: u32 = 10;
const HITS_LEN_MAX: u32 = 100;

/// Result of one URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Scraped {
    /// A page with something to read.
    Page(Page),
    /// Something that is no page, and why.
    Skipped {
        url: String,
        #[serde(flatten)]
        reason: Reason,
    },
}

/// Fetches one page and takes it apart.
#[function(timeout = "10s", memory = "64MiB", retries = 2, outbound = ["$site"])]
pub fn scrape(url: String) -> Result<Scraped> {
    let response = http::get(url).header("accept", "text/html").send()?.error_for_status()?;
    let url: http::Url = response.url.parse::<http::Url>()?.without_fragment();
    let skipped = |reason| Scraped::Skipped { url: url.to_string(), reason };
    if let Some(content_type) = response.headers.get("content-type").filter(|text| !text.starts_with("text/html")) {
        return Ok(skipped(Reason::NotHtml { content_type: content_type.to_owned() }));
    }
    let html = String::from_utf8_lossy(&response.body);
    Ok(match page::parse(&url, &html) {
        Ok(page) => Scraped::Page(page),
        Err(reason) => skipped(reason),
    })
}

/// One vector for each text: many calls of this meet in the host's batcher.
// A map queues 64 calls of 32 texts: minutes of work for a busy machine, which the last of them waits for.
#[function(timeout = "10m", retries = 2, models = ["all-minilm-l6-v2"])]
pub fn embed(texts: Vec<String>) -> Result<Vec<Vector>> {
    Ok(model(MODEL).embed(&texts)?)
}

/// Stores one segment of an index that is being built; nobody searches it before `commit`.
#[function(timeout = "30s", retries = 2)]
pub fn store(segment: Segment) -> Result<Stored> {
    catalog::store(&segment)
}

/// Makes an index that was stored the one that is searched, and removes older ones.
#[function(timeout = "60s", retries = 2)]
pub fn commit(manifest: Manifest) -> Result<Manifest> {
    catalog::commit(manifest)
}

/// Scrapes the URLs, embeds what they say, and puts the new index in place of the old one.
#[function(timeout = "30m", memory = "512MiB")]
pub fn index(urls: Vec<String>) -> Result<Summary> {
    pipeline::run(urls)
}

/// Finds the passages nearest in meaning to `q`; 10 of them unless `limit` says otherwise.
#[function(timeout = "10s", models = ["all-minilm-l6-v2"])]
pub fn search(q: String, limit: Option<u32>) -> Result<Vec<Hit>> {
    let limit = limit.unwrap_or(HITS_LEN_DEFAULT);
    if q.trim().is_empty() || !(1..=HITS_LEN_MAX).contains(&limit) {
        let message = format!("`q` must not be empty, and `limit` goes from 1 to {HITS_LEN_MAX}, not {limit}");
        return Err(Failure::new(bireme_sdk::Code::InvalidInput, message));
    }
    let query = model(MODEL).embed(&[q])?.swap_remove(0);
    catalog::search(&query, limit as usize)
}

/// The search page; with `q`, what was found.
#[web(route = "GET /", timeout = "10s", models = ["all-minilm-l6-v2"])]
pub fn search_page(q: Option<String>) -> Result<Response> {
    let q = q.unwrap_or_default();
    let answer = |status, page: String| {
        Response::new(status)
            .header("content-type", "text/html; charset=utf-8")
            .header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
            .body(page)
    };
    let Some(index) = catalog::current()? else {
        return Ok(answer(503, html::page(&q, "Nothing is indexed yet; call the function index first.", &[])));
    };
    if q.trim().is_empty() {
        let note = format!("{} passages, found by what they mean.", html::count(index.passages));
        let questions: Vec<String> = config::find("questions")?.unwrap_or_default();
        return Ok(answer(200, html::first_page(&note, &questions)));
    }
    let began = Instant::now();
    let hits = search(q.clone(), None)?;
    let passages = html::count(index.passages);
    let note = format!("{} of {passages} passages, in {} ms", hits.len(), began.elapsed().as_millis());
    Ok(answer(200, html::page(&q, &note, &hits)))
}

/// Results of `search`, as JSON.
#[web(route = "GET /search", timeout = "10s", models = ["all-minilm-l6-v2"])]
pub fn search_json(q: String, limit: Option<u32>) -> Result<Json<Vec<Hit>>> {
    search(q, limit).map(Json)
}

#[cfg(test)]
mod tests;
