//! `bireme test`: an app's own tests, on this machine rather than in the sandbox.

use std::path::PathBuf;

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
        let mut signals = StopSignals::listen()?;
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let status = tokio::select! {
            status = child.wait() => status?,
            () = signals.next() => return Err(Exit::new(Code::Interrupted, "stopped; the tests did not end")),
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
