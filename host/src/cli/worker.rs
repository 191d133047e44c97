//! `bireme worker`: the worker process, started by a host. Not a user command: hidden from help and completions.

use std::process::ExitCode;

use serde_json::json;

use super::exit::Exit;
use super::output;
use crate::confine::{self, Confinement, HostAccess};
use crate::devices::DeviceName;
use crate::worker;

#[derive(Debug, PartialEq, Eq)]
enum Task {
    /// Serve inference on standard input until it ends.
    Infer(DeviceName),
    /// Probe the devices and print one JSON line.
    Probe,
    /// Confine the process and print a JSON list of the mechanisms that are missing here.
    Confine,
    /// The same for a host.
    ConfineHost,
}

/// Runs the task in the words behind `worker`.
pub(crate) fn run(words: impl Iterator<Item = String>) -> ExitCode {
    crate::telemetry::init(false);
    let done = parse(words).and_then(|task| match task {
        Task::Infer(DeviceName::Cpu) => Ok(worker::run(None)?),
        Task::Infer(DeviceName::Cuda(ordinal)) => Ok(worker::run(Some(ordinal))?),
        Task::Probe => {
            output::line(&serde_json::to_string(&worker::probe::run()).expect("string keys only"));
            Ok(())
        }
        Task::Confine => {
            output::line(&json!(Confinement::Cpu.apply(&[])).to_string());
            Ok(())
        }
        Task::ConfineHost => {
            output::line(&json!(confine::host(&HostAccess::default())).to_string());
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(false),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Task, Exit> {
    let task = match words.next().as_deref() {
        None => Task::Infer(DeviceName::Cpu),
        Some("--probe") => Task::Probe,
        Some("--confine") => Task::Confine,
        Some("--confine-host") => Task::ConfineHost,
        Some("--device") => {
            let name = words.next().ok_or_else(|| Exit::usage("`--device` needs a value"))?;
            Task::Infer(name.parse().map_err(|error| Exit::usage(format!("{error}")))?)
        }
        Some(word) => return Err(Exit::usage(format!("a worker knows no `{word}`"))),
    };
    match words.next() {
        None => Ok(task),
        Some(word) => Err(Exit::usage(format!("a worker takes no `{word}` there"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str]) -> Result<Task, String> {
        parse(words.iter().map(ToString::to_string)).map_err(|exit| exit.message)
    }

    #[test]
    fn a_worker_is_told_its_device_or_to_look() {
        assert_eq!(check(&[]), Ok(Task::Infer(DeviceName::Cpu)));
        assert_eq!(check(&["--device", "cpu"]), Ok(Task::Infer(DeviceName::Cpu)));
        assert_eq!(check(&["--device", "cuda:3"]), Ok(Task::Infer(DeviceName::Cuda(3))));
        assert_eq!(check(&["--probe"]), Ok(Task::Probe));
        assert_eq!(check(&["--confine"]), Ok(Task::Confine));
        assert_eq!(check(&["--confine-host"]), Ok(Task::ConfineHost));
    }

    #[test]
    fn anything_else_is_refused() {
        for words in [&["--device"][..], &["--device", "auto"], &["--probe", "x"], &["--device", "cpu", "x"], &["x"]] {
            assert!(check(words).is_err(), "{words:?}");
        }
    }
}
