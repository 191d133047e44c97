//! Runs one case on every build and order of the shim, or on a device, and compares.
//!
//! `BIREME_CUDA_DEVICE=0 cargo test -p bireme-kernels --test cuda` runs the same cases on CUDA device 0.

use std::path::Path;

use bireme_kernels::cuda::{DType, Launch, LaunchError, Values};

use crate::build::{PLAIN, SANITIZED};
use crate::device;
use crate::shim::{Memory, Shim};

/// One case of an op: what is in memory, what is launched, and what each output must hold then.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) memory: Memory,
    pub(crate) launch: Result<Launch, LaunchError>,
    pub(crate) outputs: Vec<(Values, Vec<f32>)>,
    /// Error of f32 arithmetic in another order, relative to the larger of the value and 1.
    pub(crate) tolerance: f32,
}

/// Every way in which cases run.
const WAYS: [(&str, bool, &[&str]); 4] = [
    ("ascending", false, &["--order", "ascending"]),
    ("descending", false, &["--order", "descending"]),
    ("shuffled", false, &["--order", "shuffled", "--seed", "7"]),
    ("sanitized and shuffled", true, &["--order", "shuffled", "--seed", "8"]),
];

pub(crate) fn check(cases: &[Case]) {
    if let Some(ordinal) = device::wanted() {
        return device::with(ordinal, |device| {
            check_with(cases, "on the device", &mut |launch, memory| device::run(device, launch, memory))
        });
    }
    for (way, is_sanitized, options) in WAYS {
        let program: &Path = if is_sanitized { &SANITIZED } else { &PLAIN };
        let mut shim = Shim::start(program, options);
        check_with(cases, way, &mut |launch, memory| shim.run(launch, memory));
    }
}

fn check_with(cases: &[Case], way: &str, run: &mut dyn FnMut(&Launch, &mut Memory) -> Result<(), String>) {
    for case in cases {
        let Case { name, memory, launch, outputs, tolerance } = case;
        let launch = launch.as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut memory = memory.clone();
        if let Err(said) = run(launch, &mut memory) {
            panic!("{} of {name}, {way}, failed:\n{said}", launch.kernel);
        }
        for (values, expected) in outputs {
            let actual = memory.get(*values);
            assert_eq!(actual.len(), expected.len(), "{name}");
            let worst = actual
                .iter()
                .zip(expected)
                .map(|(&actual, &expected)| error(actual, expected, values.dtype, *tolerance))
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(&b.1));
            if let Some((index, worst)) = worst
                && worst > 1.0
            {
                let (actual, expected) = (actual[index], expected[index]);
                panic!(
                    "{} of {name}, {way}: value {index} is {actual}, expected {expected}, {worst} × what is allowed",
                    launch.kernel
                );
            }
        }
    }
}

/// The distance as a multiple of what is allowed: the arithmetic's tolerance, and half a step of the storage, to which
/// a kernel rounds once. A step is 2^-10 of the value for f16 (at least 2^-24), 2^-7 for bf16.
fn error(actual: f32, expected: f32, dtype: DType, tolerance: f32) -> f32 {
    let step = match dtype {
        DType::F16 => (expected.abs() / 1024.0).max(1.0 / (1 << 24) as f32),
        DType::Bf16 => expected.abs() / 128.0,
        DType::F32 | DType::U32 => 0.0,
    };
    if actual == expected {
        return 0.0;
    }
    let distance = (actual - expected).abs() / (tolerance * expected.abs().max(1.0) + step / 2.0);
    if distance.is_nan() { f32::INFINITY } else { distance }
}
