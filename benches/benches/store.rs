//! Time of accepting a call, fsync included, and calls accepted a second, at 1, 32 and 1,000 clients.
//!
//! A client writes the three rows of a small call, waits until they are on disk, and writes the next.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bireme::store::{Op, Store, Table};
use bireme_benches::figures::{self, Samples};
use bireme_benches::guest;
use criterion::{Criterion, Throughput};
use tempfile::TempDir;
use tokio::task::JoinSet;

const CLIENTS: [u64; 3] = [1, 32, 1_000];
const INPUT_BYTES: usize = 256;
const RECORD_BYTES: usize = 200;
const MEASURED: Duration = Duration::from_secs(5);

fn main() {
    let runtime = guest::runtime(2);
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("store/accept");
    group.sample_size(10);
    for clients in CLIENTS {
        let bench = Bench::open();
        group.throughput(Throughput::Elements(clients));
        // One turn of every client.
        group.bench_function(clients.to_string(), |bencher| {
            bencher.iter(|| runtime.block_on(bench.clone().run(clients, Duration::ZERO)));
        });
    }
    group.finish();
    criterion.final_summary();
    figures::print_machine();
    for clients in CLIENTS {
        let measured = if figures::is_measured() { MEASURED } else { Duration::ZERO };
        let start = Instant::now();
        let latencies = runtime.block_on(Bench::open().run(clients, measured));
        let per_second = latencies.len() as f64 / start.elapsed().as_secs_f64();
        figures::print_figure(&format!("store_accept_{clients}_clients_p50_us"), latencies.percentile(0.5));
        figures::print_figure(&format!("store_accept_{clients}_clients_p99_us"), latencies.percentile(0.99));
        figures::print_figure(&format!("store_accept_{clients}_clients_per_s"), per_second);
    }
}

/// A database on the disk that holds the build, since a temporary directory may be memory.
struct Bench {
    store: Store,
    _dir: TempDir,
}

impl Bench {
    fn open() -> Arc<Self> {
        let dir =
            tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("the build directory can be written");
        let store = Store::open(&dir.path().join("store.redb")).expect("a new database opens");
        Arc::new(Self { store, _dir: dir })
    }

    /// Lets each client write for `measured`, and once at least. Returns what each write took.
    async fn run(self: Arc<Self>, clients: u64, measured: Duration) -> Samples {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for client in 0..clients {
            let bench = self.clone();
            running.spawn(async move {
                let mut latencies = Samples::default();
                let mut number = 0;
                while number == 0 || start.elapsed() < measured {
                    let begin = Instant::now();
                    bench.store.write(rows(client, number)).await.expect("the disk has room");
                    latencies.push_us(begin.elapsed());
                    number += 1;
                }
                latencies
            });
        }
        let mut all = Samples::default();
        while let Some(latencies) = running.join_next().await {
            all.append(latencies.expect("no client panics"));
        }
        all
    }
}

/// Rows of an accepted call: its record, its input and its index.
fn rows(client: u64, number: u64) -> Vec<Op> {
    // In the order of time, as ids are.
    let key = [number.to_be_bytes(), client.to_be_bytes()].concat();
    let row = |table, bytes| Op::Put { table, key: key.clone(), value: vec![7; bytes] };
    vec![row(Table::Calls, RECORD_BYTES), row(Table::CallInputs, INPUT_BYTES), row(Table::JournalIndex, 0)]
}
