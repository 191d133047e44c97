//! A Python with one package from PyPI, for clients that are others' own.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{finish, kept, locked};

/// Returns a Python that has the package, given with its version; none, and said so, where PyPI cannot be reached.
pub fn python_with(package: &str) -> Option<PathBuf> {
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
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--retries", "1", package]);
        let installed = finish(pip);
        if installed.status != 0 {
            let mut reach = Command::new(&python);
            reach.args(["-m", "pip", "download", "--quiet", "--retries", "1", "--no-deps", "--dest"]);
            reach.arg(environment.join("reach")).arg("pip");
            // Whether it is the network or the package: anything else than a network that is down is a failure.
            assert!(finish(reach).status != 0, "PyPI is there and has no {package}: {installed:#?}");
            let last = installed.stderr.lines().last().unwrap_or("pip said nothing").to_owned();
            let _ = writeln!(std::io::stderr(), "skipped: {package} could not be had from PyPI: {last}");
            return None;
        }
        fs::write(marker, package).unwrap();
        Some(python)
    })
}
