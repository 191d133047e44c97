//! `bireme test`: an app's own tests, on this machine rather than in the sandbox.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::global::Global;
use super::output;
use super::signals::StopSignals;
use crate::app::build::Package;
use crate::codes::Code;
use crate::tasks::blocking;

/// Run an app's own tests: `cargo test`, with the SDK and the shared compilations that `bireme build` uses.
///
/// Tests run natively; `bireme_sdk::testing` stands in for the host.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme test examples/hello\n  bireme test examples/hello -- greets --nocapture")]
pub(crate) struct Test {
    /// The crate's directory.
    #[arg(default_value = ".")]
    app: PathBuf,
    /// Arguments of the test program: a part of a test's name, `--nocapture`, …
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Runs a command to its end; a stop signal ends it and returns `None`.
pub(crate) async fn until_stopped(command: Command, signals: &mut StopSignals) -> io::Result<Option<ExitStatus>> {
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    tokio::select! {
        status = child.wait() => status.map(Some),
        () = signals.next() => Ok(None),
    }
}

impl Test {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let dirs = global.directories()?.builds();
        let package = blocking(move || Package::open(&self.app, &dirs)).await?;
        let mut command = package.test();
        command.arg("--").args(&self.args);
        if global.json {
            // Standard output is for the document.
            command.stdout(std::io::stderr());
        }
        let Some(status) = until_stopped(command, &mut StopSignals::listen()?).await? else {
            return Err(Exit::new(Code::Interrupted, "stopped; the tests did not end"));
        };
        if global.json {
            output::line(&json!({ "app": package.name(), "passed": status.success() }).to_string());
        }
        if status.success() {
            return Ok(());
        }
        Err(Exit::new(Code::TestsFailed, format!("the tests of `{}` failed, or did not build", package.name())))
    }
}
