//! 64 guests with one short text each, against the same host without batches.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bireme::limits::BatchLimits;
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::Served;
use tokio::task::JoinSet;

use super::{call, row, serve, text};

const GUESTS: usize = 64;
const CALLS_EACH: usize = 8;

pub(crate) async fn measure(models: &Path, rounds: usize) {
    let batched = Arc::new(serve(models, BatchLimits::default()).await);
    let single = Arc::new(serve(models, BatchLimits { max_batch_size: 1, ..BatchLimits::default() }).await);
    figures::print(&format!(
        "\n{GUESTS} guests at a time, one short text a call            p50 ms    p99 ms    max ms"
    ));
    let mut rates = [Samples::default(), Samples::default()];
    let mut tails = [Samples::default(), Samples::default()];
    let mut all = [Samples::default(), Samples::default()];
    for round in 0..rounds {
        // In turns, and each round the other first.
        for which in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let served = [&batched, &single][which];
            let (rate, samples) = round_of(served).await;
            rates[which].push(rate);
            tails[which].push(samples.percentile(0.99));
            all[which].append(samples);
        }
    }
    for (which, name) in ["batched", "one text a batch"].into_iter().enumerate() {
        row(name, &all[which], &format!("{:.0} texts/s", rates[which].median()));
    }
    let stats = batched.host.inference.stats();
    let rows = stats.rows as f64 / stats.batches.max(1) as f64;
    figures::print(&format!(
        "batched: {rows:.1} texts a batch on average; cut: {} enough, {} drained",
        stats.cut_enough, stats.cut_drained
    ));
    figures::print_ratio("batched_vs_single_throughput", rates[0].ratio_to(&rates[1]));
    figures::print_ratio("batched_vs_single_p99", tails[0].ratio_to(&tails[1]));
    batched.host.shut_down().await;
    single.host.shut_down().await;
}

async fn round_of(served: &Arc<Served>) -> (f64, Samples) {
    let start = Instant::now();
    let mut guests = JoinSet::new();
    for guest in 0..GUESTS {
        let served = served.clone();
        guests.spawn(async move {
            let mut samples = Samples::default();
            for i in 0..CALLS_EACH {
                let took = call(&served, &served.program, &text(8 + (guest + i) % 8, guest)).await;
                samples.push_us(took);
            }
            samples
        });
    }
    let mut samples = Samples::default();
    while let Some(part) = guests.join_next().await {
        samples.append(part.expect("no call panics"));
    }
    ((GUESTS * CALLS_EACH) as f64 / start.elapsed().as_secs_f64(), samples)
}
