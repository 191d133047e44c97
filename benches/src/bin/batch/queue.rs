//! Memory of a waiting request, and the recovery of a full queue.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bireme::inference::{Caller, Inference, InferenceError, Inputs, Overflow, Tenant};
use bireme::limits::BatchLimits;
use bireme_benches::figures::{self, Samples};
use tokio::task::JoinSet;

use super::{MODEL, serve, text};

const WAITING: usize = 10_000;
const REFUSALS: usize = 1_000;
/// Of those, so many at a time, after so many more were put in.
const PROBES: usize = 10;
const FILLERS: usize = 500;

pub(crate) async fn measure(models: &Path) {
    let limits = BatchLimits { max_queue_size: WAITING, ..BatchLimits::default() };
    let served = serve(models, limits).await;
    let inference = served.host.inference.clone();

    let before = rss();
    let mut waiting = JoinSet::new();
    let texts: Vec<String> = (0..WAITING).map(|i| text(12, i)).collect();
    let after_texts = rss();
    for text in texts {
        let inference = inference.clone();
        waiting.spawn(async move { embed(&inference, text).await.map(drop) });
    }
    // Until all have joined the queue, but for what was served meanwhile.
    let mut queued = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = inference.stats().models.iter().map(|model| model.waiting_rows).sum();
        if now < queued {
            break;
        }
        queued = now;
    }
    let bytes = rss().saturating_sub(after_texts);
    let held = inference.stats().queue_bytes;
    figures::print(&format!(
        "\n{queued} requests wait, 14 tokens each: {} bytes each with their tasks (the texts themselves: {}); {} of that is what the limit counts",
        bytes / queued.max(1),
        after_texts.saturating_sub(before) / WAITING,
        held / queued.max(1),
    ));
    figures::print_figure("waiting_request_bytes", (bytes / queued.max(1)) as f64);

    let mut refusals = Samples::default();
    for _ in 0..REFUSALS / PROBES {
        // To the brim, and some more, which are refused: the device takes a few away while we look.
        for _ in 0..FILLERS {
            let inference = inference.clone();
            waiting.spawn(async move { embed(&inference, text(12, 0)).await.map(drop) });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        for _ in 0..PROBES {
            let start = Instant::now();
            let probe = tokio::time::timeout(Duration::from_millis(100), embed(&inference, text(12, 0))).await;
            if matches!(probe, Ok(Err(InferenceError::Overloaded { .. }))) {
                refusals.push_us(start.elapsed());
            }
        }
    }
    assert!(refusals.len() > 0, "a full queue refuses");
    figures::print(&format!(
        "queue full: {} refusals, p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs",
        refusals.len(),
        refusals.median(),
        refusals.percentile(0.99),
        refusals.percentile(1.0)
    ));
    figures::print_figure("queue_full_refusal_max_us", refusals.percentile(1.0));

    let start = Instant::now();
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    let gone = start.elapsed();
    let start = Instant::now();
    embed(&inference, text(12, 0)).await.expect("there is room again");
    figures::print(&format!(
        "all cancelled in {:.1} ms; the next request was answered {:.1} ms later",
        gone.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3
    ));
    assert_eq!(inference.stats().queue_bytes, 0, "what was cancelled is forgotten");
    served.host.shut_down().await;
}

async fn embed(inference: &Arc<Inference>, text: String) -> Result<(), InferenceError> {
    let caller = Caller::new(Tenant::way_in("bench"), Instant::now() + Duration::from_secs(120));
    inference.embed(MODEL, Inputs::Texts(vec![text]), Overflow::Truncate, &caller).await.map(drop)
}

/// Bytes of memory that this process has in use.
fn rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kib.map_or(0, |kib: usize| kib << 10)
}
