//! From a crate directory to a component: runs cargo, adds the target when it is missing.
//!
//! Not here: `describe` and the metadata section, which need a sandbox (`cli::target` puts both together).

mod diagnosis;
mod toolchain;
mod words;

use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use cargo_metadata::Message;
use rustix::process::{Pid, Signal};

use self::words::Words;
use crate::codes::Code;

pub use self::toolchain::{Toolchain, has_linker, has_target};

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
    #[error("the dependency `{name}` does not build for {TARGET}; {}", instead.unwrap_or("look for a crate that is all Rust and needs no operating system"))]
    NotForWasm { name: String, instead: Option<&'static str> },
    #[error("the app does not find its SDK: the path of `bireme-sdk` in its Cargo.toml leads nowhere")]
    SdkMoved,
    #[error("the app uses `bireme_sdk` and does not depend on it")]
    NoSdk,
    #[error("this Rust is too old for the app: {reason}; run `rustup update`")]
    OldToolchain { reason: String },
    #[error("the crate in `{}` builds no component; its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`", dir.display())]
    NoComponent { dir: PathBuf },
    #[error("the workspace of `{}` builds {} components ({names}); name one of their directories", dir.display(), found.len(), names = names(found))]
    Several { dir: PathBuf, found: Vec<PathBuf> },
}

fn names(paths: &[PathBuf]) -> String {
    let stems = paths.iter().filter_map(|path| path.file_stem()).map(|stem| stem.to_string_lossy());
    stems.collect::<Vec<_>>().join(", ")
}

impl BuildError {
    /// Returns the code of the error that it is to a user.
    pub fn code(&self) -> Code {
        match self {
            Self::NoCrate { .. } => Code::NoCrate,
            Self::Program { .. } | Self::OldToolchain { .. } | Self::NoLinker => Code::Toolchain,
            Self::Target { .. } => Code::NoTarget,
            Self::Cargo => Code::BuildFailed,
            Self::NotForWasm { .. } => Code::NotForWasm,
            Self::SdkMoved | Self::NoSdk => Code::NoSdk,
            Self::NoComponent { .. } | Self::Several { .. } => Code::NoComponent,
        }
    }
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
                // Small: what is compiled to native code after each save is what it leaves (docs/decisions/edit-loop.md).
                "--config=profile.bireme-edit.package.'*'.opt-level='s'",
            ],
        }
    }
}

/// Builds the crate in `dir` and returns the component that cargo wrote. Cargo's own words go to stderr as they come.
pub fn build(dir: &Path) -> Result<PathBuf, BuildError> {
    check_crate(dir)?;
    Building::start(&Toolchain::of(dir)?, dir, Profile::Release)?.finish()
}

/// A build under way.
pub struct Building {
    dir: PathBuf,
    cargo: Arc<Cargo>,
    messages: ChildStdout,
    words: Words,
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
    pub fn start(toolchain: &Toolchain, dir: &Path, profile: Profile) -> Result<Self, BuildError> {
        check_crate(dir)?;
        let mut command = toolchain.cargo(dir);
        command
            .arg("build")
            .args(profile.args())
            .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        words::colour(&mut command);
        if profile == Profile::Edit {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|source| BuildError::Program { program: "cargo", source })?;
        let messages = child.stdout.take().expect("stdout was piped");
        let words = Words::pass_on(child.stderr.take().expect("stderr was piped"));
        let group = (profile == Profile::Edit).then(|| Pid::from_child(&child));
        Ok(Self { dir: dir.to_owned(), cargo: Arc::new(Cargo { child: Mutex::new(child), group }), messages, words })
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
            let found = diagnosis::diagnose(&self.words.finish(), &package_name(&self.dir));
            // Cargo's own words for a missing one are many and unclear.
            let otherwise = || if has_linker() { BuildError::Cargo } else { BuildError::NoLinker };
            return Err(found.unwrap_or_else(otherwise));
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

fn check_crate(dir: &Path) -> Result<(), BuildError> {
    if dir.join("Cargo.toml").is_file() { Ok(()) } else { Err(BuildError::NoCrate { dir: dir.to_owned() }) }
}

/// Returns the name in the manifest of `dir`, or nothing.
fn package_name(dir: &Path) -> String {
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    let package = manifest.lines().skip_while(|line| line.trim() != "[package]").skip(1);
    let mut lines = package.take_while(|line| !line.trim_start().starts_with('['));
    let name = lines.find_map(|line| line.trim().strip_prefix("name")?.trim_start().strip_prefix('='));
    name.unwrap_or_default().trim().trim_matches('"').to_owned()
}
