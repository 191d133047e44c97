//! The PTX in the tree names the sources in the tree, each module states its target, and `ptxas` has reported each
//! kernel without spills. Not here: that the text is what NVRTC makes of the sources, which `kernels/cuda/build.py
//! --check` says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bireme_kernels::cuda::Module;
use sha2::{Digest, Sha256};

use crate::build::cuda_dir;

/// As `sources_digest` of `kernels/cuda/build.py`.
fn sources_digest() -> String {
    let mut paths: Vec<_> = fs::read_dir(cuda_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh"))
        .collect();
    paths.sort();
    let mut digest = Sha256::new();
    for path in paths {
        digest.update(path.file_name().unwrap().to_str().unwrap());
        digest.update([0]);
        digest.update(fs::read(&path).unwrap());
        digest.update([0]);
    }
    format!("{:x}", digest.finalize())
}

#[test]
fn the_ptx_is_made_from_these_sources() {
    let digest = sources_digest();
    for module in Module::ALL {
        let line = module.ptx().lines().nth(1).unwrap();
        assert_eq!(line, format!("// {digest}"), "run kernels/cuda/build.py: {module:?} is older than its sources");
    }
}

#[test]
fn each_module_is_for_its_compute_capability_and_an_old_driver() {
    for module in Module::ALL {
        let (major, minor) = module.compute_capability();
        assert!(module.ptx().contains(&format!("\n.target sm_{major}{minor}\n")), "{module:?}");
        assert!(module.ptx().contains("\n.version 8.0\n"), "{module:?}");
    }
}

/// The kernels of a module's text.
fn entries(module: Module) -> BTreeSet<&'static str> {
    let lines = module.ptx().lines().filter_map(|line| line.strip_prefix(".visible .entry "));
    lines.map(|line| line.trim_end_matches('(')).collect()
}

#[test]
fn no_kernel_spills_and_each_is_reported() {
    let report = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ptx/ptxas.txt")).unwrap();
    let mut reported = BTreeSet::new();
    for line in report.lines().skip(1) {
        let [target, kernel, _registers, spilled, _stack, shared] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            panic!("a line of another form: {line}");
        };
        assert_eq!(spilled, "0", "{kernel} spills registers on {target}");
        assert!(shared.parse::<u32>().unwrap() <= 48 * 1024, "{kernel} takes too much shared memory on {target}");
        reported.insert((target, kernel));
    }
    for module in Module::ALL {
        for kernel in entries(module) {
            for target in ["sm_80", "sm_89", "sm_90", "sm_100", "sm_120"] {
                assert!(reported.contains(&(target, kernel)), "{kernel} has no report for {target}");
            }
        }
    }
}
