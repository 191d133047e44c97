//! Requirements of an app: wheels for the interpreter of the base, unpacked once for each list of them, without native
//! code.
//!
//! Wheels are resolved for Linux, since most packages have no wheel for WebAssembly; then their native files are
//! removed. Many packages have a fall-back in Python. One that has none fails when it is imported, and is named with
//! the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::error::PythonError;
use super::project::Project;
use crate::sandbox::PreloadError;

/// Version of Python in the base.
const PYTHON: &str = "3.14";
/// Platforms whose wheels are taken, the newest first.
const PLATFORMS: [&str; 3] = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];
/// Remedies by package.
const REMEDIES: [(&str, &str); 5] = [
    ("pydantic_core", "use dataclasses, whose fields are checked at the call, or pydantic 1 (`pydantic<2`)"),
    ("numpy", "use lists and `array`, or have a model compute: `bireme.model(NAME).infer(...)`"),
    ("pandas", "use `csv` and dataclasses"),
    ("lxml", "use `html.parser`, or beautifulsoup4 with it"),
    ("orjson", "use `json`"),
];
/// List of the native files that were removed, in the packages' directory.
const REMOVED: &str = "bireme-removed.txt";
/// Requirements that come with the base.
const BUILT_IN: &str = "bireme";

/// Packages of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packages {
    /// Directory with the modules; `None` for an app without requirements.
    pub dir: Option<PathBuf>,
    /// Native files that were removed, relative to it.
    removed: Vec<String>,
}

impl Packages {
    /// Returns the packages of an app; installs them with the first build that has this list. `data` is the data
    /// directory,
    /// `base` the digest of the base.
    pub(super) async fn of(project: &Project, data: &Path, base: &[u8; 32]) -> Result<Self, PythonError> {
        let list = project.requirements()?;
        let wanted: Vec<&str> = list.iter().map(String::as_str).filter(|line| !is_built_in(line)).collect();
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let text = wanted.join("\n") + "\n";
        let key = hex::encode(&Sha256::new_with_prefix(base).chain_update(&text).finalize()[..16]);
        let all = data.join("python").join("packages");
        let dir = all.join(key);
        if !dir.join(REMOVED).is_file() {
            let unwritable = |source| PythonError::Write { path: all.clone(), source };
            fs::create_dir_all(&all).map_err(unwritable)?;
            let fresh = tempfile::tempdir_in(&all).map_err(unwritable)?;
            install(&text, fresh.path()).await?;
            remove_native(fresh.path()).map_err(unwritable)?;
            // A build beside this one may have been faster; its packages are the same.
            if let Err(error) = fs::rename(fresh.path(), &dir)
                && !dir.join(REMOVED).is_file()
            {
                return Err(unwritable(error));
            }
        }
        let removed = fs::read_to_string(dir.join(REMOVED));
        let removed = removed.map_err(|source| PythonError::Read { path: dir.join(REMOVED), source })?;
        Ok(Self { dir: Some(dir), removed: removed.lines().map(str::to_owned).collect() })
    }

    /// Returns the names of the modules at the top level.
    pub(super) fn modules(&self) -> Vec<String> {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else { return Vec::new() };
        let module = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let is_package = entry.path().join("__init__.py").is_file();
            let module = if is_package { Some(name.as_str()) } else { name.strip_suffix(".py") };
            module.map(str::to_owned)
        };
        let mut modules: Vec<String> = entries.flatten().filter_map(module).collect();
        modules.sort_unstable();
        modules
    }

    /// Returns the file of a base that has imported them.
    pub(super) fn base(&self) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.with_extension("wasm"))
    }

    /// Returns the reason of a failed import: native code of a package, if its words name one.
    pub(super) fn reason(&self, error: PreloadError) -> PythonError {
        let PreloadError::Load(failure) = &error else { return error.into() };
        let text = format!("{}\n{}", failure.message, failure.traceback);
        let Some((package, file)) = self.native_named_in(&text) else { return error.into() };
        let remedy = REMEDIES.iter().find(|(name, _)| *name == package);
        let remedy = remedy.map_or("use a package that is written in Python alone", |(_, remedy)| remedy);
        let (package, file) = (package.to_owned(), file.to_owned());
        PythonError::Native { package, file, remedy, traceback: failure.traceback.clone() }
    }

    /// Returns the native file that a failed import lacks, with its package: the file whose module `text` names, else
    /// one of a package that it names.
    fn native_named_in(&self, text: &str) -> Option<(&str, &str)> {
        let module = |file: &str| file.split('.').next().unwrap_or_default().replace('/', ".");
        let is_module = |file: &&String| text.contains(&module(file));
        let is_package = |file: &&String| {
            let package = package_of(file);
            text.contains(&format!("`{package}`")) || text.contains(&format!("'{package}'"))
        };
        let named = self.removed.iter().filter(is_module).max_by_key(|file| module(file).len());
        let file = named.or_else(|| self.removed.iter().find(is_package))?;
        Some((package_of(file), file))
    }
}

