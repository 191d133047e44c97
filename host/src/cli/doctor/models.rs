//! Model checks: installed models, or a way to fetch them.

use std::path::Path;
use std::process::{Command, Stdio};

use super::check::Check;
use crate::cli::output;
use crate::inference::catalogue::{Catalogue, Listing};
use crate::inference::pull::Installer;

pub(crate) fn checks(models_dir: &Path) -> Vec<Check> {
    let mut checks = vec![package_tool(&Installer::usual())];
    match Catalogue::new(models_dir).list() {
        Ok(listing) => checks.extend(models(&listing)),
        Err(error) => checks.push(Check::warning("models", error.to_string(), "bireme models")),
    }
    checks
}

/// A second source of models, after the hub.
fn package_tool(installers: &[Installer]) -> Check {
    const NAME: &str = "python";
    let usable = installers.iter().find_map(|installer| {
        let (program, words) = installer.command.split_first()?;
        let mut command = Command::new(program);
        command.args(words).arg("--version").stdin(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        let said = String::from_utf8_lossy(&output.stdout);
        // pip adds the path that it was loaded from.
        Some(said.split([' ', '\n']).take(2).collect::<Vec<_>>().join(" "))
    });
    match usable {
        Some(said) => Check::ok(NAME, format!("{said}; fetches models where huggingface.co is not reached")),
        None => {
            let detail = "neither pip nor uv runs; models come from huggingface.co or a directory alone";
            Check::warning(NAME, detail, "apt-get install python3-pip (Debian, Ubuntu)")
        }
    }
}

fn models(listing: &Listing) -> Vec<Check> {
    const NAME: &str = "models";
    let mut checks = Vec::new();
    let installed: Vec<String> =
        listing.installed.iter().map(|model| format!("{} ({})", model.name, output::bytes(model.bytes))).collect();
    if !installed.is_empty() {
        checks.push(Check::ok(NAME, installed.join(", ")));
    } else if listing.broken.is_empty() {
        let pull = listing.available.first().map_or_else(
            || "bireme models add NAME DIR".to_owned(),
            |known| format!("bireme models pull {}", known.name),
        );
        checks.push(Check::warning(NAME, "none is installed; functions that declare one fail", pull));
    }
    for (name, error) in &listing.broken {
        checks.push(Check::warning(NAME, format!("`{name}` is broken: {error}"), format!("bireme models rm {name}")));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_machine_without_models_is_told_what_to_pull() {
        let dir = tempfile::tempdir().unwrap();
        let listing = Catalogue::new(dir.path()).list().unwrap();
        let checks = models(&listing);
        assert_eq!(checks[0].status, Status::Warning);
        assert!(checks[0].fix.as_ref().unwrap().starts_with("bireme models pull "));
    }

    #[test]
    fn a_broken_model_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("half")).unwrap();
        let listing = Catalogue::new(dir.path()).list().unwrap();
        let checks = models(&listing);
        assert_eq!(checks.len(), 1);
        assert_eq!(checks[0].fix.as_deref(), Some("bireme models rm half"));
    }

    #[test]
    fn without_a_package_tool_there_is_a_warning() {
        assert_eq!(package_tool(&[]).status, Status::Warning);
    }
}
