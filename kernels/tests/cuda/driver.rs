//! The device layer through the stub driver of `kernels/cuda/stub/`.
//!
//! A process loads the driver once and for all, so each test runs this same binary again with the driver in its library
//! path, and one of the tests below marked as ignored in it.

use std::process::Command;

use bireme_kernels::cpu::{self, Activation, Parallelism};
use bireme_kernels::cuda::DType;
use bireme_kernels::cuda::device::{Device, DeviceError, DeviceOptions, Linear};

use crate::stub_driver::StubDriver;

/// Runs tests of this binary, ignored ones if so said, with a driver.
#[track_caller]
fn run(driver: &StubDriver, test: &[&str], device: Option<&str>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(test).env("LD_LIBRARY_PATH", driver.library_path());
    if let Some(device) = device {
        command.env("BIREME_CUDA_DEVICE", device);
    }
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{test:?}:\n{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(!said.contains(" 0 passed"), "{test:?} ran nothing:\n{said}");
}

#[track_caller]
fn run_one(conf: &str, test: &str) {
    run(&StubDriver::new(conf), &["--ignored", "--exact", &format!("driver::{test}")], None);
}

#[test]
fn every_op_runs_through_the_driver() {
    run(&StubDriver::new(""), &["twins", "products"], Some("0"));
}

#[test]
fn memory_is_bounded_kept_and_given_back() {
    run_one("memory = 67108864", "memory");
}

#[test]
fn a_full_device_is_out_of_memory_and_not_lost() {
    run_one("memory = 4194304", "out_of_memory");
}

#[test]
fn a_lost_context_is_sticky() {
    run_one("fail = cuLaunchKernel 700 2", "sticky");
}

#[test]
fn a_graph_runs_again_and_a_wait_within_one_is_refused() {
    run_one("", "graph");
}

#[test]
fn nothing_is_read_before_it_was_waited_for() {
    run_one("", "idle");
}

#[test]
fn products_of_cublaslt_equal_those_of_the_cpu() {
    run_one("", "cublaslt");
}

#[test]
fn a_cublaslt_that_does_not_start_is_done_without() {
    run_one("fail = cublasLtCreate 1 1", "broken_cublaslt");
}

#[test]
fn an_old_device_is_refused_by_name() {
    run_one("capability = 70", "old_device");
}

#[test]
fn an_absent_device_is_refused() {
    run_one("devices = 2", "absent_device");
}

fn open(use_cublaslt: bool) -> Device {
    Device::open(DeviceOptions { ordinal: 0, budget: None, use_cublaslt }).unwrap()
}

#[test]
#[ignore = "run by `memory_is_bounded_kept_and_given_back`"]
fn memory() {
    let (free, _) = {
        let device = open(false);
        let before = device.driver_memory().unwrap();
        assert_eq!(device.memory_use(), (0, 0));
        let values: Vec<f32> = (0..3_000_000).map(|index| index as f32).collect();
        // Two and a half times what an upload copies at a time.
        let tensor = device.upload(DType::F32, &values).unwrap();
        assert_eq!(device.download(&tensor).unwrap(), values);
        let (in_use, _) = device.memory_use();
        assert!((12_000_000..13_500_000).contains(&in_use), "{in_use}");
        drop(tensor);
        // Kept for the next one of about its size, which costs the driver nothing.
        assert_eq!(device.memory_use(), (0, in_use));
        let again = device.tensor(DType::F16, 6_000_000).unwrap();
        assert_eq!(device.memory_use(), (in_use, 0));
        drop(again);
        device.trim().unwrap();
        assert_eq!(device.memory_use(), (0, 0));
        assert_eq!(device.driver_memory().unwrap(), before);
        before
    };
    // Whatever was taken went with the device.
    assert_eq!(open(false).driver_memory().unwrap().0, free);
}

#[test]
#[ignore = "run by `a_full_device_is_out_of_memory_and_not_lost`"]
fn out_of_memory() {
    let device = open(false);
    let kept = device.tensor(DType::F32, 500_000).unwrap();
    let error = device.tensor(DType::F32, 500_000).unwrap_err();
    assert!(error.is_out_of_memory() && !error.is_sticky(), "{error}");
    // Others hold what the budget counts on: the driver's own refusal reads the same.
    let greedy = Device::open(DeviceOptions { ordinal: 0, budget: Some(1 << 40), use_cublaslt: false }).unwrap();
    let error = greedy.tensor(DType::F32, 900_000).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
    drop(kept);
    device.trim().unwrap();
    greedy.tensor(DType::F32, 900_000).unwrap();
    assert!(greedy.tensor(DType::F32, usize::MAX / 2).unwrap_err().is_out_of_memory());
}

#[test]
#[ignore = "run by `a_lost_context_is_sticky`"]
fn sticky() {
    let device = open(false);
    device.self_check().unwrap();
    let error = device.self_check().unwrap_err();
    assert!(error.is_sticky(), "{error}");
    assert_eq!(error.to_string(), "cuLaunchKernel failed with CUDA_ERROR_ILLEGAL_ADDRESS (700)");
    let error = device.upload(DType::F32, &[1.0]).unwrap_err();
    assert!(error.is_sticky() && error.to_string().ends_with("(700)"), "{error}");
}

#[test]
#[ignore = "run by `a_graph_runs_again_and_a_wait_within_one_is_refused`"]
fn graph() {
    let device = open(true);
    let linear =
        Linear::new(&device, DType::F32, &[1.0, 2.0, 3.0, 4.0], &[0.5, -0.5], 2, Activation::Identity).unwrap();
    let x = device.upload(DType::F32, &[1.0, 1.0]).unwrap();
    let out = device.upload(DType::F32, &[9.0, 9.0]).unwrap();
    linear.run(&x, 1, &out).unwrap();
    assert_eq!(device.download(&out).unwrap(), [3.5, 6.5]);
    let graph = device.capture(|| linear.run(&x, 1, &out)).unwrap();
    let mut pinned = device.pin(8).unwrap();
    for values in [[2.0_f32, 0.0], [0.0, 1.0]] {
        pinned.write::<f32>(2).copy_from_slice(&values);
        device.copy_in(&pinned, &x, 2).unwrap();
        graph.launch().unwrap();
        let expected = [values[0] + 2.0 * values[1] + 0.5, 3.0 * values[0] + 4.0 * values[1] - 0.5];
        assert_eq!(device.download(&out).unwrap(), expected);
    }
    // The graph owns what it names, whoever drops it.
    drop((x, linear));
    let taken = device.tensor(DType::F32, 2).unwrap();
    graph.launch().unwrap();
    assert_eq!(device.download(&out).unwrap(), [2.5, 3.5]);
    let copy = device.capture(|| device.copy_in(&pinned, &out, 2)).err();
    assert_eq!(copy, Some(DeviceError::InCapture));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.capture(|| panic!("in a capture"))));
    assert!(panic.is_err());
    drop(taken);
    let refused = device.capture(|| device.synchronize());
    let error = refused.err().expect("a capture cannot be waited for");
    assert_eq!(error.to_string(), "cuStreamSynchronize failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)");
    // The stream is well again.
    assert_eq!(device.download(&out).unwrap().len(), 2);
}

