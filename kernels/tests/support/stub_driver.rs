//! Builds the stub driver of `kernels/cuda/stub/`, once for each state of its sources, and lays it out for a test.
//!
//! Included by the integration tests of the kernels and of the host: it needs nothing of either.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{fs, io};

/// A folder for `LD_LIBRARY_PATH`; removed when dropped.
pub(crate) struct StubDriver {
    dir: PathBuf,
}

/// The libraries as built; each test has links to them beside its own settings.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| build("", "plain"));

/// The same without `cuDeviceGetUuid_v2`, which older drivers lack.
static WITHOUT_UUID: LazyLock<PathBuf> = LazyLock::new(|| build("-DWITHOUT_UUID", "without-uuid"));

/// A loader that meets what is no library looks no further.
const NO_LIBRARY: &str = "no library";

impl StubDriver {
    /// A driver with these lines in `stub.conf`.
    pub(crate) fn new(conf: &str) -> Self {
        Self::with(&BUILT, conf, true)
    }

    /// A driver on a machine without cuBLASLt.
    #[allow(dead_code, reason = "included by several tests, of which not each uses it")]
    pub(crate) fn without_cublaslt(conf: &str) -> Self {
        Self::with(&BUILT, conf, false)
    }

    /// A driver that lacks a function.
    #[allow(dead_code, reason = "included by several tests, of which not each uses it")]
    pub(crate) fn without_uuid(conf: &str) -> Self {
        Self::with(&WITHOUT_UUID, conf, true)
    }

    /// A driver that lacks any one function of those that we call.
    #[allow(dead_code, reason = "included by several tests, of which not each uses it")]
    pub(crate) fn without_function(function: &str, conf: &str) -> Self {
        // Renamed as it is compiled.
        let built = build(&format!("-D{function}={function}_left_out"), &format!("without-{function}"));
        Self::with(&built, conf, true)
    }

    /// A machine on which no driver can be loaded, whatever it has elsewhere.
    #[allow(dead_code, reason = "included by several tests, of which not each uses it")]
    pub(crate) fn none() -> Self {
        let stub = Self::with(&BUILT, "", false);
        ["libcuda.so", "libcuda.so.1"].iter().for_each(|name| fs::write(stub.dir.join(name), NO_LIBRARY).unwrap());
        stub
    }

    fn with(built: &Path, conf: &str, has_cublaslt: bool) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("stub-driver-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir).unwrap();
        // Copies: the libraries look for their settings beside themselves, wherever a link leads.
        fs::copy(built.join("libcuda.so.1"), dir.join("libcuda.so.1")).unwrap();
        // By every name that is looked for before, so that a machine with a driver of its own tests this one.
        fs::hard_link(dir.join("libcuda.so.1"), dir.join("libcuda.so")).unwrap();
        for name in ["libcublasLt.so", "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11"] {
            if has_cublaslt {
                fs::copy(built.join("libcublasLt.so.12"), dir.join(name)).unwrap();
            } else {
                fs::write(dir.join(name), NO_LIBRARY).unwrap();
            }
        }
        fs::write(dir.join("stub.conf"), conf).unwrap();
        Self { dir }
    }

    /// Value for `LD_LIBRARY_PATH`.
    pub(crate) fn library_path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for StubDriver {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn build(flags: &str, name: &str) -> PathBuf {
    let cuda = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/cuda");
    let mut sources: Vec<PathBuf> = ["", "shim", "stub"]
        .iter()
        .flat_map(|folder| fs::read_dir(cuda.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    sources.sort();
    let mut hasher = DefaultHasher::new();
    for source in &sources {
        (source.file_name(), fs::read(source).unwrap()).hash(&mut hasher);
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stub-{name}-{:016x}", hasher.finish()));
    if out.join("libcublasLt.so.12").exists() {
        return out;
    }
    // Built aside and moved into place: two test processes may both find nothing.
    let aside = out.with_extension(format!("{}", std::process::id()));
    let done = Command::new(cuda.join("stub/build.sh")).arg(&aside).env("CXXFLAGS", flags).output();
    let done = done.unwrap_or_else(|error| panic!("cannot run kernels/cuda/stub/build.sh: {error}"));
    assert!(done.status.success(), "the stub driver was refused:\n{}", String::from_utf8_lossy(&done.stderr));
    match fs::rename(&aside, &out) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            panic!("cannot move the stub driver into place: {error}");
        }
        _ => out,
    }
}
