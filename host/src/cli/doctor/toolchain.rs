//! Toolchain checks for building an app: Rust with the guests' target, and a C compiler that links its build scripts.

use std::path::Path;
use std::process::{Command, Stdio};

use super::check::Check;
use crate::app::build;
use crate::cli::demo::docs::Docs;
use crate::python::Base;

/// The oldest Rust that the SDK builds with.
const RUST_MIN: &str = env!("CARGO_PKG_RUST_VERSION");

/// Returns the checks for apps in Rust, and the base of those in Python if this install has one.
pub(crate) fn checks(data: &Path) -> Vec<Check> {
    let checks = rust_checks();
    let Some(base) = Base::place(data) else { return checks };
    // Somebody who writes Python needs no Rust.
    let checks = checks.into_iter().map(|check| match check.fix {
        Some(fix) => Check::warning(check.name, format!("{}; only apps in Rust need it", check.detail), fix),
        None => check,
    });
    [Check::ok("python", format!("base of apps: {}", base.display()))].into_iter().chain(checks).collect()
}

fn rust_checks() -> Vec<Check> {
    let rustc = rust("rustc");
    let has_rustc = rustc.fix.is_none();
    let mut checks = vec![rustc, rust("cargo")];
    // Without a compiler the rest would only say the same again.
    if has_rustc {
        checks.push(target());
        checks.push(docs());
    }
    checks.push(c_compiler());
    checks
}

fn rust(program: &'static str) -> Check {
    match version_of(program) {
        Ok(said) if is_at_least(&said, RUST_MIN) => Check::ok(program, said),
        Ok(said) => {
            let detail = format!("{said}; apps need {RUST_MIN} or newer");
            Check::missing(program, detail, "rustup update stable && rustup default stable")
        }
        // rustup stands in for it, without the toolchain that is asked for here.
        Err(Some(reason)) => Check::missing(program, reason, "rustup toolchain install"),
        Err(None) => Check::missing(program, "not installed", get_rustup(version_of("curl").is_ok())),
    }
}

/// Returns the command that installs rustup. A minimal Debian has neither `curl` nor certificates.
fn get_rustup(has_curl: bool) -> String {
    let curl = if has_curl { "" } else { "apt-get install curl ca-certificates && " };
    format!("{curl}curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh")
}

fn target() -> Check {
    const NAME: &str = "rust target";
    let add = format!("rustup target add {}", build::TARGET);
    match build::has_target(Path::new(".")) {
        Ok(true) => Check::ok(NAME, build::TARGET),
        Ok(false) => Check::missing(NAME, format!("{} is not installed", build::TARGET), add),
        Err(error) => Check::missing(NAME, error.to_string(), add),
    }
}

fn docs() -> Check {
    const NAME: &str = "rust docs";
    match Docs::command_to_add() {
        Ok(None) => Check::ok(NAME, "installed; only `bireme demo` reads them"),
        Ok(Some(command)) => Check::warning(NAME, "not installed; only `bireme demo` reads them", command),
        Err(error) => Check::warning(NAME, error.to_string(), "rustup component add rust-docs"),
    }
}

fn c_compiler() -> Check {
    const NAME: &str = "C compiler";
    if build::has_linker() {
        Check::ok(NAME, version_of("cc").unwrap_or_else(|_| "cc".to_owned()))
    } else {
        let get = "apt-get install build-essential (Debian, Ubuntu) or dnf install gcc (Fedora)";
        Check::missing(NAME, "`cc` does not run; Rust links with it", get)
    }
}

/// Returns the first line that a program says about itself, or about why it cannot; nothing where it is not there.
fn version_of(program: &str) -> Result<String, Option<String>> {
    let mut command = Command::new(program);
    // A check installs nothing, whatever toolchain file stands here.
    command.arg("--version").env("RUSTUP_AUTO_INSTALL", "0").stdin(Stdio::null());
    let output = command.output().map_err(|_| None)?;
    let first = |said: &[u8]| String::from_utf8_lossy(said).lines().next().unwrap_or_default().to_owned();
    if output.status.success() { Ok(first(&output.stdout)) } else { Err(Some(first(&output.stderr))) }
}

/// Compares the version in `rustc 1.95.0 (…)`. What cannot be read is taken to be new.
fn is_at_least(said: &str, least: &str) -> bool {
    let Some(version) = said.split(' ').nth(1).filter(|word| word.starts_with(|c: char| c.is_ascii_digit())) else {
        return true;
    };
    numbers(version) >= numbers(least)
}

/// The first two numbers; a patch level adds nothing to the language.
fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for (said, least, is) in [
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95", true),
            ("rustc 1.100.0-nightly (abc)", "1.95", true),
            ("cargo 1.94.1 (abc)", "1.95", false),
            ("rustc 2.0.0", "1.95.3", true),
            ("rustc unknown", "1.95", true),
        ] {
            assert_eq!(is_at_least(said, least), is, "{said}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_missing_and_says_where_to_get_it() {
        assert_eq!(version_of("bireme-no-such-program"), Err(None));
        let check = rust("bireme-no-such-program");
        assert!(check.fix.unwrap().contains("rustup"));
    }

    #[test]
    fn curl_is_installed_first_where_it_is_missing() {
        assert!(get_rustup(true).starts_with("curl "));
        assert!(get_rustup(false).starts_with("apt-get install curl ca-certificates && curl "));
    }
}
