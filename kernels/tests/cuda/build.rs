//! Compiles the shim with the kernels, once for all tests of this process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// A build with optimisation, for results.
pub(crate) static PLAIN: LazyLock<PathBuf> = LazyLock::new(|| compile("plain", "../module.cu", &["-O1"]));

/// A build with the address sanitizer, for accesses outside what was given.
pub(crate) static SANITIZED: LazyLock<PathBuf> =
    LazyLock::new(|| compile("sanitized", "../module.cu", &["-O1", "-fsanitize=address", "-fno-omit-frame-pointer"]));

/// A build of the kernels with faults.
pub(crate) static PLANTED: LazyLock<PathBuf> = LazyLock::new(|| {
    let options = ["-O1", "-fsanitize=address", "-fno-omit-frame-pointer"];
    compile("planted", "../../tests/cuda/planted.cu", &options)
});

pub(crate) fn cuda_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda")
}

/// Compiles `sources` into the shim's server.
fn compile(name: &str, sources: &str, options: &[&str]) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cuda-shim-{name}-{}", std::process::id()));
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    let done = Command::new(&compiler)
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fno-strict-aliasing", "-g1"])
        .args(options)
        .arg(format!("-DSOURCES=\"{sources}\""))
        .arg(cuda_dir().join("shim/serve.cpp"))
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {compiler:?}, which the kernels' tests need: {error}"));
    assert!(done.status.success(), "{compiler:?} refused {sources}:\n{}", String::from_utf8_lossy(&done.stderr));
    out
}
