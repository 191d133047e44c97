//! The table of a run.

use std::time::Duration;

use bireme::failpoint::FAIL_POINTS;
use bireme_benches::figures::{self, Samples};

use super::checker::Expected;
use super::found::Found;

/// Prints how it was killed, what it took, and how often inputs ran.
pub(crate) fn print(expected: &Expected, found: &Found, recoveries: &[Duration], took: Duration) {
    let by_point: u64 =
        expected.kills_by.iter().filter(|(by, _)| FAIL_POINTS.contains(&by.as_str())).map(|(_, count)| count).sum();
    figures::print(&format!(
        "\n{} kills in {:.0} s: {} at a random time, {by_point} at a fail point",
        expected.kills,
        took.as_secs_f64(),
        expected.kills - by_point
    ));
    for point in FAIL_POINTS {
        figures::print(&format!("  {point:<28} {:>5}", expected.kills_by.get(*point).copied().unwrap_or(0)));
    }
    for (by, count) in expected.kills_by.iter().filter(|(by, _)| !FAIL_POINTS.contains(&by.as_str())) {
        figures::print(&format!("  {by:<28} {count:>5}"));
    }
    let (calls, maps) = (expected.calls.len(), expected.maps.len());
    figures::print(&format!("{} inputs acknowledged: {calls} calls, the rest in {maps} maps", expected.inputs()));
    let mut executions = Samples::default();
    found.executions.values().for_each(|count| executions.push(*count as f64));
    let sum: u64 = found.executions.values().sum();
    figures::print(&format!(
        "executions: {sum}; for each input that ran {:.2} on average, {:.0} at most",
        sum as f64 / found.executions.len().max(1) as f64,
        executions.percentile(1.0)
    ));
    let mut recovery = Samples::default();
    recoveries.iter().for_each(|took| recovery.push(took.as_secs_f64() * 1e3));
    figures::print_figure("recovery_p50_ms", recovery.median());
    figures::print_figure("recovery_p99_ms", recovery.percentile(0.99));
}
