//! A host in this process, and what it must not leave behind.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bireme::devices::{DeviceChoice, DeviceName};
use bireme::inference::{Caller, DeviceStats, Inference, InferenceConfig, InferenceError, Inputs, NOOP_MODEL};
use bireme::inference::{Overflow, Tenant};
use bireme::limits::BatchLimits;
use tokio::runtime::Runtime;

use crate::fake::Plan;
use crate::support::{PATIENCE, children, wait_until};

/// Returns the full count where it is asked for, else a small one.
pub(crate) fn count(small: usize, full: usize) -> usize {
    if std::env::var("BIREME_FAULTS").is_ok_and(|size| size == "full") { full } else { small }
}

/// Whose an answer was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Own,
    Crossed,
    Failed(InferenceError),
}

pub(crate) struct Host {
    pub inference: Inference,
    pub plan: Plan,
}

impl Host {
    /// Answers whether the rows, each its first token and its length, come back as they were sent.
    pub(crate) async fn ask(&self, tenant: &str, rows: &[(u32, u32)]) -> Answer {
        let caller = Caller::new(Tenant::way_in(tenant), Instant::now() + 10 * PATIENCE);
        let texts = rows.iter().map(|&(first, length)| {
            let mut text = vec![1; length as usize];
            text[0] = first;
            text
        });
        let inputs = Inputs::Tokens(texts.collect());
        match self.inference.embed(NOOP_MODEL, inputs, Overflow::Reject, &caller).await {
            Err(error) => Answer::Failed(error),
            Ok(embedded) => {
                let values = embedded.values.chunks(embedded.dimension as usize);
                let is_own = embedded.values.len() == rows.len() * embedded.dimension as usize
                    && values.zip(rows).all(|(values, &(first, length))| values[..2] == [first as f32, length as f32]);
                if is_own { Answer::Own } else { Answer::Crossed }
            }
        }
    }

    pub(crate) fn stats(&self) -> DeviceStats {
        self.inference.stats()
    }

    pub(crate) fn worker_pid(&self) -> u32 {
        self.stats().worker_pid.expect("a worker runs")
    }
}

/// Runs a test over a host of its own while no other runs, and looks at what it leaves.
pub(crate) fn with_host<T>(
    limits: BatchLimits,
    memory_max: Option<u64>,
    models: &Path,
    test: impl AsyncFnOnce(&Arc<Host>) -> T,
) -> T {
    let _alone = alone();
    let runtime = Runtime::new().unwrap();
    // What the runtime keeps for the whole process from its first child on.
    runtime.block_on(async { tokio::process::Command::new("true").status().await.unwrap() });
    let before = descriptors();
    let (result, stats) = runtime.block_on(async {
        let plan = Plan::new();
        let inference = Inference::new(InferenceConfig {
            models_dir: models.to_owned(),
            spawner: plan.spawner(models),
            device: DeviceChoice::Named(DeviceName::Cpu),
            batch_limits: limits,
            model_memory_max: memory_max,
            weights: HashMap::new(),
            noop_model: true,
            requests_bytes_max: 1 << 30,
        });
        let host = Arc::new(Host { inference, plan });
        let result = test(&host).await;
        assert_eq!(host.ask("last", &[(5, 3), (6, 1)]).await, Answer::Own);
        host.inference.shut_down().await;
        (result, host.stats())
    });
    assert_eq!(stats.queue_bytes, 0);
    wait_until("no worker is left", || children(std::process::id()).is_empty());
    wait_until("no file descriptor is left", || descriptors() <= before);
    drop(runtime);
    result
}

/// Keeps the other tests of this process out.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Numbers that look random, the same in each run.
pub(crate) struct Numbers(pub u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
