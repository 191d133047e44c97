//! A map of 100,000 tiny inputs in memory against the bare wasmtime loop, on one and on two runtime threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bireme::call::{Payload, Principal, Priority};
use bireme::sandbox::FunctionRef;
use bireme::sandbox::{MapRun, Order};
use bireme_benches::bare::Bare;
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::{self, Served};
use criterion::{Criterion, Throughput};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const FUNCTION: &str = "square";

const INPUTS: u64 = 100_000;
const ROUNDS: usize = 5;
/// Criterion takes ten samples at least, so its maps are shorter.
const INPUTS_OF_A_SAMPLE: u64 = 5_000;

/// Outcomes taken at a time.
const TAKEN_MAX: usize = 256;

fn main() {
    if guest::ran_as_child() {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut lines = Vec::new();
    for threads in [1, 2] {
        let runtime = guest::runtime(threads);
        let bench = Arc::new(runtime.block_on(Bench::start(threads)));

        let mut group = criterion.benchmark_group(format!("map/{threads}"));
        group.sample_size(10).throughput(Throughput::Elements(INPUTS_OF_A_SAMPLE));
        for way in Way::ALL {
            group.bench_function(way.name(), |bencher| {
                bencher.iter(|| bench.time(&runtime, way, INPUTS_OF_A_SAMPLE));
            });
        }
        group.finish();

        let mut rates = [(); 3].map(|()| Samples::default());
        for _ in 0..figures::rounds(ROUNDS) {
            let inputs = if figures::is_measured() { INPUTS } else { 1_000 };
            for (way, rates) in Way::ALL.into_iter().zip(&mut rates) {
                rates.push(inputs as f64 / bench.time(&runtime, way, inputs).as_secs_f64());
            }
        }
        let [ordered, unordered, bare] = rates;
        for (way, rates) in Way::ALL.into_iter().zip([&ordered, &unordered, &bare]) {
            let name = format!("map_{}_{threads}t", way.name());
            lines.push((format!("{name}_per_s"), rates.median()));
            lines.push((format!("{name}_per_s_min"), rates.percentile(0.0)));
            lines.push((format!("{name}_per_s_max"), rates.percentile(1.0)));
        }
        // Time over time, so that a larger ratio is a slower map, as in `call`.
        lines.push((format!("map_ordered_vs_bare_{threads}t"), bare.ratio_to(&ordered)));
        lines.push((format!("map_unordered_vs_bare_{threads}t"), bare.ratio_to(&unordered)));
    }
    criterion.final_summary();
    figures::print_machine();
    for (name, value) in lines {
        if name.contains("_vs_") {
            figures::print_ratio(&name, value);
        } else {
            figures::print_figure(&name, value);
        }
    }
}

#[derive(Clone, Copy)]
enum Way {
    Ordered,
    Unordered,
    Bare,
}

impl Way {
    const ALL: [Way; 3] = [Way::Ordered, Way::Unordered, Way::Bare];

    fn name(self) -> &'static str {
        match self {
            Way::Ordered => "ordered",
            Way::Unordered => "unordered",
            Way::Bare => "bare",
        }
    }
}

struct Bench {
    served: Served,
    bare: Bare,
    function: FunctionRef,
    threads: usize,
}

impl Bench {
    async fn start(threads: usize) -> Self {
        let served = Served::start(guest::HELLO).await;
        let bare = Bare::new(served.host.sandbox.engine(), &served.component.bytes).expect("the component links");
        let function = served.find(FUNCTION);
        Self { served, bare, function, threads }
    }

    fn time(self: &Arc<Self>, runtime: &Runtime, way: Way, inputs: u64) -> Duration {
        let bench = self.clone();
        let timed = runtime.spawn(async move {
            let start = Instant::now();
            let sum = match way {
                Way::Ordered => bench.map(Order::Input, inputs).await,
                Way::Unordered => bench.map(Order::Completion, inputs).await,
                Way::Bare => bench.bare(inputs).await,
            };
            assert_eq!(sum, (0..inputs).map(|n| n * n).sum::<u64>());
            start.elapsed()
        });
        runtime.block_on(timed).expect("no call panics")
    }

    /// Pushes whenever there is room, takes whatever is due, as the command line does.
    async fn map(&self, order: Order, inputs: u64) -> u64 {
        let mut map =
            self.served.host.dispatcher.map(self.function.clone(), order, Priority::Normal, Principal::Operator);
        let mut inputs = (0..inputs).map(|n| Payload::json(n.to_string()));
        let mut offered = VecDeque::new();
        let mut sum = 0;
        loop {
            if offered.is_empty() {
                offered.extend(inputs.by_ref().take(TAKEN_MAX));
            }
            if offered.is_empty() {
                map.finish();
            } else {
                map.push(&mut offered).expect("the map is open");
                if offered.is_empty() {
                    continue;
                }
            }
            let outcomes = map.next(TAKEN_MAX).await;
            if outcomes.is_empty() {
                return sum;
            }
            for outcome in outcomes {
                sum += number(&outcome.result.expect("the call is good").data);
            }
        }
    }

    /// One loop for each thread; they share a counter and nothing else.
    async fn bare(self: &Arc<Self>, inputs: u64) -> u64 {
        let next_input = Arc::new(AtomicU64::new(0));
        let mut loops = JoinSet::new();
        for _ in 0..self.threads {
            let (bench, next_input) = (self.clone(), next_input.clone());
            loops.spawn(async move {
                let mut sum = 0;
                loop {
                    let input = next_input.fetch_add(1, Ordering::Relaxed);
                    if input >= inputs {
                        return sum;
                    }
                    let input = input.to_string();
                    let output = bench.bare.call(FUNCTION, input.as_bytes()).await;
                    sum += number(&output.expect("the call is good"));
                }
            });
        }
        loops.join_all().await.into_iter().sum()
    }
}

fn number(json: &[u8]) -> u64 {
    std::str::from_utf8(json).expect("JSON is UTF-8").parse().expect("a square is a number")
}
