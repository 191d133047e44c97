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
    Build::start(&Toolchain::of(dir)?, dir, Profile::Release)?.finish()
}

/// A build under way.
pub struct Build {
    dir: PathBuf,
    cargo: Arc<CargoProcess>,
    messages: ChildStdout,
    output: CargoOutput,
}

/// Cancels a build: cargo and every compiler that it started end.
#[derive(Clone)]
pub struct Canceller(Arc<CargoProcess>);

struct CargoProcess {
    child: Mutex<Child>,
    /// Cargo's process group, where it has one of its own.
    group: Option<Pid>,
}

impl Build {
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
        let status = self.cargo.child.lock().wait();
        let status = status.map_err(|source| BuildError::Program { program: "cargo", source })?;
        if !status.success() {
            let found = diagnosis::diagnose(&self.output.finish(), &package_name(&self.dir));
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
        let mut child = self.0.child.lock();
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
