//! `bireme doctor`: checks of this machine, each with the command that fixes it. Changes nothing without
//! `--repair` or `--compact`.
//!
//! Each area is one file: `toolchain` (building apps), `models`, `devices`, `machine` (running them), `control` (a
//! running host), `journal` (what is on disk), `disk` (its space).

mod check;
mod control;
mod devices;
mod disk;
mod journal;
mod machine;
mod models;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use self::check::{Check, Status};
use super::device::OnDevice;
use super::exit::Exit;
use super::global::Global;
use super::{output, table};
use crate::api::DeviceReport;
use crate::devices::Report;

/// Check this machine: toolchain, models, devices, kernel limits. Prints the command that fixes each problem.
#[derive(Args)]
#[command(
    after_help = "Exits with 0 unless something is missing that functions need to be built or run, then with 1.\n\nExamples:\n  bireme doctor --json\n  bireme doctor --repair --export /tmp/rows\n  bireme doctor --compact"
)]
pub(crate) struct Doctor {
    #[command(flatten)]
    on: OnDevice,

    /// Write the rows in quarantine (calls and maps of which a row cannot be read) to DIR, then remove them. Stop the
    /// host first.
    #[arg(long, requires = "export")]
    repair: bool,

    /// Directory for the rows that `--repair` removes: `quarantine.jsonl`, one row per line.
    #[arg(long, value_name = "DIR", requires = "repair")]
    export: Option<PathBuf>,

    /// Give the space that deleted rows have left in the database back to the disk. Stop the host first; it takes as
    /// long as writing the database anew.
    #[arg(long, conflicts_with = "repair")]
    compact: bool,
}

impl Doctor {
    pub(crate) fn run(self, global: &Global) -> Result<ExitCode, Exit> {
        let directories = global.directories()?;
        if let Some(export) = self.export.filter(|_| self.repair) {
            journal::repair(&directories.data, &export, global.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.compact {
            disk::compact(&directories.data, global.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut checks = toolchain::checks(&directories.data);
        checks.extend(models::checks(&directories.models));
        let report = devices::report(self.on.device, &directories.models)?;
        checks.extend(devices::checks(&report));
        checks.extend(machine::checks(&directories));
        checks.extend(control::check(&directories.control_socket()));
        checks.extend(journal::check(&directories.data));
        checks.extend(disk::check(&directories.data));
        output::line(&if global.json { to_json(&checks, &report) } else { to_text(&checks) });
        Ok(ExitCode::from(u8::from(is_unfit(&checks))))
    }
}

fn is_unfit(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.status == Status::Missing)
}

fn to_json(checks: &[Check], report: &Report) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let devices = DeviceReport::from(report);
    json!({ "ok": !is_unfit(checks), "version": version, "checks": checks, "devices": devices }).to_string()
}

fn to_text(checks: &[Check]) -> String {
    let rows = table::plain(checks.iter().flat_map(Check::rows));
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let end = match (count(Status::Missing), count(Status::Warning)) {
        (0, 0) => "nothing is missing".to_owned(),
        (0, warnings) => format!("nothing is missing that functions need; warnings: {warnings}"),
        (missing, warnings) => format!("missing: {missing}, warnings: {warnings}"),
    };
    format!("{rows}\n\n{end}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::devices::{DeviceChoice, Obstacle, Probe};

    fn report() -> Report {
        let (asked, probe) = (DeviceChoice::Auto, Probe::failed(Obstacle::NoDriver));
        Report { asked, chosen: asked.resolve(&probe), probe, worker: None }
    }

    fn some() -> Vec<Check> {
        vec![
            Check::ok("rust", "rustc 1.95.0"),
            Check::warning("models", "none is installed", "bireme models pull all-minilm-l6-v2"),
        ]
    }

    #[test]
    fn what_to_do_stands_under_what_is_wrong() {
        expect![[r#"
             ok       rust    rustc 1.95.0
             warning  models  none is installed
                              fix: bireme models pull all-minilm-l6-v2

            nothing is missing that functions need; warnings: 1"#]]
        .assert_eq(&to_text(&some()));
    }

    #[test]
    fn only_what_is_needed_makes_a_machine_unfit() {
        let mut checks = some();
        assert!(!is_unfit(&checks));
        checks.push(Check::missing("rust target", "wasm32-wasip2 is not installed", "rustup target add wasm32-wasip2"));
        assert!(is_unfit(&checks));
        let said: serde_json::Value = serde_json::from_str(&to_json(&checks, &report())).unwrap();
        assert_eq!(said["ok"], false);
        assert_eq!(said["checks"][2]["status"], "missing");
        assert_eq!(said["devices"]["used"], "cpu");
        assert_eq!(said["devices"]["obstacle"]["reason"], "no-driver");
        assert!(said["checks"][0].get("fix").is_none());
    }
}
