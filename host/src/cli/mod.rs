//! The command line: one file for each command. The only place that prints or exits.
//!
//! Results go to stdout, everything else to stderr; `--json` is for programs. Exit codes are part of the interface:
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | the function failed, or something went wrong |
//! | 2 | the command or its input is not as it should be |
//! | 4 | no such app, function or model |
//! | 5 | a deadline passed |
//! | 69 | the host, a model or its source is not available |
//! | 130 | interrupted by Ctrl-C |

mod build;
mod classify;
mod completions;
mod demo;
mod dev;
mod device;
mod doctor;
mod embed;
mod exit;
mod explain;
mod given;
mod input;
mod inspect;
mod keep;
mod log;
mod man;
mod map;
mod model;
mod models;
mod new;
mod output;
mod remote;
mod rerank;
mod run;
mod sdk;
mod serve;
mod shape;
mod sharing;
mod table;
mod target;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::exit::Exit;
use crate::config::{Config, Directories};
use crate::tasks::blocking;

/// Sandboxed functions above, native inference below, one ship.
#[derive(Parser)]
#[command(
    name = "bireme",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong command or input, 4 no such app, function or model, 5 deadline passed, 69 not available, 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Global {
    /// Keep everything (database, models, compiled code) under DIR rather than in the home directory.
    #[arg(long, global = true, value_name = "DIR", env = "BIREME_DATA")]
    data: Option<PathBuf>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    /// Say more about what the host does.
    #[arg(long, short, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Build(build::Build),
    Inspect(inspect::Inspect),
    Run(run::Run),
    Map(map::MapCommand),
    Serve(serve::Serve),
    Dev(dev::Dev),
    Deploy(remote::Deploy),
    Apps(remote::Apps),
    History(remote::History),
    Rollback(remote::Rollback),
    Stop(remote::Stop),
    Call(remote::Call),
    Spawn(remote::Spawn),
    Get(remote::Get),
    Cancel(remote::Cancel),
    Ps(remote::Ps),
    Results(remote::ResultsCommand),
    Export(remote::Export),
    Logs(remote::Logs),
    Schedule(remote::Schedule),
    Models(models::Models),
    Embed(embed::Embed),
    Rerank(rerank::Rerank),
    Classify(classify::Classify),
    Demo(demo::Demo),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Manual),
}

/// Runs what was typed.
pub fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("worker") {
        return worker::run(words);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::report_usage(&error),
    };
    crate::telemetry::init(cli.global.verbose);
    let global = cli.global;
    let result = match cli.command {
        Command::New(command) => command.run(&global),
        Command::Build(command) => with_runtime(command.run(&global)),
        Command::Inspect(command) => with_runtime(command.run(&global)),
        Command::Run(command) => with_runtime(command.run(&global)),
        Command::Map(command) => with_runtime(command.run(&global)),
        Command::Serve(command) => with_runtime(command.run(&global)),
        Command::Dev(command) => with_runtime(command.run(&global)),
        Command::Deploy(command) => with_runtime(command.run(&global)),
        Command::Apps(command) => command.run(&global),
        Command::History(command) => command.run(&global),
        Command::Rollback(command) => command.run(&global),
        Command::Stop(command) => command.run(&global),
        Command::Call(command) => command.run(&global),
        Command::Spawn(command) => command.run(&global),
        Command::Get(command) => command.run(&global),
        Command::Cancel(command) => command.run(&global),
        Command::Ps(command) => command.run(&global),
        Command::Results(command) => command.run(&global),
        Command::Export(command) => command.run(&global),
        Command::Logs(command) => command.run(&global),
        Command::Schedule(command) => command.run(&global),
        Command::Models(command) => command.run(&global),
        Command::Embed(command) => with_runtime(command.run(&global)),
        Command::Rerank(command) => with_runtime(command.run(&global)),
        Command::Classify(command) => with_runtime(command.run(&global)),
        Command::Demo(command) => with_runtime(command.run(&global)),
        // Its table says what is wrong; an error would say it twice.
        Command::Doctor(command) => {
            return command.run(&global).unwrap_or_else(|exit| exit.report(global.json));
        }
        Command::Explain(command) => command.run(&global),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(&global),
    };
    // An error is the last word, and no line is lost with the process.
    crate::telemetry::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(global.json),
    }
}

fn with_runtime(work: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    // Shells give 1,024, and a host may need a descriptor for each connection.
    crate::descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A thread that still reads standard input would otherwise keep the process until the next line.
    runtime.shutdown_background();
    result
}

impl Global {
    fn directories(&self) -> Result<Directories, Exit> {
        Ok(Directories::resolve(self.data.as_deref())?)
    }

    fn config(&self, grants: &[String]) -> Result<Config, Exit> {
        Ok(Config::new(self.directories()?, grants)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
