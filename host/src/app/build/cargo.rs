//! One run of cargo: started, awaited, cancelled.

use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use cargo_metadata::{Artifact, Message};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};

use super::cargo_output::{self, CargoOutput};
use super::diagnosis;
use super::error::{BuildError, TARGET};
use super::package::{BuildDirs, Package};
use super::shared_dir::Holder;
use super::toolchain::has_linker;

/// Profile of a build. Both are cargo's `release`, so that dependencies are compiled once for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The crate's own release profile, for deployments.
    Release,
    /// Fast builds for the edit loop: dependencies are optimised once, the app's own code is not, no debug information.
    /// Passed on the command line, so that the author's manifest needs no entry.
    Edit,
}

/// Builds the crate in `dir`, which finds its SDK by itself, and returns the path of its component. Cargo's output goes
/// to stderr as it comes.
pub fn build(dir: &Path) -> Result<PathBuf, BuildError> {
    build_in(dir, &BuildDirs::default())
}

/// Builds the crate in `dir` with shared directories.
pub(crate) fn build_in(dir: &Path, dirs: &BuildDirs) -> Result<PathBuf, BuildError> {
    Build::start(&Package::open(dir, dirs)?, Profile::Release)?.finish()
}

/// A build under way.
pub(crate) struct Build {
    dir: PathBuf,
    cargo: Arc<CargoProcess>,
    messages: ChildStdout,
    output: CargoOutput,
    package: String,
    /// Held until cargo has ended.
    _holder: Option<Holder>,
}

/// A program of tests, as a component that exports `wasi:cli/run`.
#[derive(Debug)]
pub(crate) struct TestProgram {
    pub path: PathBuf,
    /// Name of the cargo target: the crate, or a file of its `tests/`.
    pub name: String,
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
    pub(crate) fn start(package: &Package, profile: Profile) -> Result<Self, BuildError> {
        let mut command = package.cargo("build");
        match profile {
            Profile::Release => command.arg("--release"),
            Profile::Edit => command.args(package.edit_args()),
        };
        command.args(["--target", TARGET, "--message-format", "json-render-diagnostics"]);
        if profile == Profile::Edit {
            command.process_group(0);
        }
        Self::spawn(package, command, profile == Profile::Edit)
    }

    /// Starts cargo for the package's test programs, for the sandbox.
    pub(crate) fn start_tests(package: &Package) -> Result<Self, BuildError> {
        Self::spawn(package, package.sandboxed_tests(), false)
    }

    /// Starts a command of cargo that prints its messages as JSON.
    fn spawn(package: &Package, mut command: Command, has_group: bool) -> Result<Self, BuildError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        cargo_output::colour(&mut command);
        let holder = package.compiled_dir().and_then(|dir| Holder::announce(dir, package.dir()));
        let mut child = command.spawn().map_err(|source| BuildError::Program { program: "cargo", source })?;
        let messages = child.stdout.take().expect("stdout was piped");
        let output = CargoOutput::copy(child.stderr.take().expect("stderr was piped"));
        let group = has_group.then(|| Pid::from_child(&child));
        Ok(Self {
            dir: package.dir().to_owned(),
            package: package.name().to_owned(),
            _holder: holder,
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
        let dir = self.dir.clone();
        let files = self.artifacts()?.into_iter().flat_map(|artifact| artifact.filenames);
        let files = files.filter(|file| file.extension() == Some("wasm"));
        let mut components: Vec<PathBuf> = files.map(|file| file.into_std_path_buf()).collect();
        match components.len() {
            1 => Ok(components.remove(0)),
            0 => Err(BuildError::NoComponent { dir }),
            _ => Err(BuildError::Several { dir, found: components }),
        }
    }

    /// Waits for cargo and returns the test programs.
    pub(crate) fn finish_tests(self) -> Result<Vec<TestProgram>, BuildError> {
        let tests = self.artifacts()?.into_iter().filter(|artifact| artifact.profile.test);
        let programs = tests.filter_map(|artifact| {
            let path = artifact.executable?.into_std_path_buf();
            Some(TestProgram { path, name: artifact.target.name })
        });
        Ok(programs.collect())
    }

    /// Waits for cargo and returns what it built of the package itself.
    fn artifacts(self) -> Result<Vec<Artifact>, BuildError> {
        let manifest = self.dir.join("Cargo.toml");
        let manifest = std::fs::canonicalize(&manifest).unwrap_or(manifest);
        let mut artifacts = Vec::new();
        for message in Message::parse_stream(BufReader::new(self.messages)) {
            if let Ok(Message::CompilerArtifact(artifact)) = message
                && artifact.manifest_path.as_std_path() == manifest
            {
                artifacts.push(artifact);
            }
        }
        // Its output has ended, so its exit is near.
        let status = self.cargo.child.lock().wait();
        let status = status.map_err(|source| BuildError::Program { program: "cargo", source })?;
        if !status.success() {
            let found = diagnosis::diagnose(&self.output.finish(), &self.package);
            // Cargo's own message for a missing linker is long and unclear.
            let otherwise = || if has_linker() { BuildError::Cargo } else { BuildError::NoLinker };
            return Err(found.unwrap_or_else(otherwise));
        }
        Ok(artifacts)
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
