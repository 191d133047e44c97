//! A request that ends every worker that sees it, among others.

use std::path::Path;

use bireme::inference::InferenceError;
use bireme::limits::BatchLimits;
use futures_util::future;

use crate::fake::POISON;
use crate::host::{Answer, count, with_host};

const OTHERS: u32 = 500;
const ROWS: usize = 64;

#[test]
fn a_request_that_ends_workers_is_found_among_five_hundred_and_rejected_alone() {
    let limits = BatchLimits { max_batch_size: ROWS, ..BatchLimits::default() };
    with_host(limits, None, Path::new("/nonexistent"), async |host| {
        let (rounds, mut deaths) = (count(2, 50), Vec::new());
        for round in 0..rounds as u32 {
            let before = host.stats();
            let poisoned = (round * 97) % OTHERS;
            let requests = (0..=OTHERS).map(async |request| {
                let first = if request == poisoned { POISON } else { request };
                host.ask(&format!("tenant-{}", request % 5), &[(first, 1 + request % 7)]).await
            });
            let answers = future::join_all(requests).await;
            for (request, answer) in (0..).zip(&answers) {
                match answer {
                    Answer::Failed(InferenceError::DeviceLost { .. }) => assert_eq!(request, poisoned),
                    answer => assert!(*answer == Answer::Own && request != poisoned, "{request}: {answer:?}"),
                }
            }
            let after = host.stats();
            assert_eq!(after.rejected - before.rejected, 1);
            deaths.push(after.worker_deaths - before.worker_deaths);
        }
        let most = deaths.iter().max().copied().unwrap_or_default();
        // Twice as a whole, then once for each time that it is cut in half.
        assert!(most <= 2 + u64::from(ROWS.ilog2()), "{deaths:?}");
        println!("poison among {OTHERS}: {rounds} rounds, found in at most {most} deaths, lost 0, crossed 0");
    });
}
