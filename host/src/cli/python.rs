//! `bireme python`: the base component of Python apps.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::Exit;
use super::global::Global;
use super::output;
use crate::python::Base;
use crate::tasks::blocking;

/// Install Python for apps: an interpreter with the SDK, as a component.
///
/// The wheel of bireme brings it; a binary from a package or from cargo gets it by `install`.
#[derive(Args)]
pub(crate) struct Python {
    #[command(subcommand)]
    command: PythonCommand,
}

#[derive(Subcommand)]
enum PythonCommand {
    /// Copy the base component out of a wheel, or from a file, into the data directory.
    #[command(after_help = "Example:\n  bireme python install bireme-0.1.0-py3-none-manylinux_2_28_x86_64.whl")]
    Install {
        /// A wheel of bireme, or a base component that `python/base/build.sh` made.
        file: PathBuf,
    },
    /// Show which base component is used.
    Show,
}

impl Python {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let data = global.directories()?.data;
        let (base, verb) = match self.command {
            PythonCommand::Install { file } => (blocking(move || Base::install(&file, &data)).await?, "installed"),
            PythonCommand::Show => (blocking(move || Base::find(&data)).await?, "found"),
        };
        let (path, bytes) = (base.path.display().to_string(), base.component.bytes.len());
        let digest = hex::encode(base.component.digest);
        if global.json {
            output::line(&json!({ "path": path, "bytes": bytes, "sha256": digest }).to_string());
        } else {
            output::line(&format!("{verb} {path} ({}, sha256 {})", output::bytes(bytes as u64), &digest[..12]));
        }
        Ok(())
    }
}
