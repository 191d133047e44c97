//! Rust toolchain of an app: its programs, and its target for guests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{BuildError, TARGET};

/// A toolchain with the guests' target.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    /// Directory of its programs; bypasses rustup's proxies, which would search for it at each start.
    bin: Option<PathBuf>,
}

impl Toolchain {
    /// Finds the toolchain in effect in `dir`, and adds the target if missing. Explicit, because rustup's own
    /// auto-install may be off, and then a missing target only shows as "can't find crate for `core`".
    pub(crate) fn of(dir: &Path) -> Result<Self, BuildError> {
        let (sysroot, has_target) = probe(dir)?;
        if !has_target {
            add_target(dir)?;
        }
        let bin = sysroot.join("bin");
        let is_whole = ["cargo", "rustc"].iter().all(|program| bin.join(program).is_file());
        Ok(Self { bin: is_whole.then_some(bin) })
    }

    /// Returns cargo as the user would run it in `dir`. Variables of an outer cargo (`cargo run`, a test) are removed,
    /// and so are flags for this machine's code, which are wrong for wasm; the user's own settings pass.
    pub(crate) fn cargo(&self, dir: &Path) -> Command {
        const OUTER_PREFIXES: [&str; 5] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_CFG_"];
        const OUTER_NAMES: [&str; 5] =
            ["CARGO", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"];
        let mut command = match &self.bin {
            Some(bin) => {
                let mut command = Command::new(bin.join("cargo"));
                command.env("PATH", path_with(bin));
                command
            }
            None => Command::new("cargo"),
        };
        command.current_dir(dir);
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if OUTER_NAMES.contains(&&*name) || OUTER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&key);
            }
        }
        // Build directory of guests, for tests and for users with one cache for all apps.
        if let Some(target) = std::env::var_os("BIREME_GUEST_TARGET_DIR") {
            command.env("CARGO_TARGET_DIR", target);
        }
        command
    }
}

fn path_with(bin: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path));
    // A directory that cannot be part of PATH cannot be found through it.
    std::env::join_paths(dirs).unwrap_or(path)
}

/// Returns the sysroot of the toolchain in effect in `dir`, and whether it has the guests' target.
fn probe(dir: &Path) -> Result<(PathBuf, bool), BuildError> {
    let output = Command::new("rustc")
        .current_dir(dir)
        .args(["--print", "sysroot", "--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|source| BuildError::Program { program: "rustc", source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().map(|line| PathBuf::from(line.trim()));
    let (sysroot, libdir) = (lines.next().unwrap_or_default(), lines.next());
    Ok((sysroot, output.status.success() && libdir.is_some_and(|libdir| libdir.is_dir())))
}

/// Whether the toolchain in effect in `dir` has the guests' target.
pub(crate) fn has_target(dir: &Path) -> Result<bool, BuildError> {
    Ok(probe(dir)?.1)
}

/// Whether `cc` is installed, with which Rust links build scripts and macros.
pub(crate) fn has_linker() -> bool {
    Command::new("cc").arg("--version").output().is_ok()
}

fn add_target(dir: &Path) -> Result<(), BuildError> {
    tracing::warn!("adding the Rust target {TARGET}");
    let added = Command::new("rustup").current_dir(dir).args(["target", "add", TARGET]).output();
    match added {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(BuildError::Target { reason: String::from_utf8_lossy(&output.stderr).trim().to_owned() }),
        Err(source) => Err(BuildError::Target { reason: format!("rustup did not start: {source}") }),
    }
}
