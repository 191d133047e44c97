//! Durable calls in figures: how long it takes until one is accepted, what one that waits weighs, how soon a host
//! with a million of them has begun again, how fast a map goes on one thread and on two.
//!
//! `bireme-durable [ROWS]`: 1,000,000 rows unless another number is given. Prints lines `FIGURE name value` and
//! `RATIO name value`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bireme::call::{Payload, Principal, Priority};
use bireme::config::{Config, Directories};
use bireme::dispatch::{Durable, Options, ResultsOrder, Retention};
use bireme::sandbox::MapRun;
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::{self, BENCH_GUEST, HELLO, Served};

/// Calls of each client of the accept latency.
const ACCEPTS: usize = 4_000;
/// Clients that fill the journal.
const FILLERS: usize = 2_000;

fn main() -> ExitCode {
    if guest::ran_as_child() {
        return ExitCode::SUCCESS;
    }
    let rows: Option<usize> = std::env::args().nth(1).map_or(Some(1_000_000), |rows| rows.parse().ok());
    let Some(rows) = rows else {
        figures::print("usage: bireme-durable [ROWS]");
        return ExitCode::FAILURE;
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    guest::runtime(threads).block_on(async {
        accept().await;
        waiting(rows).await;
    });
    maps(rows.min(200_000));
    figures::print_machine();
    ExitCode::SUCCESS
}

use figures::print_figure as figure;

/// Until `spawn` has returned: the call is on disk.
async fn accept() {
    for clients in [1_usize, 32, 1_000] {
        let served = Served::start(HELLO).await;
        served.host.durable.start(Retention::default()).await.expect("an empty journal");
        let each = (ACCEPTS / clients).max(4);
        let started = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let durable = served.host.durable.clone();
                let function = served.find("square");
                tokio::spawn(async move {
                    let mut samples = Samples::default();
                    for _ in 0..each {
                        let started = Instant::now();
                        durable.spawn(&function, Payload::json("7"), Options::default()).await.expect("accepted");
                        samples.push_us(started.elapsed());
                    }
                    samples
                })
            })
            .collect();
        let mut samples = Samples::default();
        for task in tasks {
            samples.append(task.await.expect("no panic"));
        }
        let rate = samples.len() as f64 / started.elapsed().as_secs_f64();
        figure(&format!("accept_p50_us_{clients}_clients"), samples.median());
        figure(&format!("accept_p99_us_{clients}_clients"), samples.percentile(0.99));
        figure(&format!("accepts_per_second_{clients}_clients"), rate);
        served.host.shut_down().await;
    }
}

/// Fills a journal with calls that do not begin, and starts another host over it.
async fn waiting(rows: usize) {
    let data = tempfile::tempdir().expect("a temporary directory can be made");
    let over = |data: &Path| {
        let data = data.to_owned();
        move |config: &mut Config| config.directories = Directories::resolve(Some(&data)).expect("a directory")
    };
    {
        let served = Served::start_with(HELLO, over(data.path())).await;
        // Not started: what is accepted waits.
        let durable = served.host.durable.clone();
        fill(&durable, &served, rows / 10).await;
        let before = resident();
        let more = rows - rows / 10;
        fill(&durable, &served, more).await;
        figure("bytes_of_memory_per_waiting_call", (resident() - before) as f64 / more as f64);
        let store = std::fs::metadata(data.path().join("store.redb")).map_or(0, |file| file.len());
        figure("bytes_of_disk_per_waiting_call", store as f64 / rows as f64);
    }
    let served = Served::start_with(HELLO, over(data.path())).await;
    let started = Instant::now();
    // Taking them up, without running them: nothing is deployed under that name any more.
    served.host.dispatcher.retire("hello");
    let (calls, _) = served.host.durable.start(Retention::default()).await.expect("the journal can be read");
    figure("recovery_seconds", started.elapsed().as_secs_f64());
    figure("recovered_calls", calls as f64);
}

