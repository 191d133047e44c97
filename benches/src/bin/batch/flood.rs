//! Two apps, one of which floods: how long the quiet one waits, beside itself alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bireme::limits::BatchLimits;
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::Served;
use tokio::task::JoinSet;

use super::{call, row, serve, text};

/// Guests of the flood, each with the next call as soon as one ends.
const FLOOD: usize = 64;
const CALLS: usize = 60;
/// Words of a text; about as many tokens.
const WORDS: usize = 120;
const PAUSE: Duration = Duration::from_millis(15);

pub(crate) async fn measure(models: &Path, rounds: usize) {
    let served = Arc::new(serve(models, BatchLimits::default()).await);
    let quiet = served.again_as("quiet").await;
    figures::print(&format!("\na quiet app, {WORDS} words a call                       p50 ms    p99 ms    max ms"));
    let mut ratios = Samples::default();
    let mut all = [Samples::default(), Samples::default()];
    let mut rates = Samples::default();
    for _ in 0..rounds {
        let alone = quiet_calls(&served, &quiet).await;
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let mut flood = JoinSet::new();
        for guest in 0..FLOOD {
            let (served, stop, done) = (served.clone(), stop.clone(), done.clone());
            flood.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    call(&served, &served.program, &text(WORDS, guest)).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The flood is under way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (before, start) = (done.load(Ordering::Relaxed), Instant::now());
        let beside = quiet_calls(&served, &quiet).await;
        rates.push((done.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64());
        stop.store(true, Ordering::Relaxed);
        while flood.join_next().await.is_some() {}
        ratios.push(beside.percentile(0.99) / alone.percentile(0.99));
        all[0].append(alone);
        all[1].append(beside);
    }
    row("alone", &all[0], "");
    row("beside 64 guests that flood", &all[1], &format!("the flood: {:.0} texts/s", rates.median()));
    figures::print_ratio("quiet_app_p99_beside_flood_vs_alone", ratios.median());
    served.host.shut_down().await;
}

async fn quiet_calls(served: &Served, quiet: &Arc<bireme::sandbox::Program>) -> Samples {
    let mut samples = Samples::default();
    for i in 0..CALLS {
        samples.push_us(call(served, quiet, &text(WORDS, i)).await);
        tokio::time::sleep(PAUSE).await;
    }
    samples
}
