//! Many tagged requests in batches of all sizes, some of them given up: each gets its own answer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bireme::limits::BatchLimits;
use tokio::task::JoinSet;

use crate::host::{Answer, Host, Numbers, count, with_host};

const CALLERS: u64 = 256;
const TENANTS: u64 = 5;

/// Lets so many others have a turn.
async fn turns(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Makes one request after the other until so many were begun by all; returns how many were answered, and given up.
async fn ask_in_a_row(host: &Host, caller: u64, next: &AtomicU64, requests: u64) -> (u64, u64) {
    let mut numbers = Numbers(caller);
    let tenant = format!("tenant-{}", caller % TENANTS);
    let (mut answered, mut given_up) = (0, 0);
    loop {
        let request = next.fetch_add(1, Ordering::Relaxed);
        if request >= requests {
            return (answered, given_up);
        }
        // Each row begins with a number of its own, which a float can hold.
        let first = (request % (1 << 21)) as u32 * 4;
        let rows: Vec<_> =
            (0..=numbers.below(4) as u32).map(|row| (first + row, 1 + numbers.below(6) as u32)).collect();
        let patience = (numbers.below(8) == 0).then(|| numbers.below(6));
        tokio::select! {
            biased;
            answer = host.ask(&tenant, &rows) => {
                assert_eq!(answer, Answer::Own, "request {request}");
                answered += 1;
            }
            () = turns(patience.unwrap_or_default()), if patience.is_some() => given_up += 1,
        }
    }
}

#[test]
fn of_many_tagged_requests_in_random_batches_none_gets_an_answer_of_another() {
    let limits = BatchLimits { max_batch_size: 7, max_batch_tokens: 24, ..BatchLimits::default() };
    with_host(limits, None, Path::new("/nonexistent"), async |host| {
        let requests = count(20_000, 1_000_000) as u64;
        let next = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (host, next) = (host.clone(), next.clone());
            callers.spawn(async move { ask_in_a_row(&host, caller, &next, requests).await });
        }
        let counts = callers.join_all().await;
        let answered: u64 = counts.iter().map(|(answered, _)| answered).sum();
        let given_up: u64 = counts.iter().map(|(_, given_up)| given_up).sum();
        assert_eq!(answered + given_up, requests);
        assert!(answered > requests / 2 && given_up > 0);
        let stats = host.stats();
        assert_eq!((stats.worker_starts, stats.worker_deaths, stats.batches_failed), (1, 0, 0));
        println!(
            "tagged: {requests} requests of {CALLERS} callers, {answered} answered, {given_up} given up, {} batches \
             ({} full of rows, {} of tokens), lost 0, crossed 0",
            stats.batches, stats.cut_rows, stats.cut_tokens
        );
    });
}
