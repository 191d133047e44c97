//! The process of one engine in Rust: embeds as told on standard input, and answers with times on standard output.
//!
//! `ready NAME` comes first. `check WORKLOAD` is answered by the vectors of the workload's first batch as JSON, and
//! `time WORKLOAD ROUND` by `WALL_NS CPU_NS`: the time between the ids in memory and the vectors in memory.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::ours::Ours;
use crate::tract::Tract;
use crate::workload::{self, Ids};

/// An engine with a model in it.
pub trait Engine {
    /// Name in the table.
    fn name(&self) -> String;

    /// The vectors of a batch, in order.
    fn embed(&mut self, batch: &[Ids]) -> Result<Vec<Vec<f32>>, Box<dyn Error>>;
}

pub const OURS: &str = "bireme";
pub const TRACT: &str = "tract";

/// Answers until standard input ends.
pub fn serve(name: &str, work: &Path, model: &Path, threads: usize) -> Result<(), Box<dyn Error>> {
    let mut engine: Box<dyn Engine> = match name {
        OURS => Box::new(Ours::load(model, threads)?),
        TRACT => Box::new(Tract::load(&work.join("model.onnx"), threads)?),
        _ => return Err(format!("no engine is called `{name}`").into()),
    };
    let workloads = workload::load(work)?;
    let mut answers = std::io::stdout().lock();
    writeln!(answers, "ready {}", engine.name())?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let find = |name: &str| workloads.iter().find(|workload| workload.name == name).ok_or("no such workload");
        match words.as_slice() {
            ["check", name] => {
                let vectors = engine.embed(&find(name)?.batches[0])?;
                writeln!(answers, "{}", serde_json::to_string(&vectors)?)?;
            }
            ["time", name, round] => {
                let batches = find(name)?.round(round.parse()?);
                let (start, cpu_start) = (Instant::now(), cpu_ns());
                for batch in batches {
                    std::hint::black_box(engine.embed(batch)?);
                }
                writeln!(answers, "{} {}", start.elapsed().as_nanos(), cpu_ns() - cpu_start)?;
            }
            _ => return Err(format!("`{line}` is no request").into()),
        }
        answers.flush()?;
    }
    Ok(())
}

/// The CPU time of all threads of this process so far.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
