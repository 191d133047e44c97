//! Kills the host, again and again, while a client works with its durable calls and maps, and compares what is there
//! in the end with what the client was told. `tests/survive.sh` builds and runs it.
//!
//! This binary is also the host and the host's other processes: with `serve` or the word of one of those as its first
//! argument it is `bireme`.

mod api;
mod cancels;
mod checker;
mod client;
mod dice;
mod expiry;
mod found;
mod function;
mod gate;
mod host;
mod kills;
mod log;
mod recorder;
mod report;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bireme_benches::figures;

use self::host::Launch;
use self::recorder::Recorder;

/// The app that the guest is.
pub const APP: &str = "survive";
/// Its crate, from this one. A member of the workspace that the tests' guests share, and so built once.
const GUEST: &str = "../../host/tests/guests/survive";
const KILLS: u64 = 30;
/// Inputs for each kill.
const INPUTS: u64 = 200;

const USAGE: &str = "usage: bireme-survive [--kills N] [--inputs N] [--seed S] [--cancels N] [--bireme PATH]

  --kills N      so many kills (30), by turns at a random time and at a fail point; 0 for none
  --inputs N     inputs that are accepted for each kill (200)
  --seed S       what is drawn (by the clock, and printed)
  --cancels N    so many cancels at random moments besides (0)
  --bireme PATH  the host's binary, with fail points (this one)";

pub struct Options {
    pub kills: u64,
    pub inputs: u64,
    pub seed: u64,
    pub cancels: u64,
    pub bireme: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| ["serve", "worker", "compiler", "spawner"].contains(&first.as_str())) {
        return bireme::cli::main();
    }
    let options = match read(&arguments) {
        Ok(options) => options,
        Err(why) => {
            figures::print(&format!("{why}\n{USAGE}"));
            return ExitCode::FAILURE;
        }
    };
    figures::print(&format!("seed {}", options.seed));
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            figures::print(&format!("seed {}: {error}", options.seed));
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Result<Options, Box<dyn Error>> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let (kills, inputs, cancels, seed) = (KILLS, INPUTS, 0, clock.as_secs());
    let mut options = Options { kills, inputs, seed, cancels, bireme: std::env::current_exe()? };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("`{name}` takes a value"))?;
        let number = value.parse::<u64>().map_err(|_| format!("`{name}` takes a whole number, not `{value}`"));
        match name.as_str() {
            "--kills" => options.kills = number?,
            "--inputs" => options.inputs = number?,
            "--seed" => options.seed = number?,
            "--cancels" => options.cancels = number?,
            "--bireme" => options.bireme = PathBuf::from(value),
            _ => return Err(format!("`{name}` is no option").into()),
        }
    }
    Ok(options)
}

/// Returns the number of violations.
fn run(options: &Options) -> Result<usize, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let violations = match run_in(dir.path(), options) {
        Ok(violations) => violations,
        Err(error) => {
            figures::print(&kept(dir));
            return Err(error);
        }
    };
    for violation in &violations {
        figures::print(&format!("VIOLATION (seed {}) {violation}", options.seed));
    }
    if !violations.is_empty() {
        figures::print(&kept(dir));
    }
    figures::print_machine();
    figures::print(&format!("seed {}", options.seed));
    figures::print(&format!("violations: {}", violations.len()));
    Ok(violations.len())
}

/// Keeps what it takes to find out why.
fn kept(dir: tempfile::TempDir) -> String {
    format!("the data, the log and stderr are kept in {}", dir.keep().display())
}

fn run_in(dir: &Path, options: &Options) -> Result<Vec<String>, Box<dyn Error>> {
    let guest = bireme::app::build::build(&Path::new(env!("CARGO_MANIFEST_DIR")).join(GUEST))?;
    let recorder = Recorder::start()?;
    let launch = |name: &str| Launch {
        bireme: options.bireme.clone(),
        data: dir.join(name),
        guest: guest.clone(),
        recorder: recorder.url.clone(),
        stderr: dir.join("stderr.log"),
        address: Default::default(),
        more: &[],
    };
    let mut violations = Vec::new();
    if options.kills > 0 {
        violations.extend(kills::run(options, dir, &launch, &recorder)?);
    }
    if options.cancels > 0 {
        violations.extend(cancels::run(options, launch("cancels"), &recorder)?);
    }
    let stderr = std::fs::read_to_string(dir.join("stderr.log"))?;
    for line in stderr.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")) {
        violations.push(format!("the host said: {line}"));
    }
    Ok(violations)
}
