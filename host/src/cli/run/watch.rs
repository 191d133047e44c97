//! `bireme run --watch`: the call again at each save, with the builds of the edit loop.

use std::path::PathBuf;

use super::printing::print;
use crate::call::Principal;
use crate::cli::app_settings::AppSettings;
use crate::cli::edit_loop::{EditLoop, Event, Key, Loaded, Turn};
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::input::{self, InputFile, TrailingFlags};
use crate::cli::log::StderrLog;
use crate::cli::{function_lookup, output, target};
use crate::devices::DeviceChoice;
use crate::dispatch::{Call, find_function};
use crate::logs::Level;
use crate::server::Host;

/// Help line, printed at the start.
const HELP: &str = "r builds and calls again, q quits";

/// Call to make, as typed.
#[derive(Clone, Copy)]
pub(super) struct WatchedCall<'a> {
    pub target: &'a str,
    pub input: &'a [String],
    pub file: &'a InputFile,
    pub settings: &'a AppSettings,
    pub device: DeviceChoice,
    pub wants_receipt: bool,
}

/// Builds and calls until a key or a signal ends it. Failures are shown and waited on.
pub(super) async fn run(command: WatchedCall<'_>, global: &Global) -> Result<(), Exit> {
    let (app, name) = target::split(command.target)?;
    let is_stdin = |word: &str| ["-", "@-", "--input=-"].contains(&word);
    if command.file.path.as_deref().is_some_and(is_stdin) || command.input.iter().any(|word| is_stdin(word)) {
        return Err(Exit::usage("with --watch, standard input is for keys; give the input as a file or as arguments"));
    }
    let mut config = command.settings.config(global)?;
    config.inference.device = command.device;
    let mut edit = EditLoop::start(PathBuf::from(app), &mut config)?;
    config.is_for_edits = true;
    let host = Host::build(config, StderrLog::new(if global.verbose { Level::Trace } else { Level::Info }))?;
    host.inference.check_device().await?;
    if edit.dirs().is_first_build() {
        output::note(target::FIRST_BUILD);
    }
    output::note(HELP);

    let mut event = Event::Changed;
    loop {
        event = match event {
            Event::Stop | Event::Key(Key::Quit) => break,
            Event::Key(Key::Rebuild) => {
                edit.forget();
                turn(command, name, global, &host, &mut edit).await
            }
            Event::Changed => turn(command, name, global, &host, &mut edit).await,
            Event::Key(_) => {
                output::note(HELP);
                edit.next().await
            }
        };
    }
    host.inference.shut_down().await;
    Ok(())
}

/// Builds the app and makes the call. Returns the next event, which cancels a call under way.
async fn turn(command: WatchedCall<'_>, name: &str, global: &Global, host: &Host, edit: &mut EditLoop) -> Event {
    let loaded = match edit.turn(host).await {
        Turn::Loaded(loaded) => loaded,
        Turn::Cancelled(event) => return event,
        Turn::Failed(exit) => {
            report(exit, global.json);
            return edit.next().await;
        }
    };
    output::note(&loaded.to_line("is built"));
    tokio::select! {
        called = call(command, name, global, host, &loaded) => {
            called.unwrap_or_else(|exit| report(exit, global.json));
        }
        event = edit.next() => {
            output::note("the call was cancelled");
            return event;
        }
    }
    edit.next().await
}

async fn call(command: WatchedCall<'_>, name: &str, global: &Global, host: &Host, loaded: &Loaded) -> Result<(), Exit> {
    let program = &loaded.program;
    let function = function_lookup::find(program.metadata(), name, None)?;
    let (input, trailing) = input::read(function, command.file, command.input, &[])?;
    check(&trailing)?;
    let call = Call::new(find_function(program, name)?, input, Principal::Operator);
    let finished = host.dispatcher.call(call).await;
    print(&finished, function, command.wants_receipt || trailing.receipt, global.json || trailing.json)
}

/// Refuses options behind the target that the host would have needed at its start.
fn check(trailing: &TrailingFlags) -> Result<(), Exit> {
    let is_late = trailing.settings != AppSettings::default()
        || trailing.device.is_some()
        || trailing.verbose
        || trailing.value("data").is_some();
    if !is_late {
        return Ok(());
    }
    let exit = Exit::usage("with --watch, the host is made before the app is known");
    Err(exit.hint("give grants, secrets, configuration, --device, --data and -v in front of the target"))
}

/// Prints a failure; the loop goes on.
fn report(exit: Exit, is_json: bool) {
    // Its exit status is for a command that ends.
    let _ = exit.report(is_json);
    output::note("waiting for a change");
}
