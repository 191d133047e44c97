//! The way from a guest to a worker and back, with a model that computes nothing.
//!
//! This binary is also the worker: the host starts it again with the argument `worker`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bireme::dispatch::Call;
use bireme::inference::{Caller, Inputs, NOOP_MODEL, Overflow, Tenant};
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::{self, Served};
use criterion::{Criterion, Throughput};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const TEXT: &str = "a short text";
const INPUT: &str = "\"a short text\"";
/// Within one call of the guest: `TIMES` requests, each timed by the guest itself.
const TIMES: usize = 500;
const TIMES_INPUT: &str = "{\"text\": \"a short text\", \"times\": 500}";

const ROUNDS: usize = 20;
const REQUESTS_PER_ROUND: u64 = 500;
const CALLERS: [usize; 3] = [1, 16, 256];
const REQUESTS_AT_ONCE: u64 = 20_000;

fn main() -> ExitCode {
    if guest::ran_as_child() {
        return ExitCode::SUCCESS;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = guest::runtime(threads);
    let bench = Arc::new(runtime.block_on(Bench::start()));

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("inference");
    group.throughput(Throughput::Elements(1));
    for way in Way::ALL {
        for callers in CALLERS {
            group.bench_function(format!("{}/{callers}", way.name()), |bencher| {
                bencher.iter_custom(|requests| bench.time(&runtime, way, callers, requests).0);
            });
        }
    }
    group.finish();
    criterion.final_summary();

    let mut latencies = [(); 2].map(|()| Samples::default());
    let mut within = Samples::default();
    let mut rates = [(); 2].map(|()| CALLERS.map(|_| Samples::default()));
    for _ in 0..figures::rounds(ROUNDS) {
        for (i, way) in Way::ALL.into_iter().enumerate() {
            latencies[i].append(bench.time(&runtime, way, 1, REQUESTS_PER_ROUND).1);
        }
        within.append(bench.within(&runtime));
    }
    let mut within_rates = Samples::default();
    for _ in 0..figures::rounds(ROUNDS / 4) {
        within_rates.push(bench.within_at_once(&runtime, if figures::is_measured() { 256 } else { 4 }));
        for (i, way) in Way::ALL.into_iter().enumerate() {
            for (callers, rates) in CALLERS.into_iter().zip(&mut rates[i]) {
                let requests = if figures::is_measured() { REQUESTS_AT_ONCE } else { 500 };
                let (took, _) = bench.time(&runtime, way, callers, requests);
                rates.push(requests as f64 / took.as_secs_f64());
            }
        }
    }
    figures::print_machine();
    let [guest, direct] = latencies;
    for (name, samples) in [("noop_roundtrip", &guest), ("noop_within_call", &within), ("noop_direct", &direct)] {
        figures::print_figure(&format!("{name}_p50_us"), samples.median());
        figures::print_figure(&format!("{name}_p99_us"), samples.percentile(0.99));
    }
    figures::print_figure("noop_within_call_256_callers_per_s", within_rates.median());
    for (way, rates) in Way::ALL.into_iter().zip(&rates) {
        for (callers, rates) in CALLERS.into_iter().zip(rates) {
            let name = format!("noop_{}_{callers}_callers_per_s", way.name());
            figures::print_figure(&name, rates.median());
        }
    }
    runtime.block_on(bench.served.host.shut_down());
    ExitCode::SUCCESS
}

#[derive(Clone, Copy)]
enum Way {
    /// A fresh call of a function that embeds.
    Guest,
    /// The host's own entrance.
    Direct,
}

impl Way {
    const ALL: [Way; 2] = [Way::Guest, Way::Direct];

    fn name(self) -> &'static str {
        match self {
            Way::Guest => "guest",
            Way::Direct => "direct",
        }
    }
}

struct Bench {
    served: Served,
    call: Call,
    times_call: Call,
}

impl Bench {
    async fn start() -> Self {
        let served = Served::start(guest::BENCH_GUEST).await;
        let call = served.call("embed", INPUT);
        let times_call = served.call("embed_times", TIMES_INPUT);
        let bench = Self { served, call, times_call };
        // Starts the worker and loads the model.
        bench.request(Way::Direct).await;
        bench.request(Way::Guest).await;
        bench
    }

    async fn request(&self, way: Way) {
        match way {
            Way::Guest => {
                let finished = self.served.host.dispatcher.call(self.call.clone()).await;
                assert_eq!(finished.result.expect("the call is good").data, &b"4"[..]);
            }
            Way::Direct => {
                let deadline = Instant::now() + Duration::from_secs(30);
                let caller = Caller::new(Tenant::way_in("bench"), deadline);
                let inputs = Inputs::Texts(vec![TEXT.to_owned()]);
                let embed = self.served.host.inference.embed(NOOP_MODEL, inputs, Overflow::Truncate, &caller);
                let embedded = embed.await.expect("the request is good");
                assert_eq!(embedded.dimension, 4);
            }
        }
    }

    /// Makes `requests` requests by so many callers at a time; returns the time of all and of each.
    fn time(self: &Arc<Self>, runtime: &Runtime, way: Way, callers: usize, requests: u64) -> (Duration, Samples) {
        let bench = self.clone();
        let timed = runtime.spawn(async move {
            let next = Arc::new(AtomicU64::new(0));
            let mut tasks = JoinSet::new();
            let start = Instant::now();
            for _ in 0..callers {
                let (bench, next) = (bench.clone(), next.clone());
                tasks.spawn(async move {
                    let mut samples = Samples::default();
                    while next.fetch_add(1, Ordering::Relaxed) < requests {
                        let start = Instant::now();
                        bench.request(way).await;
                        samples.push_us(start.elapsed());
                    }
                    samples
                });
            }
            let mut samples = Samples::default();
            while let Some(part) = tasks.join_next().await {
                samples.append(part.expect("no request panics"));
            }
            (start.elapsed(), samples)
        });
        runtime.block_on(timed).expect("no request panics")
    }

    /// Makes `TIMES` requests within each of so many calls at a time; returns requests a second.
    fn within_at_once(self: &Arc<Self>, runtime: &Runtime, callers: usize) -> f64 {
        let bench = self.clone();
        let timed = runtime.spawn(async move {
            let start = Instant::now();
            let mut calls = JoinSet::new();
            for _ in 0..callers {
                let bench = bench.clone();
                calls.spawn(async move { bench.served.host.dispatcher.call(bench.times_call.clone()).await });
            }
            while let Some(finished) = calls.join_next().await {
                finished.expect("no call panics").result.expect("the call is good");
            }
            (callers * TIMES) as f64 / start.elapsed().as_secs_f64()
        });
        runtime.block_on(timed).expect("no call panics")
    }

    /// Makes `TIMES` requests within one call and returns what each took.
    fn within(self: &Arc<Self>, runtime: &Runtime) -> Samples {
        let bench = self.clone();
        let timed = runtime.spawn(async move {
            let call = bench.times_call.clone();
            let finished = bench.served.host.dispatcher.call(call).await;
            let output = finished.result.expect("the call is good").data;
            let text = std::str::from_utf8(&output).expect("JSON is UTF-8");
            let mut samples = Samples::default();
            for number in text.trim_matches(['[', ']']).split(',') {
                samples.push(number.trim().parse().expect("a list of numbers"));
            }
            assert_eq!(samples.len(), TIMES);
            samples
        });
        runtime.block_on(timed).expect("no request panics")
    }
}
