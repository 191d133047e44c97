//! Counts and times of a demo, as a table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::app::MODEL;
use super::questions::Answer;
use crate::call::InferenceReceipt;
use crate::cli::{output, table};
use crate::server::Host;

/// Failed pages shown in the table.
const FAILED_SHOWN: usize = 5;

#[derive(Default)]
pub(crate) struct Report {
    pub app_bytes: u64,
    pub build: Duration,
    pub fetch: Duration,
    pub files: u64,
    pub pages: u64,
    pub skipped: BTreeMap<String, u64>,
    pub failed: Vec<(String, String)>,
    pub scrape: Duration,
    /// Wall time of each `scrape` call.
    pub scrape_us: Vec<u64>,
    pub passages: u64,
    pub embed: Duration,
    pub store: Duration,
    pub sandboxes: u64,
    pub inference: InferenceReceipt,
    batches: u64,
    batch_rows: u64,
    batch_tokens: u64,
    host_peak_bytes: Option<u64>,
    worker_peak_bytes: Option<u64>,
    device: String,
    total: Duration,
}

impl Report {
    /// Adds the figures that are known only at the end.
    pub(crate) fn finish(&mut self, host: &Host, total: Duration) {
        let stats = host.inference.stats();
        self.batches = stats.batches;
        self.batch_rows = stats.rows;
        self.batch_tokens = stats.tokens;
        self.device = stats.device.unwrap_or_default();
        self.host_peak_bytes = peak_bytes("self");
        self.worker_peak_bytes = stats.worker_pid.and_then(|pid| peak_bytes(&pid.to_string()));
        self.total = total;
        self.scrape_us.sort_unstable();
    }

    fn scrape_percentile(&self, percent: usize) -> u64 {
        let last = self.scrape_us.len().saturating_sub(1);
        self.scrape_us.get(last * percent / 100).copied().unwrap_or(0)
    }

    pub(crate) fn to_text(&self) -> String {
        let count = output::count;
        let skipped: u64 = self.skipped.values().sum();
        let reasons: Vec<String> = self.skipped.iter().map(|(reason, n)| format!("{} {reason}", count(*n))).collect();
        let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
        let mut rows = vec![
            ("app", format!("{} component, built in {}", output::bytes(self.app_bytes), seconds(self.build))),
            ("model", format!("{} on {}, ready in {}", MODEL, self.device, seconds(self.fetch))),
            (
                "pages",
                format!(
                    "{} of {} files ({} skipped, {} failed)",
                    count(self.pages),
                    count(self.files),
                    count(skipped),
                    count(self.failed.len() as u64)
                ),
            ),
        ];
        if !reasons.is_empty() {
            rows.push(("  skipped", reasons.join(", ")));
        }
        for (url, why) in self.failed.iter().take(FAILED_SHOWN) {
            rows.push(("  failed", format!("{url}: {why}")));
        }
        rows.push(("scrape", format!("{}, {:.0} pages/s", seconds(self.scrape), rate(self.files, self.scrape))));
        rows.push((
            "  one call",
            format!(
                "p50 {}, p99 {}",
                output::micros(self.scrape_percentile(50)),
                output::micros(self.scrape_percentile(99))
            ),
        ));
        rows.push((
            "embed",
            format!(
                "{}, {} passages, {:.0} passages/s, {:.0} tokens/s",
                seconds(self.embed),
                count(self.passages),
                rate(self.passages, self.embed),
                rate(self.inference.tokens, self.embed)
            ),
        ));
        let batches = self.batches.max(1) as f64;
        rows.push((
            "  batches",
            format!(
                "{}, mean {:.1} passages and {:.0} tokens",
                count(self.batches),
                self.batch_rows as f64 / batches,
                self.batch_tokens as f64 / batches
            ),
        ));
        rows.push(("store", seconds(self.store)));
        rows.push(("sandboxes", format!("{} started, each for one call", count(self.sandboxes))));
        let memory = |bytes: Option<u64>| bytes.map_or("not known".to_owned(), output::bytes);
        rows.push((
            "peak memory",
            format!("host {}, worker {}", memory(self.host_peak_bytes), memory(self.worker_peak_bytes)),
        ));
        rows.push(("total", seconds(self.total)));
        let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]);
        format!("\n{}", table::plain(rows))
    }

    pub(crate) fn to_json(&self, answers: &[Answer]) -> serde_json::Value {
        let failed: Vec<_> = self.failed.iter().map(|(url, why)| json!({ "url": url, "why": why })).collect();
        json!({
            "app_bytes": self.app_bytes,
            "files": self.files,
            "pages": self.pages,
            "skipped": self.skipped,
            "failed": failed,
            "passages": self.passages,
            "sandboxes": self.sandboxes,
            "batches": { "count": self.batches, "rows": self.batch_rows, "tokens": self.batch_tokens },
            "device": self.device,
            "seconds": {
                "build": self.build.as_secs_f64(),
                "fetch": self.fetch.as_secs_f64(),
                "scrape": self.scrape.as_secs_f64(),
                "embed": self.embed.as_secs_f64(),
                "store": self.store.as_secs_f64(),
                "total": self.total.as_secs_f64(),
            },
            "scrape_us": { "p50": self.scrape_percentile(50), "p99": self.scrape_percentile(99) },
            "peak_bytes": { "host": self.host_peak_bytes, "worker": self.worker_peak_bytes },
            "answers": answers,
        })
    }
}

/// Returns `count` per second.
fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// Returns a process's peak resident memory, as counted by the kernel.
fn peak_bytes(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}
