//! The other end of an engine's process.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::engine;

/// An engine's process; it ends when this is dropped.
pub struct Process {
    pub engine: String,
    /// Name of the engine, with its version.
    pub name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Time of a round.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    pub wall_s: f64,
    pub cpu_s: f64,
}

/// Threads that spin for more work after a round have gone to sleep by then, so they take nothing from the next engine.
const REST: Duration = Duration::from_millis(20);

impl Process {
    /// Starts an engine on `threads` threads of the CPUs in a list such as `0-3`; returns once it has its model.
    pub fn start(engine: &str, work: &Path, model: &Path, threads: usize, cpus: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new("taskset");
        command.args(["-c", cpus]);
        if [engine::OURS, engine::TRACT].contains(&engine) {
            command.arg(std::env::current_exe()?).arg("engine");
        } else {
            command.arg(work.join("venv/bin/python")).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/rival.py"));
        }
        command.arg(engine).args([work, model]).arg(threads.to_string());
        // What the libraries of Python read.
        command.envs([("HF_HUB_OFFLINE", "1"), ("OMP_NUM_THREADS", &threads.to_string())]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start `taskset` of util-linux: {error}"))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut process = Self { engine: engine.to_owned(), name: String::new(), child, requests, answers };
        let line = process.answer()?;
        let name = line.strip_prefix("ready ").ok_or_else(|| format!("`{engine}` said `{line}`, expected `ready`"))?;
        process.name = name.to_owned();
        Ok(process)
    }

    /// The vectors of a workload's first batch.
    pub fn check(&mut self, workload: &str) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let answer = self.ask(&format!("check {workload}"))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Embeds a round of a workload.
    pub fn time(&mut self, workload: &str, round: usize) -> Result<Took, Box<dyn Error>> {
        let answer = self.ask(&format!("time {workload} {round}"))?;
        std::thread::sleep(REST);
        let mut seconds = answer.split_whitespace().map(|ns| ns.parse::<f64>().map(|ns| ns / 1e9));
        match (seconds.next(), seconds.next()) {
            (Some(wall_s), Some(cpu_s)) => Ok(Took { wall_s: wall_s?, cpu_s: cpu_s? }),
            _ => Err(format!("`{}` answered `{answer}`", self.engine).into()),
        }
    }

    /// The most memory that the process has had so far, loading included.
    pub fn peak_mib(&self) -> Result<f64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("the kernel keeps no VmHWM")?;
        let kib = peak.split_whitespace().next().ok_or("VmHWM is empty")?.parse::<f64>()?;
        Ok(kib / 1024.0)
    }

    fn ask(&mut self, request: &str) -> Result<String, Box<dyn Error>> {
        let requests = self.requests.as_mut().expect("it is open until this is dropped");
        writeln!(requests, "{request}").map_err(|error| format!("`{}` is gone: {error}", self.engine))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("`{}` ended: {}; see what it wrote above", self.engine, self.child.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is its sign to end.
        self.requests = None;
        let _ = self.child.wait();
    }
}
