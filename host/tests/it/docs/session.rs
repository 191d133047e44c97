//! One shell for all blocks of a page, in a directory of its own: variables, files and background jobs go on from block
//! to block, as they do for a reader.
//!
//! An own runner, because those for pages (`trycmd`, `byexample`) run single commands: no pipes, variables or jobs.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::crate_dir;

/// Bound of one step: only a hang meets it. No speed is asserted.
const STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Bound of the wait for what a job in the background prints: a build may come first.
const PRINT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

const POLL: Duration = Duration::from_millis(20);

/// Ports that the pages name. Each session takes free ones in their place.
const PORTS: [&str; 3] = ["8080", "8081", "8000"];

/// Definitions in front of the first block. Pages map a million lines; 20,000 show the same and take seconds.
const PREAMBLE: &str = "seq() { command seq $(($1 > 20000 ? 20000 : $1)); }\n";

pub(super) struct Session {
    shell: Child,
    /// Scripts of the steps, one a line.
    steps: ChildStdin,
    /// Directory that the reader stands in.
    dir: PathBuf,
    /// Scripts and what they print.
    logs: PathBuf,
    ports: Vec<(String, String)>,
    step: usize,
}

/// A step that has begun.
pub(super) struct Step {
    output: PathBuf,
    status: PathBuf,
}

impl Session {
    /// Starts a shell in `room`, which is emptied first. Apps share `data` and `target` with those of other sessions,
    /// so that the SDK is compiled once.
    pub(super) fn start(room: &Path, data: &Path, target: &Path) -> Self {
        let _ = fs::remove_dir_all(room);
        let [dir, logs, home] = ["dir", "logs", "home"].map(|name| room.join(name));
        for dir in [&dir, &logs, &home] {
            fs::create_dir_all(dir).unwrap();
        }
        symlink(crate_dir("../examples"), dir.join("examples")).unwrap();
        // All are held until all are found, so that none is found twice.
        let listeners = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let free = listeners.iter().map(|listener| listener.local_addr().unwrap().port().to_string());
        let ports: Vec<(String, String)> = PORTS.iter().map(|port| (*port).to_owned()).zip(free).collect();
        drop(listeners);

        let mut bash = Command::new("bash");
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("CARGO") || name.starts_with("RUSTFLAGS") || name.starts_with("BIREME") {
                bash.env_remove(&key);
            }
        }
        let homes = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];
        let user = std::env::var("HOME").unwrap_or_default();
        for (variable, name) in homes {
            bash.env(variable, std::env::var(variable).unwrap_or_else(|_| format!("{user}/{name}")));
        }
        let bin = Path::new(env!("CARGO_BIN_EXE_bireme")).parent().unwrap();
        bash.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()));
        bash.env("HOME", &home).env("BIREME_DATA", data).env("BIREME_GUEST_TARGET_DIR", target);
        bash.env("BIREME_LISTEN", format!("127.0.0.1:{}", ports[0].1));
        bash.env("BIREME_HOST", format!("http://127.0.0.1:{}", ports[0].1));
        let log = File::create(logs.join("shell")).unwrap();
        bash.current_dir(&dir).stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let mut shell = bash.spawn().unwrap();
        let mut steps = shell.stdin.take().unwrap();
        steps.write_all(PREAMBLE.as_bytes()).unwrap();
        Self { shell, steps, dir, logs, ports, step: 0 }
    }

    /// Replaces a file of the reader's.
    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Begins a step: lines for the shell, which reads no input.
    pub(super) fn begin(&mut self, script: &str) -> Step {
        self.step += 1;
        let [path, output, status] =
            ["sh", "out", "status"].map(|kind| self.logs.join(format!("{}.{kind}", self.step)));
        let mut script = script.to_owned();
        for (named, free) in &self.ports {
            script = script.replace(&format!(":{named}"), &format!(":{free}"));
            script = script.replace(&format!(" {named} "), &format!(" {free} "));
        }
        fs::write(&path, script).unwrap();
        let line = format!(
            ". '{}' > '{}' 2>&1 < /dev/null; echo $? > '{}'\n",
            path.display(),
            output.display(),
            status.display()
        );
        self.steps.write_all(line.as_bytes()).unwrap();
        Step { output, status }
    }

    /// Waits for the end of a step and returns its status and output.
    pub(super) fn end(&mut self, step: &Step) -> (i32, String) {
        let end = Instant::now() + STEP_TIMEOUT;
        loop {
            let status = fs::read_to_string(&step.status).unwrap_or_default();
            // The newline comes last, so the number is whole.
            if let Some(status) = status.strip_suffix('\n') {
                return (status.parse().unwrap(), self.printed(step));
            }
            if let Some(status) = self.shell.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), self.printed(step));
            }
            assert!(Instant::now() < end, "a step hangs: {}", self.printed(step));
            sleep(POLL);
        }
    }

    /// Waits until `is_enough` of what a step has printed so far, which may go on; gives up after `PRINT_TIMEOUT`.
    pub(super) fn wait(&self, step: &Step, is_enough: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PRINT_TIMEOUT;
        loop {
            let printed = self.printed(step);
            if is_enough(&printed) || Instant::now() > end {
                return printed;
            }
            sleep(POLL);
        }
    }

    /// Returns what a step has printed so far, with the ports as the pages name them.
    fn printed(&self, step: &Step) -> String {
        let mut text = String::from_utf8_lossy(&fs::read(&step.output).unwrap_or_default()).into_owned();
        for (named, free) in &self.ports {
            text = text.replace(&format!(":{free}"), &format!(":{named}"));
        }
        text
    }
}

impl Drop for Session {
    /// Ends the shell and its jobs.
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.shell.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.shell.wait();
    }
}
