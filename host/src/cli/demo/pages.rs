//! Scraping stage: maps `scrape` over the pages, one sandbox for each.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::progress::Progress;
use super::report::Report;
use crate::call::{Payload, Principal, Priority};
use crate::cli::exit::Exit;
use crate::cli::log::StderrLog;
use crate::codes::Code;
use crate::dispatch::find_function;
use crate::sandbox::{MapRun, Order, Program};
use crate::server::Host;

/// Outcomes taken at a time.
const TAKE_MAX: usize = 256;

/// A passage and its page, as in the input of `store`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LocatedPassage {
    pub url: String,
    pub title: String,
    pub passage: Passage,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Passage {
    pub heading: Vec<String>,
    pub anchor: String,
    pub text: String,
}

/// Output of `scrape`.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum ScrapeOutput {
    Page { url: String, title: String, links: Vec<String>, passages: Vec<Passage> },
    Skipped(BTreeMap<String, serde_json::Value>),
}

/// Scrapes `urls`; with `follow`, also linked pages, up to that many in all.
pub(crate) async fn scrape(
    host: &Host,
    program: &Arc<Program>,
    urls: Vec<String>,
    follow: Option<usize>,
    log: &StderrLog,
    report: &mut Report,
) -> Result<Vec<LocatedPassage>, Exit> {
    let started = Instant::now();
    let mut progress = Progress::new(urls.len() as u64, "pages");
    log.above(&progress.bar);
    let function = find_function(program, "scrape")?;
    let mut map = host.dispatcher.map(function, Order::Completion, Priority::Normal, Principal::Operator);

    let mut seen: HashSet<String> = urls.iter().cloned().collect();
    // By index, to name the page that failed.
    let mut all = urls;
    let (mut offered, mut done) = (0, 0);
    let mut waiting: VecDeque<Payload> = VecDeque::new();
    let mut located = Vec::new();
    while done < all.len() {
        waiting.extend(all[offered..].iter().map(|url| Payload::json(serde_json::json!({ "url": url }).to_string())));
        offered = all.len();
        map.push(&mut waiting)?;
        for outcome in map.next(TAKE_MAX).await {
            done += 1;
            report.scrape_us.push(outcome.receipt.wall_us);
            report.sandboxes += u64::from(outcome.receipt.attempts);
            let url = &all[outcome.index as usize];
            let scraped = match outcome.result {
                Ok(payload) => serde_json::from_slice::<ScrapeOutput>(&payload.data).map_err(|error| error.to_string()),
                Err(failure) => Err(failure.to_string()),
            };
            match scraped {
                Ok(ScrapeOutput::Page { url, title, links, passages }) => {
                    report.pages += 1;
                    if let Some(most) = follow {
                        let room = most.saturating_sub(all.len());
                        all.extend(links.into_iter().filter(|link| seen.insert(link.clone())).take(room));
                    }
                    located.extend(passages.into_iter().map(|passage| LocatedPassage {
                        url: url.clone(),
                        title: title.clone(),
                        passage,
                    }));
                }
                Ok(ScrapeOutput::Skipped(fields)) => *report.skipped.entry(reason(&fields)).or_default() += 1,
                Err(why) => report.failed.push((url.clone(), why)),
            }
        }
        progress.set(done as u64, all.len() as u64, report.failed.len() as u64);
    }
    report.files = all.len() as u64;
    report.scrape = started.elapsed();
    if located.is_empty() {
        let mut exit = Exit::new(Code::NothingToIndex, "no page has anything to index");
        exit.causes = report.failed.iter().take(3).map(|(url, why)| format!("{url}: {why}")).collect();
        return Err(exit);
    }
    Ok(located)
}

/// Returns why a page was skipped: the field `reason` of `scrape`.
fn reason(fields: &BTreeMap<String, serde_json::Value>) -> String {
    fields.get("reason").and_then(serde_json::Value::as_str).unwrap_or("other").to_owned()
}
