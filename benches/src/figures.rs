//! Medians and percentiles, the lines that are printed, and what they were measured on.

use std::fs;
use std::time::Duration;

/// Returns whether figures are wanted: `cargo bench` says so. `cargo test` runs each bench once, to see that it
/// works, and with `--profile-time` a profiler watches criterion's part.
pub fn is_measured() -> bool {
    let has = |flag| std::env::args().any(|argument| argument == flag);
    has("--bench") && !has("--profile-time")
}

/// Returns how often to repeat: `rounds` when measured, else once.
pub fn rounds(rounds: usize) -> usize {
    if is_measured() { rounds } else { 1 }
}

/// Times, taken one by one.
#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Takes in one sample.
    pub fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Takes in a duration, in microseconds.
    pub fn push_us(&mut self, sample: Duration) {
        self.0.push(sample.as_secs_f64() * 1e6);
    }

    /// Takes in all samples of another.
    pub fn append(&mut self, mut other: Samples) {
        self.0.append(&mut other.0);
    }

    /// Returns how many there are.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks whether there are none")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the sample below which `share` of all lie; 0.5 is the median.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// Returns the median.
    pub fn median(&self) -> f64 {
        self.percentile(0.5)
    }

    /// Returns the median of the ratios of what was taken side by side: drift of the machine cancels out.
    pub fn ratio_to(&self, other: &Samples) -> f64 {
        let ratios = self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs);
        Samples(ratios.collect()).median()
    }
}

/// Prints one line of text, as benches do.
#[expect(clippy::print_stdout, reason = "printing figures is what a bench is for")]
pub fn print(line: &str) {
    println!("{line}");
}

/// Prints a ratio that has a target.
pub fn print_ratio(name: &str, value: f64) {
    print(&format!("RATIO {name} {value:.2}"));
}

/// Prints a figure.
pub fn print_figure(name: &str, value: f64) {
    let digits = if value < 1_000.0 { 1 } else { 0 };
    print(&format!("FIGURE {name} {value:.digits$}"));
}

/// Prints what the figures were measured on. The load average tells how quiet it was.
pub fn print_machine() {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    print(&format!(
        "{name}, {threads} threads, Linux {}, load average {} at the end",
        kernel.trim(),
        load.split_whitespace().next().unwrap_or("unknown"),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples = Samples((1..=100).map(f64::from).collect());
        assert_eq!(samples.percentile(0.0), 1.0);
        assert_eq!(samples.median(), 51.0);
        assert_eq!(samples.percentile(0.99), 99.0);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_ratio_pairs_what_was_taken_together() {
        let ours = Samples(vec![2.0, 20.0, 200.0]);
        let theirs = Samples(vec![1.0, 10.0, 100.0]);
        assert_eq!(ours.ratio_to(&theirs), 2.0);
    }
}
