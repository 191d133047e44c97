//! One run of cargo: started, awaited, cancelled.

use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;

use cargo_metadata::Message;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};

use super::cargo_output::{self, CargoOutput};
use super::diagnosis;
use super::error::{BuildError, TARGET};
use super::toolchain::{Toolchain, has_linker};

/// Profile of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The crate's own release profile, for deployments.
    Release,
    /// Fast builds for the edit loop: dependencies are optimised once, the app's own code is not, no debug information.
    /// Passed on the command line, so that the author's manifest needs no entry.
    Edit,
}

impl Profile {
    fn args(self) -> &'static [&'static str] {
        match self {
            Profile::Release => &["--release"],
            // Stripped, because linking debug information takes longer than compiling a small app.
            Profile::Edit => &[
                "--profile=bireme-edit",
                "--config=profile.bireme-edit.inherits='dev'",
                "--config=profile.bireme-edit.debug=0",
                "--config=profile.bireme-edit.strip=true",
                // Optimised for size, because the host compiles the result to native code after each save
                // (docs/decisions/edit-loop.md).
                "--config=profile.bireme-edit.package.'*'.opt-level='s'",
            ],
        }
    }
}

/// Builds the crate in `dir` and returns the path of its component. Cargo's output goes to stderr as it comes.
pub fn build(dir: &Path) -> Result<PathBuf, BuildError> {
    check_crate(dir)?;
    Build::start(&Toolchain::of(dir)?, dir, Profile::Release)?.finish()
}

/// A build under way.
pub(crate) struct Build {
    dir: PathBuf,
    cargo: Arc<CargoProcess>,
    messages: ChildStdout,
    output: CargoOutput,
}

/// Canceller of a build: ends cargo and every compiler that it started.
#[derive(Clone)]
pub(crate) struct Canceller(Arc<CargoProcess>);

struct CargoProcess {
    child: Mutex<Child>,
    /// Cargo's own process group, if it has one.
    group: Option<Pid>,
}

impl Build {
    /// Starts cargo. A build of `Profile::Edit` has its own process group, and must be cancelled or finished.
    pub(crate) fn start(toolchain: &Toolchain, dir: &Path, profile: Profile) -> Result<Self, BuildError> {
        check_crate(dir)?;
        let mut command = toolchain.cargo(dir);
        command
            .arg("build")
            .args(profile.args())
            .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        cargo_output::colour(&mut command);
        if profile == Profile::Edit {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|source| BuildError::Program { program: "cargo", source })?;
        let messages = child.stdout.take().expect("stdout was piped");
        let output = CargoOutput::copy(child.stderr.take().expect("stderr was piped"));
        let group = (profile == Profile::Edit).then(|| Pid::from_child(&child));
        Ok(Self {
            dir: dir.to_owned(),
            cargo: Arc::new(CargoProcess { child: Mutex::new(child), group }),
            messages,
            output,
        })
    }

    /// Returns a canceller, for another thread.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller(self.cargo.clone())
    }

    /// Waits for cargo and returns the path of its component.
    pub(crate) fn finish(self) -> Result<PathBuf, BuildError> {
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
        // Its output has ended, so its exit is near.
        let status = self.cargo.child.lock().wait();
        let status = status.map_err(|source| BuildError::Program { program: "cargo", source })?;
        if !status.success() {
            let found = diagnosis::diagnose(&self.output.finish(), &package_name(&self.dir));
            // Cargo's own message for a missing linker is long and unclear.
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
    /// Ends the build. Has no effect once it has ended.
    pub(crate) fn cancel(&self) {
        let mut child = self.0.child.lock();
        // A reaped process id may be reused.
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

/// Returns the package name in the manifest of `dir`; empty if there is none.
fn package_name(dir: &Path) -> String {
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    let package = manifest.lines().skip_while(|line| line.trim() != "[package]").skip(1);
    let mut lines = package.take_while(|line| !line.trim_start().starts_with('['));
    let name = lines.find_map(|line| line.trim().strip_prefix("name")?.trim_start().strip_prefix('='));
    name.unwrap_or_default().trim().trim_matches('"').to_owned()
}