async fn fill(durable: &Arc<Durable>, served: &Served, rows: usize) {
    let tasks: Vec<_> = (0..FILLERS)
        .map(|_| {
            let (durable, function) = (durable.clone(), served.find("square"));
            tokio::spawn(async move {
                for _ in 0..rows / FILLERS {
                    durable.spawn(&function, Payload::json("7"), Options::default()).await.expect("accepted");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1_024
}

/// A map of tiny calls and one of calls that compute, in memory and durable, on one thread and on two; in turns.
fn maps(inputs: usize) {
    let mut rates: Vec<(String, Samples)> = Vec::new();
    for _ in 0..3 {
        for threads in [1, 2] {
            for (what, input, count) in [("tiny", "1", inputs), ("busy", BUSY, inputs / 100)] {
                let memory = guest::runtime(threads).block_on(in_memory(input, count));
                let durable = guest::runtime(threads).block_on(durable(input, count));
                for (kind, seconds) in [("memory", memory), ("durable", durable)] {
                    let name = format!("{kind}_{what}_{threads}");
                    let rate = count as f64 / seconds.as_secs_f64();
                    match rates.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, samples)) => samples.push(rate),
                        None => {
                            let mut samples = Samples::default();
                            samples.push(rate);
                            rates.push((name, samples));
                        }
                    }
                }
            }
        }
    }
    for (name, samples) in &rates {
        figure(&format!("map_{name}_threads_per_second"), samples.median());
    }
    let of =
        |name: &str| rates.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, samples)| samples.median());
    for what in ["tiny", "busy"] {
        for kind in ["memory", "durable"] {
            figures::print_ratio(
                &format!("two_threads_over_one_{kind}_{what}"),
                of(&format!("{kind}_{what}_2")) / of(&format!("{kind}_{what}_1")),
            );
        }
        let ratio = of(&format!("durable_{what}_2")) / of(&format!("memory_{what}_2"));
        figures::print_ratio(&format!("durable_over_memory_{what}"), ratio);
    }
}

const FUNCTION: &str = "spin";
/// Rounds that take about a millisecond.
const BUSY: &str = "1000000";

async fn in_memory(input: &'static str, count: usize) -> Duration {
    let served = Served::start(BENCH_GUEST).await;
    let (function, order) = (served.find(FUNCTION), bireme::sandbox::Order::Input);
    let mut map = served.host.dispatcher.map(function, order, Priority::Normal, Principal::Operator);
    let started = Instant::now();
    let mut pending: std::collections::VecDeque<Payload> = (0..count).map(|_| Payload::json(input)).collect();
    let mut taken = 0;
    while taken < count {
        if !pending.is_empty() {
            map.push(&mut pending).expect("it takes inputs");
            if pending.is_empty() {
                map.finish();
            }
        }
        let outcomes = map.next(1_024).await;
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{FUNCTION} fails");
        taken += outcomes.len();
    }
    started.elapsed()
}

async fn durable(input: &'static str, count: usize) -> Duration {
    let served = Served::start(BENCH_GUEST).await;
    let durable = served.host.durable.clone();
    durable.start(Retention::default()).await.expect("an empty journal");
    let started = Instant::now();
    let map = durable.create_map(&served.find(FUNCTION), Options::default()).await.expect("a map");
    let id = map.header.id;
    let mut results = durable.results(id, 0, ResultsOrder::Input, true).await.expect("its results");
    let append = async {
        let mut from = 0;
        while from < count as u64 {
            let len = (count as u64 - from).min(4_096) as usize;
            let inputs = vec![Payload::json(input); len];
            from = durable.append(id, Some(from), inputs).await.expect("appended");
        }
        durable.close_map(id).await.expect("closed");
    };
    let read = async {
        let mut taken = 0;
        loop {
            let entries = results.next().await.expect("read");
            if entries.is_empty() {
                return taken;
            }
            assert!(entries.iter().all(|entry| !entry.is_failure()), "{FUNCTION} fails");
            taken += entries.len();
        }
    };
    let ((), taken) = tokio::join!(append, read);
    assert_eq!(taken, count);
    let elapsed = started.elapsed();
    served.host.shut_down().await;
    elapsed
}
