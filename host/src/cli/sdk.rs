//! `bireme sdk`: cargo's configuration for an app, so that plain cargo and editors find the SDK.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::global::Global;
use super::output;
use crate::app::build::BuildError;
use crate::app::sdk::{CONFIG_HEAD, Sdk};

/// Let plain cargo and editors find the SDK of an app: writes .cargo/config.toml in its directory.
///
/// Needed once for an app that came from another machine. `bireme build`, `run`, `test`, `dev`, `serve` and `deploy`
/// need no such file. It has paths of this machine: keep it out of version control.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme sdk examples/hello\n  cargo --config \"$(bireme sdk --print)\" test")]
pub(crate) struct SdkCommand {
    /// The crate's directory.
    #[arg(default_value = ".")]
    app: PathBuf,
    /// Print the path of the configuration and write nothing.
    #[arg(long)]
    print: bool,
}

impl SdkCommand {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let sdk = Sdk::embedded().unpack(&global.directories()?.sdk())?;
        if self.print {
            let path = sdk.cargo_config.display().to_string();
            output::line(&if global.json { json!({ "cargo_config": path }).to_string() } else { path });
            return Ok(());
        }
        if !self.app.join("Cargo.toml").is_file() {
            return Err(BuildError::NoCrate { dir: self.app }.into());
        }
        let written = self.app.join(".cargo").join("config.toml");
        check_own(&written)?;
        fs::create_dir_all(self.app.join(".cargo"))?;
        fs::copy(&sdk.cargo_config, &written)?;
        if global.json {
            output::line(&json!({ "written": written, "sdk": sdk.folder }).to_string());
        } else {
            output::line(&format!("wrote {}; cargo finds the SDK in {}", written.display(), sdk.folder.display()));
        }
        Ok(())
    }
}

/// Refuses a file that holds settings of the app's author.
fn check_own(config: &Path) -> Result<(), Exit> {
    match fs::read_to_string(config) {
        Ok(text) if !text.starts_with(CONFIG_HEAD) => {
            let exit = Exit::usage(format!("`{}` has settings that bireme did not write", config.display()));
            Err(exit.hint("give cargo the configuration instead: cargo --config \"$(bireme sdk --print)\" test"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_author_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        assert!(check_own(&config).is_ok());
        fs::write(&config, format!("{CONFIG_HEAD}\n[registries]\n")).unwrap();
        assert!(check_own(&config).is_ok());
        fs::write(&config, "[build]\njobs = 1\n").unwrap();
        assert!(check_own(&config).is_err());
    }
}