#[test]
#[ignore = "run by `nothing_is_read_before_it_was_waited_for`"]
fn idle() {
    let device = open(false);
    let tensor = device.upload(DType::F32, &[1.0, 2.0]).unwrap();
    let mut pinned = device.pin(8).unwrap();
    device.copy_out(&tensor, &mut pinned, 2).unwrap();
    let early = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pinned.read::<f32>(2).to_vec()));
    assert!(early.is_err(), "the copy is not there yet");
    device.synchronize().unwrap();
    assert_eq!(pinned.read::<f32>(2), [1.0, 2.0]);

    // Another device neither waits for this one's memory nor orders its work behind it.
    let other = open(false);
    assert_eq!(other.copy_out(&tensor, &mut pinned, 2), Err(DeviceError::OtherDevice));
    let own = other.upload(DType::F32, &[3.0]).unwrap();
    assert_eq!(other.copy_in(&pinned, &own, 1), Err(DeviceError::OtherDevice));
    assert_eq!(device.download(&own), Err(DeviceError::OtherDevice));
    let beyond = device.upload(DType::F16, &[1.0, -1e5]).unwrap_err();
    assert_eq!(beyond, DeviceError::Range { index: 1, value: -1e5, dtype: DType::F16 });
}

#[test]
#[ignore = "run by `products_of_cublaslt_equal_those_of_the_cpu`"]
fn cublaslt() {
    let device = open(true);
    assert_eq!(device.info().cublaslt, Some(120_902));
    let mut random = crate::cases::Random::new(3);
    for (rows, inputs, outputs) in [(1, 8, 8), (7, 64, 33), (40, 100, 130)] {
        for dtype in [DType::F32, DType::F16, DType::Bf16] {
            for activation in [Activation::Identity, Activation::Gelu] {
                let x = random.values(dtype, rows * inputs, 1.0);
                let (weight, bias) = (random.values(dtype, outputs * inputs, 0.2), random.values(dtype, outputs, 1.0));
                let mut expected = vec![0.0; rows * outputs];
                let twin = cpu::Linear::new(&weight, bias.clone(), inputs, activation).unwrap();
                twin.run(&x, &mut expected, Parallelism::SINGLE).unwrap();
                let linear = Linear::new(&device, dtype, &weight, &bias, inputs, activation).unwrap();
                let (x, out) = (device.upload(dtype, &x).unwrap(), device.tensor(dtype, rows * outputs).unwrap());
                linear.run(&x, rows, &out).unwrap();
                let step = [1e-5, 1.0 / 1024.0, 1.0 / 128.0][dtype as usize];
                for (actual, expected) in device.download(&out).unwrap().iter().zip(&expected) {
                    // The GELU by `tanh` is off by 4.8e-4 at most.
                    let allowed = step * expected.abs().max(1.0) + 5e-4;
                    assert!((actual - expected).abs() <= allowed, "{dtype} {activation:?}: {actual}, not {expected}");
                }
            }
        }
    }
}

