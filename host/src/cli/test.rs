//! `bireme test`: an app's own tests, natively or in the sandbox, and its cases.

mod cases;
mod sandboxed;

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use clap::Args;
use serde_json::json;

use self::cases::CaseCounts;
use super::app_settings::AppSettings;
use super::device::OnDevice;
use super::edit_loop;
use super::exit::Exit;
use super::global::Global;
use super::log::StderrLog;
use super::output;
use super::signals::StopSignals;
use crate::app::build::{Build, Package};
use crate::codes::Code;
use crate::logs::Level;
use crate::server::Host;
use crate::tasks::blocking;

/// Run an app's own tests, then its cases: kept calls in `APP/cases/*.json`.
///
/// Tests run natively, by `cargo test` with the SDK and the shared compilations that `bireme build` uses;
/// `bireme_sdk::testing` stands in for the host. With --wasm the same tests are compiled to WebAssembly, and each runs
/// in a sandbox of its own: without files and network, within 60 s and 128 MiB. Cases run in the sandbox.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme test examples/hello\n  bireme test examples/hello -- greets --nocapture\n  bireme test --wasm examples/hello"
)]
pub(crate) struct Test {
    /// Run the tests in the sandbox. Tests that should panic are passed over: a panic cannot be caught there.
    #[arg(long)]
    wasm: bool,
    #[command(flatten)]
    settings: AppSettings,
    #[command(flatten)]
    on: OnDevice,
    /// The crate's directory.
    #[arg(default_value = ".")]
    app: PathBuf,
    /// Arguments of the test program: a part of a test's name, `--nocapture`, … A part of a name selects cases as well.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Results of an app's tests.
#[derive(Default)]
struct Report {
    is_passed: bool,
    /// Numbers of tests. None of native ones, which `cargo test` prints.
    tests: Option<sandboxed::Counts>,
    /// None if the app has no cases, or its tests failed.
    cases: Option<CaseCounts>,
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
        let app = self.app.clone();
        let package = blocking(move || Package::open(&app, &dirs)).await?;
        let files = cases::files(&self.app, &self.args)?;
        let mut signals = StopSignals::listen()?;
        let report = tokio::select! {
            report = self.test(&package, &files, global) => report?,
            () = signals.next() => return Err(Exit::new(Code::Interrupted, "stopped; the tests did not end")),
        };
        if global.json {
            let mut document = json!({ "app": package.name(), "passed": report.is_passed });
            if let Some(tests) = report.tests {
                document["tests"] = json!(tests);
            }
            if let Some(cases) = report.cases {
                document["cases"] = json!(cases);
            }
            output::line(&document.to_string());
        }
        let failed = report.cases.map_or(0, |cases| cases.failed);
        match report.is_passed {
            true => Ok(()),
            false if failed > 0 => {
                let message = format!("{} of `{}` failed", output::counted(failed, "case"), package.name());
                Err(Exit::new(Code::TestsFailed, message))
            }
            false => {
                let message = format!("the tests of `{}` failed, or did not build", package.name());
                Err(Exit::new(Code::TestsFailed, message))
            }
        }
    }

    async fn test(&self, package: &Package, files: &[PathBuf], global: &Global) -> Result<Report, Exit> {
        // In JSON, standard output is for the document.
        let print: fn(&str) = if global.json { output::note } else { output::line };
        let mut config = self.settings.config(global)?;
        config.inference.device = self.on.device;
        config.is_for_edits = true;
        let mut host = None;
        if self.wasm || !files.is_empty() {
            host = Some(Host::build(config, StderrLog::new(Level::Info))?);
        }
        let mut report = Report::default();
        match &host {
            Some(host) if self.wasm => {
                let counts = self.in_sandbox(package, host, print).await?;
                report.is_passed = counts.failed == 0;
                report.tests = Some(counts);
            }
            _ => report.is_passed = self.natively(package, global).await?,
        }
        match &host {
            Some(host) if !files.is_empty() && report.is_passed => {
                let counts = cases::replay(&self.app, files, host, print).await?;
                report.is_passed = counts.failed == 0;
                report.cases = Some(counts);
                host.inference.shut_down().await;
            }
            _ if !files.is_empty() => output::note("the cases are not replayed, because the tests failed"),
            _ => {}
        }
        Ok(report)
    }

    async fn natively(&self, package: &Package, global: &Global) -> Result<bool, Exit> {
        let mut command = package.test();
        command.arg("--").args(&self.args);
        if global.json {
            command.stdout(std::io::stderr());
        }
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        Ok(child.wait().await?.success())
    }

    async fn in_sandbox(&self, package: &Package, host: &Host, print: fn(&str)) -> Result<sandboxed::Counts, Exit> {
        let package = package.clone();
        let building = blocking(move || Build::start_tests(&package)).await?;
        let cancel = edit_loop::CancelOnDrop(building.canceller());
        let programs = blocking(move || building.finish_tests()).await?;
        drop(cancel);
        sandboxed::run(&programs, &self.args, host, print).await
    }
}
