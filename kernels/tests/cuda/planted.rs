//! The faults of `planted.cu` are found, and named: otherwise that the kernels pass would say little.

use bireme_kernels::cuda::{Argument, DType, Kernel, Launch, Values};

use crate::build::PLANTED;
use crate::shim::{Memory, Shim};

const ORDERS: [&str; 3] = ["ascending", "descending", "shuffled"];

/// Runs a kernel of 64 threads over the numbers from 1 to 64: what they are then, or what the shim said.
fn run(kernel: &'static str, order: &str) -> Result<Vec<f32>, String> {
    let mut memory = Memory::default();
    let values: Vec<f32> = (1..=64u8).map(f32::from).collect();
    let x = memory.put(DType::F32, &values);
    let launch = Launch {
        kernel: Kernel::new(kernel, DType::F32),
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

#[test]
fn a_copy_that_was_waited_for_has_arrived() {
    let expected: Vec<f32> = (1..=64u8).rev().map(f32::from).collect();
    for order in ORDERS {
        assert_eq!(run("copy", order).unwrap(), expected, "{order}");
    }
}

#[test]
fn a_copy_that_nobody_waits_for_is_nan() {
    for order in ORDERS {
        assert!(run("copy_without_wait", order).unwrap().iter().all(|value| value.is_nan()), "{order}");
        let of_both_groups = run("copy_of_later_group", order).unwrap();
        let is_nan: Vec<bool> = of_both_groups.iter().map(|value| value.is_nan()).collect();
        assert_eq!(is_nan, [[true; 32], [false; 32]].concat(), "{order}");
    }
}

#[test]
fn a_copy_of_another_thread_needs_a_barrier() {
    for order in ORDERS {
        assert!(run("copy_without_barrier", order).unwrap().iter().any(|value| value.is_nan()), "{order}");
    }
}

#[test]
fn a_copy_outside_a_buffer_or_to_an_odd_address_is_found() {
    check("copy_beyond_buffer", &["heap-buffer-overflow", "READ of size 16", "planted.cu"]);
    check("copy_to_odd_address", &["cp.async of line 123 at an address that is no multiple of 16"]);
}

#[test]
fn matrices_whose_rows_share_banks_are_named() {
    check("matrices_in_the_same_banks", &["ldmatrix of line 130: the rows of lanes", "share banks"]);
}

/// Runs a kernel of one warp over these values.
fn run_warp(kernel: &'static str, memory: &mut Memory, values: &[Values]) {
    let launch = Launch {
        kernel: Kernel::new(kernel, DType::F16),
        grid: [1, 1, 1],
        threads: 32,
        shared_bytes: 0,
        arguments: values.iter().map(|&values| values.into()).collect(),
    };
    Shim::start(&PLANTED, &[]).run(&launch, memory).unwrap();
}

#[test]
fn fragments_of_a_product_stand_where_the_ptx_isa_says() {
    let a: Vec<f32> = (0..256).map(|index| (index * 7 % 61 - 30) as f32).collect();
    let b: Vec<f32> = (0..128).map(|index| (index * 5 % 53 - 26) as f32).collect();
    let expected: Vec<f32> =
        (0..128).map(|index| (0..16).map(|k| a[index / 8 * 16 + k] * b[k * 8 + index % 8]).sum()).collect();
    let mut memory = Memory::default();
    let (a, b, c) = (memory.put(DType::F16, &a), memory.put(DType::F16, &b), memory.room(DType::F32, 128));
    run_warp("fragments", &mut memory, &[a, b, c]);
    assert_eq!(memory.get(c), expected);
}

#[test]
fn matrices_and_their_transposes_come_from_where_the_ptx_isa_says() {
    let values: Vec<f32> = (0..256u16).map(f32::from).collect();
    let transposed: Vec<f32> = (0..256).map(|index| values[index / 64 * 64 + index % 8 * 8 + index / 8 % 8]).collect();
    let mut memory = Memory::default();
    let x = memory.put(DType::F16, &values);
    let (straight, turned) = (memory.room(DType::F16, 256), memory.room(DType::F16, 256));
    run_warp("matrices", &mut memory, &[x, straight, turned]);
    assert_eq!(memory.get(straight), values);
    assert_eq!(memory.get(turned), transposed);
}
