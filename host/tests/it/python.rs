//! Packages of PyPI: a Python with one, for clients that are others' own, or the files of one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{finish, kept, locked};

/// Returns a Python that has the package, given with its version; none, and said so, where PyPI cannot be reached.
pub(crate) fn python_with(package: &str) -> Option<PathBuf> {
    locked("python", || {
        let name: String = package.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        let environment = kept().join("python").join(name);
        let (python, marker) = (environment.join("bin/python"), environment.join("package"));
        if fs::read_to_string(&marker).is_ok_and(|installed| installed == package) {
            return Some(python);
        }
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&environment);
        let made = finish(make);
        assert_eq!(made.status, 0, "on Debian: apt-get install python3-venv: {made:#?}");
        if !is_installed(&python, &[package], package) {
            return None;
        }
        fs::write(marker, package).unwrap();
        Some(python)
    })
}

/// Returns the directory with the files of a package, given with its version; none, and said so, where PyPI cannot be
/// reached.
pub(crate) fn files_of(package: &str) -> Option<PathBuf> {
    locked("python", || {
        let files = kept().join("files").join(package);
        if files.is_dir() {
            return Some(files);
        }
        // Put in place whole.
        let new = tempfile::tempdir_in(kept()).unwrap();
        let target = new.path().join("package");
        if !is_installed(Path::new("python3"), &["--no-deps", "--target", target.to_str().unwrap(), package], package) {
            return None;
        }
        fs::create_dir_all(kept().join("files")).unwrap();
        fs::rename(target, &files).unwrap();
        Some(files)
    })
}

/// Runs `pip install`; whether it did, or else there is no network, which is said.
fn is_installed(python: &Path, arguments: &[&str], package: &str) -> bool {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--retries", "1"]).args(arguments);
    let installed = finish(pip);
    if installed.status != 0 {
        let (mut reach, dir) = (Command::new(python), tempfile::tempdir().unwrap());
        reach.args(["-m", "pip", "download", "--quiet", "--retries", "1", "--no-deps", "--dest"]);
        reach.arg(dir.path()).arg("pip");
        // Whether it is the network or the package: anything else than a network that is down is a failure.
        assert!(finish(reach).status != 0, "PyPI is there and has no {package}: {installed:#?}");
        let last = installed.stderr.lines().last().unwrap_or("pip said nothing").to_owned();
        let _ = writeln!(std::io::stderr(), "skipped: {package} could not be had from PyPI: {last}");
    }
    installed.status == 0
}
