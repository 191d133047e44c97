//! From a crate directory to a component: runs cargo, adds the target when it is missing.
//!
//! Not here: `describe` and the metadata section, which need a sandbox (`cli::target` puts both together).

use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use cargo_metadata::Message;
use rustix::process::{Pid, Signal};

/// The target of every guest.
pub const TARGET: &str = "wasm32-wasip2";

/// A build without a component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    #[error("`{}` is no crate: it has no Cargo.toml", dir.display())]
    NoCrate { dir: PathBuf },
    #[error("cannot run `{program}`; install Rust from https://rustup.rs")]
    Program { program: &'static str, source: std::io::Error },
    #[error("the target {TARGET} is missing and could not be added; run `rustup target add {TARGET}`: {reason}")]
    Target { reason: String },
    #[error("cargo could not build the app (its words are above)")]
    Cargo,
    #[error(
        "cargo could not build the app, and no C compiler `cc` is installed, which Rust needs to link; on Debian or Ubuntu: `apt-get install build-essential`"
    )]
    NoLinker,
    #[error("the crate in `{}` builds no component; its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`", dir.display())]
    NoComponent { dir: PathBuf },
    #[error("the workspace of `{}` builds {} components ({names}); name one of their directories", dir.display(), found.len(), names = names(found))]
    Several { dir: PathBuf, found: Vec<PathBuf> },
}

fn names(paths: &[PathBuf]) -> String {
    let stems = paths.iter().filter_map(|path| path.file_stem()).map(|stem| stem.to_string_lossy());
    stems.collect::<Vec<_>>().join(", ")
}

/// How a guest is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The crate's own release profile: what is deployed.
    Release,
    /// Quick to build, for the edit loop: dependencies optimised once, the app's own code not, no debug information. Given on
    /// the command line, so that the author's manifest needs no part in it.
    Edit,
}

impl Profile {
    fn args(self) -> &'static [&'static str] {
        match self {
            Profile::Release => &["--release"],
            // Stripped: linking debug information takes longer than compiling a small app.
            Profile::Edit => &[
                "--profile=bireme-edit",
                "--config=profile.bireme-edit.inherits='dev'",
                "--config=profile.bireme-edit.debug=0",
                "--config=profile.bireme-edit.strip=true",
                "--config=profile.bireme-edit.package.'*'.opt-level=2",
            ],
        }
    }
}

/// Builds the crate in `dir` and returns the component that cargo wrote. Cargo's own words go to stderr as they come.
pub fn build(dir: &Path) -> Result<PathBuf, BuildError> {
    Building::start(dir, Profile::Release)?.finish()
}

/// A build under way.
pub struct Building {
    dir: PathBuf,
    cargo: Arc<Cargo>,
    messages: ChildStdout,
}

/// Cancels a build: cargo and every compiler that it started end.
#[derive(Clone)]
pub struct Canceller(Arc<Cargo>);

struct Cargo {
    child: Mutex<Child>,
    /// Cargo's process group, where it has one of its own.
    group: Option<Pid>,
}

impl Building {
    /// Starts cargo. A build of `Profile::Edit` is in a process group of its own and must be cancelled or finished.
    pub fn start(dir: &Path, profile: Profile) -> Result<Self, BuildError> {
        if !dir.join("Cargo.toml").is_file() {
            return Err(BuildError::NoCrate { dir: dir.to_owned() });
        }
        ensure_target(dir)?;
        let mut command = cargo(dir);
        command
            .arg("build")
            .args(profile.args())
            .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if profile == Profile::Edit {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|source| BuildError::Program { program: "cargo", source })?;
        let messages = child.stdout.take().expect("stdout was piped");
        let group = (profile == Profile::Edit).then(|| Pid::from_child(&child));
        Ok(Self { dir: dir.to_owned(), cargo: Arc::new(Cargo { child: Mutex::new(child), group }), messages })
    }

    pub fn canceller(&self) -> Canceller {
        Canceller(self.cargo.clone())
    }

    /// Waits for cargo and returns the component that it wrote.
    pub fn finish(self) -> Result<PathBuf, BuildError> {
        let manifest = self.dir.join("Cargo.toml");
        let manifest = std::fs::canonicalize(&manifest).unwrap_or(manifest);
        let mut components = Vec::new();
        for message in Message::parse_stream(BufReader::new(self.messages)) {
            let Ok(Message::CompilerArtifact(artifact)) = message else {
                continue;
            };
            if artifact.manifest_path.as_std_path() == manifest {
                let files = artifact.filenames.iter().filter(|file| file.extension() == Some("wasm"));
                components.extend(files.map(|file| file.as_std_path().to_owned()));
            }
        }
        // Its output has ended, so it is about to.
        let status = self.cargo.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        let status = status.map_err(|source| BuildError::Program { program: "cargo", source })?;
        if !status.success() {
            // Cargo's own words for a missing one are many and unclear.
            return Err(if has_linker() { BuildError::Cargo } else { BuildError::NoLinker });
        }
        match components.len() {
            1 => Ok(components.remove(0)),
            0 => Err(BuildError::NoComponent { dir: self.dir }),
            _ => Err(BuildError::Several { dir: self.dir, found: components }),
        }
    }
}

impl Canceller {
    pub fn cancel(&self) {
        let mut child = self.0.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Once it was waited for, its id may be another's.
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        match self.0.group {
            Some(group) => drop(rustix::process::kill_process_group(group, Signal::TERM)),
            None => drop(child.kill()),
        }
    }
}

/// Returns whether the C compiler is there that Rust links build scripts and macros with.
pub fn has_linker() -> bool {
    Command::new("cc").arg("--version").output().is_ok()
}

/// Returns whether the toolchain of `dir` has the guest target.
pub fn has_target(dir: &Path) -> Result<bool, BuildError> {
    let libdir = Command::new("rustc")
        .current_dir(dir)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|source| BuildError::Program { program: "rustc", source })?;
    let path = PathBuf::from(String::from_utf8_lossy(&libdir.stdout).trim());
    Ok(libdir.status.success() && path.is_dir())
}

/// Adds the guest target through rustup when the toolchain of `dir` lacks it. Explicit, because rustup's own auto-install may
/// be switched off, and then a missing target only shows as "can't find crate for `core`".
fn ensure_target(dir: &Path) -> Result<(), BuildError> {
    if has_target(dir)? {
        return Ok(());
    }
    tracing::warn!("adding the Rust target {TARGET}");
    let added = Command::new("rustup").current_dir(dir).args(["target", "add", TARGET]).output();
    match added {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(BuildError::Target { reason: String::from_utf8_lossy(&output.stderr).trim().to_owned() }),
        Err(source) => Err(BuildError::Target { reason: format!("rustup did not start: {source}") }),
    }
}

/// Cargo as the user would type it. What an outer cargo says to the programs that it runs (`cargo run`, a test) is not for
/// the guest's build, and flags for this machine's code are wrong for wasm; the user's own settings pass.
fn cargo(dir: &Path) -> Command {
    const OUTER: [&str; 5] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_CFG_"];
    const OUTER_WHOLE: [&str; 5] =
        ["CARGO", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"];
    let mut command = Command::new("cargo");
    command.current_dir(dir);
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if OUTER_WHOLE.contains(&&*name) || OUTER.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
    // A test, or a user with one cache for all apps, can choose where guests are built.
    if let Some(target) = std::env::var_os("BIREME_GUEST_TARGET_DIR") {
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}
