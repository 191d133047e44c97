//! `bireme dev` of an app that cargo does not build: swapped in when one of its files is written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::place;
use super::repeat_call::RepeatCall;
use super::report::{print_functions, report_failure};
use super::source::Source;
use crate::call::micros;
use crate::cli::edit_loop::{Key, read_keys};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::signals::StopSignals;
use crate::config::Config;
use crate::limits::DRAIN_DEFAULT;
use crate::sandbox::Program;
use crate::server::ListenSettings;

/// Help line.
const HELP: &str = "r loads the app again, c calls the last input again (or: c FUNCTION INPUT), q quits";
/// Serves the app until Ctrl-C or q. The last good version answers while a new one cannot be loaded.
pub(super) async fn serve(
    mut source: Source,
    config: Config,
    listen: Option<SocketAddr>,
    is_json: bool,
) -> Result<(), Exit> {
    let mut repeat = RepeatCall::default();
    let settings = || ListenSettings { last_call: Some(repeat.last.clone()), ..ListenSettings::default() };
    let open = place::open(config, settings).await?;
    let (mut keys, mut signals) = (read_keys(), StopSignals::listen()?);
    let running = open.start(place::bind(listen).await?).await?;
    if is_json {
        output::line(&json!({ "listening": running.address.to_string() }).to_string());
    } else {
        output::line(&format!("listening on http://{}", running.address));
        output::note(HELP);
    }
    let mut live: Option<Arc<Program>> = None;
    let mut is_changed = true;
    loop {
        if std::mem::take(&mut is_changed) {
            source.settle().await;
            let began = Instant::now();
            match source.load(&running.host).await {
                Ok(program) => {
                    announce(&program, live.as_deref(), began.elapsed(), running.address, is_json);
                    if let Some(old) = live.replace(program.clone()).filter(|old| old.name() != program.name()) {
                        running.host.dispatcher.retire(old.name().as_str());
                    }
                }
                Err(exit) => report_failure(&exit, live.as_deref(), is_json),
            }
        }
        tokio::select! {
            () = source.changed() => is_changed = true,
            () = signals.next() => break,
            key = keys.next() => match key {
                Key::Quit => break,
                Key::Rebuild => is_changed = true,
                Key::Call(typed) => match &live {
                    Some(program) => {
                        let called = repeat.call(&running.host.dispatcher, program, &typed);
                        called.unwrap_or_else(|exit| exit.print());
                    }
                    None => output::note("nothing is loaded yet"),
                },
                _ => output::note(HELP),
            },
        }
    }
    drop(repeat);
    running.shut_down(DRAIN_DEFAULT).await;
    Ok(())
}

fn announce(program: &Program, live: Option<&Program>, took: Duration, address: SocketAddr, is_json: bool) {
    let (version, took) = (program.version(), micros(took));
    if live.is_some_and(|live| live.version() == version) {
        return;
    }
    if is_json {
        output::line(&json!({ "live": version, "swap_us": took }).to_string());
    }
    print_functions(program, &format!("http://{address}"), live.is_none());
    output::note(&format!("version {version} is live: loaded in {}", output::micros(took)));
}
