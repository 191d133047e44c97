//! Models that take turns in a place for one: what is unloaded is given back.

use std::fs;
use std::time::Instant;

use bireme::inference::{Caller, Inputs, Overflow, Tenant};
use bireme::limits::BatchLimits;

use crate::host::{count, with_host};
use crate::support::PATIENCE;
use crate::tiny::{HIDDEN, Tiny};

const MODELS: usize = 3;
/// What a worker may have grown by after all rounds: a fraction of what the models together would take.
const GROWTH_MAX: u64 = 8 << 20;

/// Bytes of memory that a process has now.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

#[test]
fn models_that_take_turns_do_not_make_their_worker_grow() {
    let data = tempfile::tempdir().unwrap();
    let models = data.path().join("models");
    (0..MODELS).for_each(|model| Tiny::new().install(&models.join(format!("tiny-{model}"))));
    let bytes = fs::metadata(models.join("tiny-0/model.safetensors")).unwrap().len();
    with_host(BatchLimits::default(), Some(bytes * 3 / 2), &models, async |host| {
        let rounds = count(200, 2_000);
        let mut settled = 0;
        for round in 0..rounds {
            let caller = Caller::new(Tenant::way_in("tenant"), Instant::now() + PATIENCE);
            let (name, inputs) = (format!("tiny-{}", round % MODELS), Inputs::Tokens(vec![vec![4, 5, 6]]));
            let embedded = host.inference.embed(&name, inputs, Overflow::Reject, &caller).await.unwrap();
            assert_eq!(embedded.values.len(), HIDDEN);
            if round == rounds / 4 {
                settled = resident(host.worker_pid());
            }
        }
        let (stats, resident) = (host.stats(), resident(host.worker_pid()));
        assert_eq!((stats.worker_starts, stats.loads), (1, rounds as u64));
        assert_eq!(stats.unloads, rounds as u64 - 1);
        assert_eq!(stats.models.iter().map(|model| model.loaded).sum::<usize>(), 1);
        let leaked = (rounds as u64 * 3 / 4) * bytes;
        assert!(leaked > 2 * GROWTH_MAX, "too few rounds to see a leak: {leaked} bytes");
        let growth = resident.saturating_sub(settled);
        assert!(growth < GROWTH_MAX, "grown by {growth} bytes in {rounds} rounds");
        println!("models in turns: {rounds} loads of {bytes} bytes, worker {settled} bytes, grown by {growth}");
    });
}
