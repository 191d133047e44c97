//! The batcher with a real model on this machine's device: what batching brings and costs, how a quiet app fares
//! beside one that floods, what a waiting request weighs, how a full queue refuses.
//!
//! `bireme-batch MODELS [ROUNDS]`, where MODELS holds all-minilm-l6-v2. `benches/compare/batch.sh` sets that up.
//!
//! This binary is also the worker: the host starts it again with the argument `worker`.

mod flood;
mod queue;
mod together;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bireme::call::{Payload, Principal};
use bireme::config::Config;
use bireme::dispatch::{Call, find_function};
use bireme::limits::BatchLimits;
use bireme::sandbox::Program;
use bireme::spawner::Spawner;
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::{self, Served};

/// The model that the guest names.
pub const MODEL: &str = "all-minilm-l6-v2";

fn main() -> ExitCode {
    if guest::ran_as_child() {
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [models, rest @ ..] => {
            let rounds = rest.first().map_or(Ok(5), |rounds| rounds.parse());
            let Ok(rounds) = rounds else { return usage() };
            run(&PathBuf::from(models), rounds);
            ExitCode::SUCCESS
        }
        [] => usage(),
    }
}

fn usage() -> ExitCode {
    figures::print("usage: bireme-batch MODELS [ROUNDS]");
    ExitCode::FAILURE
}

fn run(models: &std::path::Path, rounds: usize) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = guest::runtime(threads);
    runtime.block_on(async {
        tokio::spawn({
            let models = models.to_owned();
            async move {
                together::measure(&models, rounds).await;
                flood::measure(&models, rounds).await;
                queue::measure(&models).await;
            }
        })
        .await
        .expect("no part panics");
    });
    figures::print_machine();
}

/// Serves the guest on a host with these limits, its model loaded.
pub async fn serve(models: &std::path::Path, limits: BatchLimits) -> Served {
    let served = Served::start_with(guest::BENCH_GUEST, |config: &mut Config| {
        config.inference.models_dir = models.to_owned();
        config.inference.spawner = Spawner::in_process(models);
        config.inference.batch_limits = limits;
    })
    .await;
    call(&served, &served.program, "warm up").await;
    served
}

/// Calls a guest that embeds one text; returns what that took.
pub async fn call(served: &Served, program: &Arc<Program>, text: &str) -> Duration {
    let input = format!("[\"{text}\"]");
    let call = Call::new(
        find_function(program, "embed_texts").expect("it is there"),
        Payload::json(input),
        Principal::Operator,
    );
    let start = Instant::now();
    let finished = served.host.dispatcher.call(call).await;
    finished.result.expect("the call is good");
    start.elapsed()
}

/// So many words of text, as different as tokens go.
pub fn text(words: usize, salt: usize) -> String {
    const WORDS: [&str; 8] = ["harbour", "rope", "north", "sail", "evening", "stone", "letter", "copper"];
    (0..words).map(|i| WORDS[(i * 7 + salt) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

/// Prints percentiles in milliseconds.
pub fn row(name: &str, samples: &Samples, extra: &str) {
    let ms = |share| samples.percentile(share) / 1_000.0;
    figures::print(&format!("{name:<34} {:>9.2} {:>9.2} {:>9.2}  {extra}", ms(0.5), ms(0.99), ms(1.0)));
}
