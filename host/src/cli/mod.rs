//! The command line: one file for each command, listed here. The only module that prints or exits.
//!
//! Results go to stdout, everything else to stderr; `--json` is for programs. Shared arguments and helpers are files
//! beside the commands, so no command names this one. Exit codes are part of the interface:
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | the function failed, or something went wrong |
//! | 2 | wrong command line or input |
//! | 4 | no such app, function or model |
//! | 5 | deadline passed |
//! | 69 | the host, a model or its source is unavailable |
//! | 130 | interrupted (Ctrl-C) |

mod app_settings;
mod bounded_input;
mod build;
mod case_file;
mod classify;
mod compile_max;
mod completions;
mod demo;
mod dev;
mod device;
mod disk_args;
mod doctor;
mod edit_loop;
mod embed;
mod exit;
mod explain;
mod fairness_args;
mod function_lookup;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod global;
mod infer;
mod input;
mod inspect;
mod listen;
mod log;
mod man;
mod map;
mod map_failure;
mod map_inputs;
mod memory_args;
mod model;
mod models;
mod new;
mod output;
mod progress;
mod python;
mod receipt_text;
#[cfg(test)]
mod reference;
mod remote;
mod rerank;
mod retention;
mod run;
mod runtime;
mod schema_text;
mod sdk;
mod secrets_note;
mod serve;
mod service_manager;
mod signals;
mod table;
mod target;
mod test;
mod token;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::global::Global;

/// Run sandboxed functions and batched model inference on your own machine.
#[derive(Parser)]
#[command(
    name = "bireme",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong command or input, \
                  4 no such app, function or model, 5 deadline passed, 69 not available, 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Build(build::Build),
    Inspect(inspect::Inspect),
    Run(run::Run),
    Test(test::Test),
    Map(map::MapCommand),
    Serve(serve::Serve),
    Dev(dev::Dev),
    Deploy(remote::Deploy),
    Apps(remote::Apps),
    History(remote::History),
    Rollback(remote::Rollback),
    Stop(remote::Stop),
    Start(remote::Start),
    Call(remote::Call),
    Spawn(remote::Spawn),
    Get(remote::Get),
    Cancel(remote::Cancel),
    Ps(remote::Ps),
    Results(remote::Results),
    Export(remote::Export),
    Logs(remote::Logs),
    Schedule(remote::Schedule),
    Kv(remote::Kv),
    Models(models::Models),
    Embed(embed::Embed),
    Rerank(rerank::Rerank),
    Classify(classify::Classify),
    Infer(infer::Infer),
    Demo(demo::Demo),
    Sdk(sdk::SdkCommand),
    Python(python::Python),
    Token(token::Token),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Manual),
}

/// Runs the command line of this process and returns its exit status.
pub fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("worker") => return worker::run(words),
        // Without a log: its thread must not be there when the process forks.
        Some("compiler") => return compiler_process(),
        Some("spawner") => return spawner_process(words.next()),
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::report_usage(error),
    };
    if matches!(cli.command, Command::Serve(_)) {
        crate::telemetry::hold_thread();
    }
    crate::telemetry::init(cli.global.verbose);
    let global = cli.global;
    let result = match cli.command {
        Command::New(command) => command.run(&global),
        Command::Build(command) => runtime::block_on(command.run(&global)),
        Command::Inspect(command) => runtime::block_on(command.run(&global)),
        Command::Run(command) => runtime::block_on(command.run(&global)),
        Command::Test(command) => runtime::block_on(command.run(&global)),
        Command::Map(command) => runtime::block_on(command.run(&global)),
        // It has a runtime only once it is confined.
        Command::Serve(command) => command.run(&global),
        Command::Dev(command) => runtime::block_on(command.run(&global)),
        Command::Deploy(command) => runtime::block_on(command.run(&global)),
        Command::Apps(command) => command.run(&global),
        Command::History(command) => command.run(&global),
        Command::Rollback(command) => command.run(&global),
        Command::Stop(command) => command.run(&global),
        Command::Start(command) => command.run(&global),
        Command::Call(command) => command.run(&global),
        Command::Spawn(command) => command.run(&global),
        Command::Get(command) => command.run(&global),
        Command::Cancel(command) => command.run(&global),
        Command::Ps(command) => command.run(&global),
        Command::Results(command) => command.run(&global),
        Command::Export(command) => command.run(&global),
        Command::Logs(command) => command.run(&global),
        Command::Schedule(command) => command.run(&global),
        Command::Kv(command) => command.run(&global),
        Command::Models(command) => command.run(&global),
        Command::Embed(command) => runtime::block_on(command.run(&global)),
        Command::Rerank(command) => runtime::block_on(command.run(&global)),
        Command::Classify(command) => runtime::block_on(command.run(&global)),
        Command::Infer(command) => runtime::block_on(command.run(&global)),
        Command::Demo(command) => runtime::block_on(command.run(&global)),
        // The table lists every problem; an error on top would repeat it.
        Command::Doctor(command) => {
            return command.run(&global).unwrap_or_else(|exit| exit.report(global.json));
        }
        Command::Sdk(command) => command.run(&global),
        Command::Python(command) => runtime::block_on(command.run(&global)),
        Command::Token(command) => command.run(&global),
        Command::Explain(command) => command.run(&global),
        Command::Completions(command) => command.run(Cli::command()),
        Command::Man(command) => command.run(&global, Cli::command()),
    };
    // Queued log lines first: the error is the last line, and the end of the process loses none.
    crate::telemetry::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(global.json),
    }
}

/// Runs the process that starts a host's other processes. Not a user command: hidden from help and completions.
fn spawner_process(models_dir: Option<String>) -> ExitCode {
    crate::telemetry::hold_thread();
    crate::telemetry::init(false);
    let Some(models_dir) = models_dir else { return ExitCode::FAILURE };
    crate::spawner::run(models_dir.as_ref()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Runs the process that compiles for a host. Not a user command: hidden from help and completions.
fn compiler_process() -> ExitCode {
    crate::compiler::run().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