#[test]
#[ignore = "run by `a_cublaslt_that_does_not_start_is_done_without`"]
fn broken_cublaslt() {
    let device = open(true);
    assert_eq!(device.info().cublaslt, None);
    let error = device.info().cublaslt_error.as_deref();
    assert_eq!(error, Some("cublasLtCreate of cuBLASLt failed with CUBLAS_STATUS_NOT_INITIALIZED"));
    let linear = Linear::new(&device, DType::F32, &[1.0, 2.0], &[0.5], 2, Activation::Identity).unwrap();
    let (x, out) = (device.upload(DType::F32, &[1.0, 1.0]).unwrap(), device.tensor(DType::F32, 1).unwrap());
    linear.run(&x, 1, &out).unwrap();
    assert_eq!(device.download(&out).unwrap(), [3.5]);
}

#[test]
#[ignore = "run by `an_old_device_is_refused_by_name`"]
fn old_device() {
    let error = Device::open(DeviceOptions { ordinal: 0, budget: None, use_cublaslt: false }).unwrap_err();
    assert_eq!(error.to_string(), "device 0 has compute capability 7.0, under the 7.5 that the kernels need");
}

#[test]
#[ignore = "run by `an_absent_device_is_refused`"]
fn absent_device() {
    let error = Device::open(DeviceOptions { ordinal: 2, budget: None, use_cublaslt: false }).unwrap_err();
    assert_eq!(error.to_string(), "cuDeviceGet failed with CUDA_ERROR_INVALID_DEVICE (101)");
}
