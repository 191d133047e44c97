//! Cost of a batch, divided among its inputs; the shares add up to it.

use crate::call::{HostCalls, InferenceReceipt, Receipt};

/// Returns the share of input `i` of `len`. Remainders go to the first inputs. Each has the attempt's whole wall clock
/// and peak of memory, which it would have had by itself.
pub(crate) fn of(whole: &Receipt, i: usize, len: usize) -> Receipt {
    let (i, len) = (i as u64, len as u64);
    let part = |total: u64| total / len + u64::from(i < total % len);
    let mut host_calls = HostCalls::default();
    let mut shares = host_calls.kinds_mut();
    for (share, (_, kind)) in shares.iter_mut().zip(whole.host_calls.kinds()) {
        share.count = part(kind.count);
        share.wall_us = part(kind.wall_us);
    }
    let inference = &whole.inference;
    Receipt {
        attempts: 1,
        queue_us: 0,
        wall_us: whole.wall_us,
        wall_parts: whole.wall_parts,
        instantiate_us: part(whole.instantiate_us),
        cpu_us: part(whole.cpu_us),
        group_inputs: len,
        memory_peak_bytes: whole.memory_peak_bytes,
        host_calls,
        log_dropped_bytes: part(whole.log_dropped_bytes),
        inference: InferenceReceipt {
            requests: part(inference.requests),
            tokens: part(inference.tokens),
            wait_us: part(inference.wait_us),
            batch_rows: part(inference.batch_rows),
            batches: part(inference.batches),
            device_us: part(inference.device_us),
            device: inference.device.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::HostCallsOfKind;

    proptest! {
        #[test]
        fn the_shares_are_what_was_measured(figures in proptest::array::uniform12(0u64..1_000_000), len in 1usize..100) {
            let [instantiate_us, cpu_us, log_dropped_bytes, count, http_us, requests, tokens, wait_us, batch_rows, batches, device_us, peak] = figures;
            let inference = InferenceReceipt { requests, tokens, wait_us, batch_rows, batches, device_us, device: Some("cpu".to_owned()) };
            let host_calls = HostCalls { http: HostCallsOfKind { count, wall_us: http_us }, ..HostCalls::default() };
            let whole = Receipt { instantiate_us, cpu_us, memory_peak_bytes: peak, host_calls, log_dropped_bytes, inference, wall_us: 7, ..Receipt::default() };
            let mut sum = Receipt::default();
            for i in 0..len {
                let share = of(&whole, i, len);
                prop_assert!(share.cpu_us <= cpu_us / len as u64 + 1);
                sum.add(&share);
            }
            prop_assert_eq!((sum.instantiate_us, sum.cpu_us, sum.log_dropped_bytes), (instantiate_us, cpu_us, log_dropped_bytes));
            prop_assert_eq!((&sum.host_calls, &sum.inference), (&whole.host_calls, &whole.inference));
            prop_assert_eq!((sum.memory_peak_bytes, sum.wall_us, sum.group_inputs), (peak, 7 * len as u64, (len * len) as u64));
        }
    }
}