/// Returns the top-level package of a file.
fn package_of(file: &str) -> &str {
    let top = file.split('/').next().unwrap_or_default();
    top.split('.').next().unwrap_or_default()
}

/// Whether a requirement is on the package that the base holds.
fn is_built_in(requirement: &str) -> bool {
    let end = requirement.find(|letter: char| !(letter.is_alphanumeric() || "-_.".contains(letter)));
    requirement[..end.unwrap_or(requirement.len())].eq_ignore_ascii_case(BUILT_IN)
}

/// Unpacks the wheels of a list into a directory, by `uv` where it is there, else by `pip`.
async fn install(list: &str, dir: &Path) -> Result<(), PythonError> {
    let file = tempfile::NamedTempFile::new().and_then(|file| fs::write(file.path(), list).map(|()| file));
    let file = file.map_err(|source| PythonError::Write { path: std::env::temp_dir(), source })?;
    let mut failures = Vec::new();
    for (name, mut command) in [("uv", uv(dir)), ("pip", pip(dir))] {
        command.arg("-r").arg(file.path()).stdin(Stdio::null()).kill_on_drop(true);
        match command.output().await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => failures.push(format!("{name} is not installed")),
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                // A Python without pip is as good as none.
                if words.contains("No module named pip") {
                    failures.push("python3 has no pip".to_owned());
                    continue;
                }
                return Err(PythonError::Requirements { program: name, words });
            }
        }
    }
    Err(PythonError::NoInstaller { reasons: failures.join("; ") })
}

fn uv(dir: &Path) -> Command {
    let mut command = Command::new("uv");
    command.args(["pip", "install", "--quiet", "--only-binary", ":all:", "--python-platform", "x86_64-manylinux_2_28"]);
    command.args(["--python-version", PYTHON, "--target"]).arg(dir);
    command
}

fn pip(dir: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-compile"]);
    command.args(["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, "--abi", "cp314"]);
    command.args(PLATFORMS.iter().flat_map(|platform| ["--platform", platform])).arg("--target").arg(dir);
    command
}

/// Removes native files, and lists them.
fn remove_native(dir: &Path) -> io::Result<()> {
    let mut removed = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if is_native(&path) {
                fs::remove_file(&path)?;
                removed.push(path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned());
            }
        }
    }
    removed.sort_unstable();
    // Last: a directory without it is not complete.
    fs::write(dir.join(REMOVED), removed.join("\n"))
}

fn is_native(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_no_requirement_of_its_own() {
        for (line, expected) in [
            ("bireme", true),
            ("Bireme>=0.1", true),
            ("bireme[x] ; python_version > '3'", true),
            ("bireme-extra", false),
            ("jinja2", false),
        ] {
            assert_eq!(is_built_in(line), expected, "{line}");
        }
    }

    #[test]
    fn native_files_are_removed_and_found_by_the_words_of_a_failed_import() {
        let dir = tempfile::tempdir().unwrap();
        for file in
            ["pydantic_core/_core.cpython-314-x86_64-linux-gnu.so", "libs/x.so.1", "a/__init__.py", "_top.abi3.so"]
        {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        remove_native(dir.path()).unwrap();
        assert!(dir.path().join("a/__init__.py").exists() && !dir.path().join("_top.abi3.so").exists());
        let removed = fs::read_to_string(dir.path().join(REMOVED)).unwrap().lines().map(str::to_owned).collect();
        let packages = Packages { dir: None, removed };
        let of = |text| packages.native_named_in(text).map(|(package, _)| package);
        assert_eq!(of("cannot import name 'X' from 'pydantic_core._core'"), Some("pydantic_core"));
        assert_eq!(of("No module named `_top`"), Some("_top"));
        assert_eq!(
            packages.native_named_in("'pydantic_core' and 'pydantic_core._core'").unwrap().1,
            "pydantic_core/_core.cpython-314-x86_64-linux-gnu.so"
        );
        assert_eq!(of("No module named 'other'"), None);
    }
}
