//! Seeded loop: mutates a target's corpus, in a process of its own whose end is a finding.
//!
//! The process writes each input to a memory file before it runs it, so that the parent has the input whatever the
//! end: a panic, an abort, a full stack, no memory, no end at all. Inputs that are refused for a reason not seen before
//! join the corpus in memory, which leads further into a reader than its first check.
//!
//! Limits: `STALL_MAX` without a finished execution; [`POOL_MAX`] inputs.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest, Sha256};

use crate::execute;
use crate::mutator::{Random, mutate};
use crate::targets::Target;
use crate::targets::models::SCRATCH_VARIABLE;

/// Inputs that are mutated.
const POOL_MAX: usize = 4_096;
/// Time without a finished execution after which the process counts as hanging. Executions have a limit of processor
/// time of their own.
const STALL_MAX: Duration = Duration::from_secs(120);
/// Words of a reason that tell it from others; the rest may be the input's.
const WORDS_MAX: usize = 24;
/// Head of the memory file: executions begun, and bytes of the input behind it.
const HEAD_BYTES: usize = 16;

/// Amount and place of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Executions of the fastest targets.
    pub executions: u64,
    /// Seed of the mutator.
    pub seed: u64,
    /// Directory with a corpus for each target.
    pub corpus: PathBuf,
    /// Directory that inputs which broke a promise are written to.
    pub artifacts: PathBuf,
}

/// Result of the runs of one target.
#[derive(Debug, Default)]
pub struct Report {
    /// Executions, those of the corpus included.
    pub executions: u64,
    /// Inputs that were not refused.
    pub accepted: u64,
    /// Reasons of refusals that differ in more than numbers.
    pub reasons: u64,
    /// Most bytes of memory of one execution.
    pub peak_bytes: u64,
}

/// Input that broke a promise.
#[derive(Debug)]
pub struct Finding {
    /// File with the input.
    pub artifact: PathBuf,
    /// End of the process.
    pub end: String,
}

/// Returns the corpus of a target, in the order of its files' names.
pub fn corpus(dir: &Path, target: &Target) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let dir = dir.join(target.name);
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read the corpus `{}`", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    let read = |path: PathBuf| Ok((path.clone(), fs::read(path)?));
    Ok(paths.into_iter().map(read).collect::<io::Result<_>>()?)
}

/// Runs a target in a process of its own.
pub fn run(target: &Target, plan: &Plan) -> Result<Result<Report, Finding>> {
    // Rewriting a file on a disk waits for it; one in memory does not.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let shared = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child", target.name, &plan.executions.to_string(), &plan.seed.to_string()])
        .arg(&plan.corpus)
        .env(SCRATCH_VARIABLE, scratch.path())
        .stdin(shared.try_clone()?)
        .stdout(Stdio::piped())
        .spawn()?;
    let end = wait(&mut child, &shared)?;
    if end.is_some_and(|status| status.success()) {
        let mut line = String::new();
        child.stdout.take().context("its output is a pipe")?.read_to_string(&mut line)?;
        let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [executions, accepted, reasons, peak_bytes] = numbers[..] else { bail!("a report of `{line}`") };
        return Ok(Ok(Report { executions, accepted, reasons, peak_bytes }));
    }
    let input = last_input(&shared)?;
    let dir = plan.artifacts.join(target.name);
    fs::create_dir_all(&dir)?;
    let digest: String = Sha256::digest(&input).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let artifact = dir.join(format!("crash-{digest}"));
    fs::write(&artifact, &input)?;
    let end = end.map_or_else(|| format!("no end within {STALL_MAX:?}"), |status| status.to_string());
    Ok(Err(Finding { artifact, end }))
}

/// Waits for the end of a process; none if it stopped making progress, and was killed.
fn wait(child: &mut Child, shared: &File) -> Result<Option<ExitStatus>> {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(20));
        let begun = executions_begun(shared)?;
        if begun != seen {
            (seen, since) = (begun, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
}

fn executions_begun(shared: &File) -> Result<u64> {
    let mut head = [0; 8];
    Ok(if shared.read_at(&mut head, 0)? == 8 { u64::from_le_bytes(head) } else { 0 })
}

fn last_input(shared: &File) -> Result<Vec<u8>> {
    let mut head = [0; HEAD_BYTES];
    shared.read_exact_at(&mut head, 0).context("the process ended before its first input")?;
    let len = head[8..].try_into().map(u64::from_le_bytes)?;
    let mut input = vec![0; usize::try_from(len)?];
    shared.read_exact_at(&mut input, HEAD_BYTES as u64)?;
    Ok(input)
}

/// The process itself: executes the corpus and inputs made of it, and prints its report.
///
/// # Panics
/// As `execute` does.
pub fn child(target: &Target, executions: u64, seed: u64, dir: &Path) -> Result<Report> {
    let shared = File::from(rustix::io::dup(rustix::stdio::stdin())?);
    let mut pool: Vec<Vec<u8>> = corpus(dir, target)?.into_iter().map(|(_, input)| input).collect();
    if pool.is_empty() {
        pool.push(Vec::new());
    }
    let (mut report, mut reasons, mut random) = (Report::default(), HashSet::new(), Random::new(seed));
    let seeds = pool.len();
    let count = (executions * target.share / 1_000).max(seeds as u64);
    let mut message = Vec::new();
    for number in 0..count {
        // The corpus as it is comes first.
        let mut input = match usize::try_from(number).ok().filter(|number| *number < seeds) {
            Some(number) => pool[number].clone(),
            // Every other one is of the corpus, so that what was found does not crowd it out.
            None if random.below(2) == 0 => pool[random.below(seeds)].clone(),
            None => pool[random.below(pool.len())].clone(),
        };
        if number >= seeds as u64 {
            let other = &pool[random.below(pool.len())];
            mutate(&mut input, &mut random, target.words, other, target.input_bytes_max);
        }
        message.clear();
        message.extend_from_slice(&(number + 1).to_le_bytes());
        message.extend_from_slice(&(input.len() as u64).to_le_bytes());
        message.extend_from_slice(&input);
        shared.write_all_at(&message, 0)?;
        let execution = execute(target, &input);
        // Accepted inputs lead further into a reader: the latest ones are mutated again.
        if execution.outcome.is_ok() && number >= seeds as u64 {
            if pool.len() < POOL_MAX {
                pool.push(input.clone());
            } else {
                let place = seeds + random.below(POOL_MAX - seeds);
                pool[place] = input.clone();
            }
        }
        report.executions += 1;
        report.peak_bytes = report.peak_bytes.max(execution.peak_bytes as u64);
        match execution.outcome {
            Ok(()) => report.accepted += 1,
            Err(_) if number < seeds as u64 => {}
            Err(reason) => {
                let is_new = reasons.insert(shape(&reason));
                if is_new && pool.len() < POOL_MAX {
                    pool.push(input);
                }
            }
        }
    }
    report.reasons = reasons.len() as u64;
    Ok(report)
}

/// Returns a number for a reason without the numbers and the quotations in it.
fn shape(reason: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let parts = reason.split(['`', '"']).step_by(2);
    parts
        .flat_map(|part| part.split(|c: char| !c.is_ascii_lowercase()))
        .take(WORDS_MAX)
        .for_each(|word| word.hash(&mut hasher));
    hasher.finish()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { executions, accepted, reasons, peak_bytes } = self;
        write!(
            f,
            "{executions:>9} executions, {accepted:>9} accepted, {reasons:>4} reasons, {:>7} KiB",
            peak_bytes >> 10
        )
    }
}
