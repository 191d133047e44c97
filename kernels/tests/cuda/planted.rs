//! The faults of `planted.cu` are found, and named: otherwise that the kernels pass would say little.

use bireme_kernels::cuda::{Argument, DType, Launch};

use crate::build::PLANTED;
use crate::shim::{Memory, Shim};

const ORDERS: [&str; 3] = ["ascending", "descending", "shuffled"];

/// Runs a kernel of 64 threads over the numbers from 1 to 64: what they are then, or what the shim said.
fn run(kernel: &'static str, order: &str) -> Result<Vec<f32>, String> {
    let mut memory = Memory::default();
    let values: Vec<f32> = (1..=64u8).map(f32::from).collect();
    let x = memory.put(DType::F32, &values);
    let launch = Launch {
        kernel: bireme_kernels::cuda::Kernel::new(kernel, DType::F32),
        grid: [1, 1, 1],
        threads: 64,
        shared_bytes: 256,
        arguments: vec![Argument::Address(Some(x.address))],
    };
    Shim::start(&PLANTED, &["--order", order]).run(&launch, &mut memory)?;
    Ok(memory.get(x))
}

#[track_caller]
fn check(kernel: &'static str, said: &[&str]) {
    for order in ORDERS {
        let actual = run(kernel, order).expect_err(kernel);
        for &said in said {
            assert!(actual.contains(said), "{kernel}, {order}: expected `{said}` in:\n{actual}");
        }
    }
}

#[test]
fn a_kernel_without_a_fault_passes() {
    let expected: Vec<f32> = (1..=64u8).rev().map(f32::from).collect();
    for order in ORDERS {
        assert_eq!(run("reverse", order).unwrap(), expected, "{order}");
    }
}

#[test]
fn a_missing_barrier_makes_a_wrong_result() {
    let expected: Vec<f32> = (1..=64u8).rev().map(f32::from).collect();
    for order in ORDERS {
        assert_ne!(run("reverse_without_barrier", order).unwrap(), expected, "{order}");
    }
}

#[test]
fn a_missing_barrier_that_ascending_order_hides_is_found_by_the_others() {
    let expected: Vec<f32> = (0..64u8).map(f32::from).collect();
    let wrong: Vec<bool> =
        ORDERS.iter().map(|order| run("shift_without_barrier", order).unwrap() != expected).collect();
    assert_eq!(wrong, [false, true, true]);
}

#[test]
fn accesses_outside_a_buffer_are_found() {
    check("write_beyond_buffer", &["heap-buffer-overflow", "WRITE of size 4", "planted.cu"]);
    check("read_before_buffer", &["heap-buffer-overflow", "READ of size 4", "planted.cu"]);
}

#[test]
fn accesses_outside_shared_memory_are_found() {
    check("write_beyond_shared", &["heap-buffer-overflow", "WRITE of size 4", "planted.cu"]);
    check("write_beyond_dynamic_shared", &["heap-buffer-overflow", "WRITE of size 4", "planted.cu"]);
}

#[test]
fn a_barrier_that_some_threads_miss_is_named() {
    check("barrier_for_some", &["diverged in block (0, 0, 0): thread 0 waits at __syncthreads", "thread 40 has ended"]);
    check(
        "barriers_at_two_lines",
        &["thread 0 waits at __syncthreads of line 54", "thread 32 at __syncthreads of line 57"],
    );
}

#[test]
fn a_shuffle_that_some_lanes_miss_is_named() {
    check("shuffle_for_some", &["thread 0 waits at __shfl_xor_sync", "thread 5 has ended"]);
    check("barrier_against_shuffle", &["waits at __shfl_xor_sync", "at __syncthreads of line"]);
}

#[test]
fn shared_memory_that_nobody_wrote_is_nan() {
    for order in ORDERS {
        let actual = run("read_unwritten_shared", order).unwrap();
        let wrong: Vec<usize> = (0..64).filter(|&index| actual[index] != 1.0).collect();
        assert_eq!(wrong, [9], "{order}");
    }
}
