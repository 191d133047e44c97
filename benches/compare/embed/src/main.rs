//! Bireme's encoder against others on the CPU, on the same weights and token ids, in turns. See `../embed.sh`.
//!
//! Each engine runs in a process of its own for each number of threads, pinned and loaded once, and embeds as told.
//! `compare-embed engine …` is such a process for the engines in Rust; those in Python are `../rival.py`.

mod child;
mod compare;
mod engine;
mod inference;
mod ours;
mod passages;
mod report;
mod tract;
mod worker;
mod workload;

use std::error::Error;
use std::path::Path;

const USAGE: &str = "usage: compare-embed WORK MODEL BOOK ROUNDS RIVAL...";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["engine", name, work, model, threads] => {
            engine::serve(name, Path::new(work), Path::new(model), threads.parse()?)
        }
        [work, model, book, rounds, rivals @ ..] => {
            let rounds = rounds.parse::<usize>()?.max(1);
            compare::run(Path::new(work), Path::new(model), Path::new(book), rounds, rivals)
        }
        _ => Err(USAGE.into()),
    }
}
