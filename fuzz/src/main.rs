//! `bireme-fuzz`: hostile bytes for every reader of the host, by a seeded loop on a stable compiler.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use bireme_fuzz::runner::{self, Finding, Plan};
use bireme_fuzz::{TARGETS, Target, execute, seeds, targets};
use clap::{Parser, Subcommand};

/// Hostile bytes for every reader of the host.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Mutate the corpora of all targets, or of those that are named.
    Run {
        /// Executions of the fastest targets; slower ones have a share of it.
        #[arg(long, default_value_t = 100_000)]
        executions: u64,
        /// Seed of the mutator: the same seed gives the same inputs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Directory of the corpora.
        #[arg(long, default_value = CORPUS)]
        corpus: PathBuf,
        /// Directory for inputs that break a promise.
        #[arg(long, default_value = ARTIFACTS)]
        artifacts: PathBuf,
        targets: Vec<String>,
    },
    /// Execute a target on files.
    Replay { target: String, files: Vec<PathBuf> },
    /// Write the corpora that are made of fixtures.
    Seeds,
    #[command(hide = true)]
    Child { target: String, executions: u64, seed: u64, corpus: PathBuf },
}

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
const ARTIFACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts");

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Action::Run { executions, seed, corpus, artifacts, targets } => {
            run(&Plan { executions, seed, corpus, artifacts }, &targets)
        }
        Action::Replay { target, files } => {
            let target = find(&target)?;
            for file in files {
                let input = std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
                let execution = execute(target, &input);
                println!("{}: {:?}, {} bytes of memory", file.display(), execution.outcome, execution.peak_bytes);
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Seeds => {
            seeds::write(Path::new(CORPUS), Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../host/tests/fixtures")))?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Child { target, executions, seed, corpus } => {
            let report = runner::child(find(&target)?, executions, seed, &corpus)?;
            println!("{} {} {} {}", report.executions, report.accepted, report.reasons, report.peak_bytes);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run(plan: &Plan, names: &[String]) -> Result<ExitCode> {
    let named = names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    let chosen: Vec<&Target> = if named.is_empty() { TARGETS.iter().collect() } else { named };
    println!("seed {}", plan.seed);
    let mut status = ExitCode::SUCCESS;
    for target in chosen {
        let began = Instant::now();
        match runner::run(target, plan)? {
            Ok(report) => println!("{:<18} {report}, {:.1} s", target.name, began.elapsed().as_secs_f64()),
            Err(Finding { artifact, end }) => {
                status = ExitCode::FAILURE;
                println!("{:<18} broke a promise: {end}; the reason stands above", target.name);
                println!("  cargo run -p bireme-fuzz -- replay {} {}", target.name, artifact.display());
            }
        }
    }
    Ok(status)
}

fn find(name: &str) -> Result<&'static Target> {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    targets::find(name).with_context(|| format!("no target `{name}`; there are {}", names.join(", ")))
}
