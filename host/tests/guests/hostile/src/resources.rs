//! Harm that a function can try to do to its own sandbox.

use std::hint::black_box;
use std::time::Duration;

use bireme_sdk::prelude::*;

/// Loops for ever.
#[function(timeout = "200ms", retries = 0)]
fn spin() {
    let mut n = 0_u64;
    while black_box(n) < u64::MAX {
        n = black_box(n).wrapping_add(1) / 2;
    }
}

/// Allocates and touches `mib` MiB, 1 MiB at a time.
#[function(memory = "64MiB", retries = 0)]
fn grow(mib: u32) -> u32 {
    let mut kept = Vec::new();
    for _ in 0..mib {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
    kept.iter().map(|block| u32::from(block[block.len() - 1])).sum()
}

/// Panics.
#[function(retries = 0)]
fn panics(message: String) {
    panic!("{message}");
}

/// Recurses without end.
#[function(retries = 0)]
fn recurse() -> u64 {
    #[expect(unconditional_recursion, reason = "that is the test")]
    fn down(n: u64) -> u64 {
        let frame = black_box([n; 64]);
        down(n + 1) + frame[(n % 64) as usize]
    }
    down(0)
}

/// Leaves through `exit`.
#[function(retries = 0)]
fn exits() {
    std::process::exit(3);
}

/// Returns a string of `bytes` bytes.
#[function(memory = "256MiB", retries = 0)]
fn big_output(bytes: u32) -> String {
    "x".repeat(bytes as usize)
}

/// Sleeps, and tells how long.
#[function(timeout = "500ms", retries = 0)]
fn sleeps(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Sleeps for longer than a test lasts, unless it is cancelled.
#[function(timeout = "10m", retries = 0)]
fn sleeps_long(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Writes `lines` lines of 100 bytes each to its log, its stdout and its stderr.
#[function(retries = 0)]
fn log_flood(lines: u32) -> u32 {
    for line in 0..lines {
        let text = format!("{line:0100}");
        log::info!(line; "{text}");
        println!("{text}");
        eprintln!("{text}");
    }
    lines
}

/// Counts to `n` with work in between that outlives a tick, for calls that are moved between runtimes.
#[function(timeout = "20s", retries = 0)]
fn works(n: u64) -> u64 {
    (0..n).fold(1, |hash, i| black_box(hash ^ i).wrapping_mul(0x0100_0000_01b3))
}

/// Writes structured lines of `kib` KiB each.
#[function(retries = 0)]
fn long_lines(lines: u32, kib: usize) -> u32 {
    let text = "x".repeat(kib << 10);
    for _ in 0..lines {
        log::info!("{text}");
    }
    lines
}
