//! Receipt of a call as an aligned table.

use super::{output, table};
use crate::call::Receipt;

/// Returns one line for each item of the receipt.
pub(crate) fn table_of(receipt: &Receipt) -> String {
    let mut rows = vec![
        ("attempts", receipt.attempts.to_string()),
        ("queue", output::micros(receipt.queue_us)),
        ("wall", output::micros(receipt.wall_us)),
        ("instantiate", output::micros(receipt.instantiate_us)),
        ("cpu", output::micros(receipt.cpu_us)),
        ("memory peak", output::bytes(receipt.memory_peak_bytes)),
    ];
    rows.extend(receipt.host_calls.kinds().into_iter().filter(|(_, calls)| calls.count > 0).map(|(kind, calls)| {
        let wall = if calls.wall_us > 0 { format!(", {}", output::micros(calls.wall_us)) } else { String::new() };
        (kind, format!("{}{wall}", output::count(calls.count)))
    }));
    let inference = &receipt.inference;
    if inference.requests > 0 {
        rows.push(("inference", format!("{} requests, {} tokens", inference.requests, inference.tokens)));
        rows.push(("batch wait", output::micros(inference.wait_us)));
        let mean = inference.batch_rows as f64 / inference.batches.max(1) as f64;
        rows.push(("batch size", format!("{mean:.1} rows in the mean of {}", inference.batches)));
        let device = inference.device.as_deref().unwrap_or("?");
        rows.push(("device", format!("{device}, {} of its time", output::micros(inference.device_us))));
    }
    table::plain(rows.into_iter().map(|(name, value)| vec![format!("  {name}"), value]))
}
