//! A fresh call through the host against the bare wasmtime loop, both on one runtime thread; and the part of it that
//! its metrics take.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bireme::call::Receipt;
use bireme::dispatch::Call;
use bireme_benches::bare::Bare;
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest::{self, Served};
use criterion::Criterion;
use tokio::runtime::Runtime;

const FUNCTION: &str = "square";
const INPUT: &str = "12";
const OUTPUT: &[u8] = b"144";

/// One round takes one side for some milliseconds, then the other.
const ROUNDS: usize = 400;
const CALLS_PER_ROUND: u64 = 250;
/// Counting a call is too short to be timed over as few.
const COUNTS_PER_ROUND: u64 = 10_000;

fn main() {
    if guest::ran_as_child() {
        return;
    }
    let runtime = guest::runtime(1);
    let bench = Arc::new(runtime.block_on(Bench::start()));

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("call");
    group.bench_function("bireme", |bencher| {
        bencher.iter_custom(|calls| bench.time(&runtime, Side::Host, calls));
    });
    group.bench_function("bare", |bencher| {
        bencher.iter_custom(|calls| bench.time(&runtime, Side::Bare, calls));
    });
    group.bench_function("counting", |bencher| bencher.iter_custom(|calls| bench.time_counting(calls)));
    group.finish();
    criterion.final_summary();

    let (mut host, mut bare, mut counting) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..figures::rounds(ROUNDS) {
        let mean = |side| bench.time(&runtime, side, CALLS_PER_ROUND) / CALLS_PER_ROUND as u32;
        host.push_us(mean(Side::Host));
        bare.push_us(mean(Side::Bare));
        counting.push_us(bench.time_counting(COUNTS_PER_ROUND) / COUNTS_PER_ROUND as u32);
    }
    figures::print_machine();
    for (name, samples) in [("call", &host), ("bare", &bare), ("counting", &counting)] {
        figures::print_figure(&format!("{name}_us"), samples.median());
        figures::print_figure(&format!("{name}_us_p10"), samples.percentile(0.1));
        figures::print_figure(&format!("{name}_us_p90"), samples.percentile(0.9));
    }
    figures::print_ratio("call_vs_bare", host.ratio_to(&bare));
    figures::print_ratio("counting_vs_call", counting.ratio_to(&host));
}

#[derive(Clone, Copy)]
enum Side {
    Host,
    Bare,
}

struct Bench {
    served: Served,
    call: Call,
    bare: Bare,
}

impl Bench {
    async fn start() -> Self {
        let served = Served::start(guest::HELLO).await;
        let bare = Bare::new(served.host.sandbox.engine(), &served.component.bytes).expect("the component links");
        let call = served.call(FUNCTION, INPUT);
        let bench = Self { served, call, bare };
        bench.host_call().await;
        bench.bare_call().await;
        bench
    }

    async fn host_call(&self) {
        let finished = self.served.host.dispatcher.call(self.call.clone()).await;
        assert_eq!(finished.result.expect("the call is good").data, OUTPUT);
    }

    async fn bare_call(&self) {
        let output = self.bare.call(FUNCTION, INPUT.as_bytes()).await;
        assert_eq!(output.expect("the call is good"), OUTPUT);
    }

    /// Counts `calls` calls as the host does, without making them.
    fn time_counting(&self, calls: u64) -> Duration {
        let receipt = Receipt { attempts: 1, queue_us: 3, wall_us: 12, ..Receipt::default() };
        let start = Instant::now();
        for _ in 0..calls {
            let counters = black_box(self.call.function.counters());
            let running = counters.begin();
            counters.count_attempt(1);
            running.end(None, black_box(&receipt));
        }
        start.elapsed()
    }

    /// Makes `calls` calls, one after the other, on the runtime's thread.
    fn time(self: &Arc<Self>, runtime: &Runtime, side: Side, calls: u64) -> Duration {
        let bench = self.clone();
        let timed = runtime.spawn(async move {
            let start = Instant::now();
            for _ in 0..calls {
                match side {
                    Side::Host => bench.host_call().await,
                    Side::Bare => bench.bare_call().await,
                }
            }
            start.elapsed()
        });
        runtime.block_on(timed).expect("no call panics")
    }
}
