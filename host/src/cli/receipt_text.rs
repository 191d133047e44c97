//! Receipt of a call as an aligned table.

use super::{output, table};
use crate::call::Receipt;

/// Returns one line for each item of a map's receipt, whose times are those of calls that ran at the same time.
pub(crate) fn table_of_map(receipt: &Receipt) -> String {
    let mut rows = rows(receipt);
    rows.iter_mut().filter(|(name, _)| *name == "wall").for_each(|(name, _)| *name = "wall of all calls");
    layout(rows)
}

/// Returns one line for each item of the receipt.
pub(crate) fn table_of(receipt: &Receipt) -> String {
    layout(rows(receipt))
}

fn rows(receipt: &Receipt) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("attempts", output::count(receipt.attempts.into())),
        ("queue", format!("{} for a slot", output::micros(receipt.queue_us))),
        ("wall", output::micros(receipt.wall_us)),
    ];
    // Receipts of older hosts have no parts.
    if receipt.wall_parts.sum() > 0 {
        rows[2].1 += ", the sum of:";
        let parts = receipt.wall_parts.parts().into_iter().filter(|&(_, part_us)| part_us > 0);
        rows.extend(parts.map(|(name, part_us)| (name, format!("  {}", output::micros(part_us)))));
    }
    rows.push(("cpu", output::micros(receipt.cpu_us)));
    rows.push(("memory peak", output::bytes(receipt.memory_peak_bytes)));
    let calls = receipt.host_calls.kinds().into_iter().filter(|(_, calls)| calls.count > 0);
    let calls: Vec<_> = calls.map(|(kind, calls)| format!("{kind} {}", output::count(calls.count))).collect();
    if !calls.is_empty() {
        rows.push(("host calls", calls.join(", ")));
    }
    let inference = &receipt.inference;
    if inference.requests > 0 {
        let (requests, tokens) = (inference.requests as usize, inference.tokens as usize);
        let requests = output::counted(requests, "request");
        rows.push(("models", format!("{requests}, {}", output::counted(tokens, "token"))));
        let mean = inference.batch_rows as f64 / inference.batches.max(1) as f64;
        let batches = output::counted(inference.batches as usize, "batch").replace("batchs", "batches");
        let waited = output::micros(inference.wait_us);
        rows.push(("  batching", format!("{batches} of {mean:.1} rows on average, {waited} in the queue")));
        let device = inference.device.as_deref().unwrap_or("device");
        rows.push(("  device", format!("{} of {device}, by share of tokens", output::micros(inference.device_us))));
    }
    rows
}

fn layout(rows: Vec<(&'static str, String)>) -> String {
    table::plain(rows.into_iter().map(|(name, value)| vec![format!("  {name}"), value]))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::call::{HostCallsOfKind, InferenceReceipt, WallParts};

    /// Returns the lines without the spaces around them.
    fn trimmed(table: &str) -> String {
        table.lines().map(str::trim).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_lines_under_wall_add_up_to_it() {
        let wall_parts = WallParts {
            guest_us: 90_000,
            cpu_wait_us: 240_000,
            key_value_us: 4_400,
            inference_us: 2_000,
            ..WallParts::default()
        };
        let mut receipt = Receipt { attempts: 1, queue_us: 2, cpu_us: 94_000, wall_parts, ..Receipt::default() };
        receipt.host_calls.key_value = HostCallsOfKind { count: 1_495, wall_us: 4_400 };
        receipt.host_calls.inference = HostCallsOfKind { count: 1, wall_us: 2_000 };
        receipt.inference = InferenceReceipt {
            requests: 1,
            tokens: 13,
            wait_us: 3,
            batch_rows: 1,
            batches: 1,
            device_us: 1_900,
            device: Some("cpu".to_owned()),
        };
        receipt.end_attempt(336_500);
        expect![[r#"
            attempts           1
            queue              2 µs for a slot
            wall               336.5 ms, the sum of:
            guest code           90.0 ms
            waiting for a CPU    240.0 ms
            inference            2.0 ms
            key-value            4.4 ms
            other                100 µs
            cpu                94.0 ms
            memory peak        0 B
            host calls         inference 1, key-value 1,495
            models             1 request, 13 tokens
            batching         1 batch of 1.0 rows on average, 3 µs in the queue
            device           1.9 ms of cpu, by share of tokens"#]]
        .assert_eq(&trimmed(&table_of(&receipt)));
        assert!(table_of_map(&receipt).contains("wall of all calls"));
        let old = Receipt { attempts: 1, wall_us: 7, ..Receipt::default() };
        expect![[r#"
            attempts     1
            queue        0 µs for a slot
            wall         7 µs
            cpu          0 µs
            memory peak  0 B"#]]
        .assert_eq(&trimmed(&table_of(&old)));
    }
}
