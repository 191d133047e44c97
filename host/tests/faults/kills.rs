//! kill -9, in the middle of batches that many share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bireme::limits::BatchLimits;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::fake::{Fault, Stage};
use crate::host::{Answer, Host, Numbers, alone, count, with_host};
use crate::support::{PATIENCE, Server, children_as, signal_process, stat, wait_until};
use crate::tiny::Tiny;

const CALLERS: u64 = 32;
const TENANTS: u64 = 5;

/// Waits for what another thread will make true, without keeping its task from running.
async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Makes one request after the other until it is over; returns how many.
async fn ask_until(host: &Host, caller: u64, next: &AtomicU64, is_over: &AtomicBool) -> u64 {
    let mut numbers = Numbers(caller);
    let tenant = format!("tenant-{}", caller % TENANTS);
    let mut answered = 0;
    while !is_over.load(Ordering::Relaxed) {
        // Each row begins with a number of its own, which a float can hold.
        let first = (next.fetch_add(1, Ordering::Relaxed) % (1 << 21)) as u32 * 4;
        let rows: Vec<_> =
            (0..=numbers.below(4) as u32).map(|row| (first + row, 1 + numbers.below(6) as u32)).collect();
        assert_eq!(host.ask(&tenant, &rows).await, Answer::Own);
        answered += 1;
    }
    answered
}

#[test]
fn a_killed_worker_costs_each_of_its_batches_one_retry_and_no_caller_anything() {
    let limits = BatchLimits { max_batch_size: 24, ..BatchLimits::default() };
    with_host(limits, None, Path::new("/nonexistent"), async |host| {
        let kills = count(30, 1_000);
        let (is_over, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (host, is_over, next) = (host.clone(), is_over.clone(), next.clone());
            callers.spawn(async move { ask_until(&host, caller, &next, &is_over).await });
        }
        let mut took = Vec::new();
        for kill in 0..kills as u64 {
            host.plan.arm(Stage::Batch, Fault::Holds);
            until("a worker is in a batch", || host.plan.is_taken()).await;
            let begun = Instant::now();
            signal_process(host.worker_pid(), Signal::KILL);
            until("the host sees it", || host.stats().worker_deaths > kill).await;
            let batches = host.stats().batches;
            until("a batch is answered", || host.stats().batches > batches).await;
            took.push(begun.elapsed());
            let twice = host.inference.batches().into_iter().find(|batch| batch.losses > 1);
            assert!(twice.is_none(), "{twice:?}");
        }
        is_over.store(true, Ordering::Relaxed);
        let answered: u64 = callers.join_all().await.iter().sum();
        let stats = host.stats();
        let kills = kills as u64;
        assert_eq!((stats.worker_deaths, stats.batches_failed), (kills, kills));
        // What was ahead of the worker comes back, too.
        assert!((kills..=2 * kills).contains(&stats.cut_retry), "{stats:?}");
        took.sort_unstable();
        let percentile = |percent: usize| took[(took.len() - 1) * percent / 100];
        println!(
            "kill -9 mid batch: {kills} kills, {} requests of {TENANTS} tenants, lost 0, crossed 0, batches lost {}, \
             run again {}, kill to answer p50 {:?} p99 {:?} max {:?}",
            answered,
            stats.batches_failed,
            stats.cut_retry,
            percentile(50),
            percentile(99),
            took[took.len() - 1],
        );
    });
}

#[test]
fn the_workers_of_a_killed_host_end() {
    let _alone = alone();
    let times = count(2, 100);
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        let data = tempfile::tempdir().unwrap();
        Tiny::new().install(&data.path().join("models/tiny"));
        let server = Server::try_start(data.path(), &[], &[]).unwrap();
        let reply = server.post("/v1/embeddings", &json!({ "model": "tiny", "input": "calm sea" }).to_string());
        assert_eq!(reply.status, 200, "{reply:#?}");
        let workers = children_as("worker", server.process.pid());
        assert_eq!(workers.len(), 1);
        server.process.signal(Signal::KILL);
        let begun = Instant::now();
        wait_until("the worker is gone", || stat(workers[0]).is_none());
        longest = longest.max(begun.elapsed());
    }
    println!("kill -9 of the host: {times} times, no worker left, the last after {longest:?}");
}
