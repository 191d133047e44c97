//! `bireme map`: one function over many inputs, JSON Lines in and out, in bounded memory.

use std::collections::VecDeque;
use std::io::Write;

use clap::Args;
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};

use super::app_settings::AppSettings;
use super::device::OnDevice;
use super::exit::Exit;
use super::global::Global;
use super::log::StderrLog;
use super::map_failure::failure_line;
use super::map_inputs::{self, Inputs, LineFormat};
use super::progress::{InputCounts, MapBar, REFRESH};
use super::remote::{Address, HostMap};
use super::{function_lookup, output, target};
use crate::call::{Failure, Payload, Principal, Priority};
use crate::codes::Code;
use crate::config::ConfigError;
use crate::dispatch::{MapProgress, find_function};
use crate::logs::Level;
use crate::sandbox::{MapOutcome, MapRun, Order};
use crate::server::Host;

/// Outcomes taken at a time.
const TAKE_MAX: usize = 1_024;

/// Call one function for every line of the inputs, many at a time: JSON Lines in, JSON Lines out.
///
/// In input order, each line of output is the result for the same line of input. With --unordered or --json, lines are
/// {"index": N, "output": …} or {"index": N, "error": {…}}. Blank lines are skipped and not counted.
///
/// With --host the map is durable: inputs and results are on the host's disk, Ctrl-C leaves it running, --resume
/// attaches again.
///
/// A function that takes bytes gets each line as raw bytes, or with --files the contents of the file at that path. A
/// result of bytes is printed as {"content_type": …, "base64": …}.
#[derive(Args)]
#[command(after_help = "Example:\n  printf '\"Ada\"\\n\"Grace\"\\n' | bireme map examples/hello::greet --inputs -")]
pub(crate) struct MapCommand {
    /// The function, as APP::FUNCTION: APP is a crate's directory or a `.wasm` file, or on a host the name of a
    /// deployed app.
    #[arg(required_unless_present_any = ["resume", "retry_failed"])]
    target: Option<String>,
    /// File of JSON Lines, or `-` for standard input.
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    inputs: String,
    /// Read each line as the path of a file that holds the input.
    #[arg(long)]
    files: bool,
    /// Print results in the order of completion. The first line is out sooner, and no memory holds results until their
    /// turn.
    #[arg(long)]
    unordered: bool,
    /// Continue after a failed input: its line of output is {"error": {"index": N, …}}, and the exit code is 1.
    #[arg(long)]
    keep_going: bool,
    /// Run the map on this host, which stores inputs and results on disk. It survives the end of this command and of
    /// the host.
    #[arg(long, value_name = "URL", help_heading = "On a host")]
    host: Option<String>,
    /// Send the inputs, print the map's id and exit. Uses the host of this data directory unless --host or
    /// BIREME_HOST names one.
    #[arg(long, help_heading = "On a host")]
    detach: bool,
    /// Resume a map: send the inputs that it does not have yet, print all results. A unique prefix of the id, of at
    /// least 8 digits, is enough.
    #[arg(long, value_name = "ID", conflicts_with = "target", help_heading = "On a host")]
    resume: Option<String>,
    /// Run the failed and cancelled inputs of a map again, and print all results. A unique prefix of the id, of at
    /// least 8 digits, is enough.
    #[arg(long, value_name = "ID", conflicts_with_all = ["target", "resume"], help_heading = "On a host")]
    retry_failed: Option<String>,
    /// Cancel the map on Ctrl-C. Without this option the map continues.
    #[arg(long, help_heading = "On a host")]
    cancel_on_interrupt: bool,
    /// Priority among the app's calls: high, normal or low.
    #[arg(long, value_name = "PRIORITY", value_parser = ["high", "normal", "low"], help_heading = "On a host")]
    priority: Option<String>,
    #[command(flatten)]
    settings: AppSettings,
    #[command(flatten)]
    on: OnDevice,
    /// Show neither progress nor the functions' logs.
    #[arg(long, short)]
    quiet: bool,
}

impl MapCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        if self.host.is_some() || self.detach || self.resume.is_some() || self.retry_failed.is_some() {
            return self.on_host(global).await;
        }
        let target = self.target.as_deref().unwrap_or_default();
        let (app, name) = target::split(target)?;
        let log = StderrLog::new(if self.quiet { Level::Error } else { Level::Info });
        let mut config = self.settings.config(global)?;
        config.inference.device = self.on.device;
        let host = Host::build(config, log.clone())?;
        host.inference.check_device().await?;
        let (file, (app, grants)) = (app, target::resolve(app, &host).await?);
        let function = function_lookup::find(&app.metadata, name, None)?;
        let lines = LineFormat { are_paths: self.files, are_bytes: function.takes_bytes() };
        let chunks = map_inputs::open(&self.inputs, lines)?;

        let bar = MapBar::new(self.quiet);
        bar.count_inputs(&self.inputs);
        log.above(bar.bar());
        let grants = host.config.grants.with(&grants).map_err(ConfigError::from)?;
        let program = host.load(&app, &grants).await.map_err(|error| Exit::from(error).about(file))?;
        let function = find_function(&program, name)?;
        let order = if self.unordered { Order::Completion } else { Order::Input };
        let map = host.dispatcher.map(function, order, Priority::Normal, Principal::Operator);

        let envelope = self.unordered || global.json;
        let mut writer = Writer { bar: bar.clone(), envelope, keep_going: self.keep_going, done: 0, failed: 0 };
        // Before the first result is printed, after which a reader may interrupt.
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Beside the outcomes: in input order, one that is slow holds back those that are done.
        let progress = map.progress();
        let watch = async {
            loop {
                let MapProgress { done, failed, retried } = progress();
                bar.set(InputCounts { done, failed, retried });
                tokio::time::sleep(REFRESH).await;
            }
        };
        let ended = tokio::select! {
            ended = drive(map, chunks, &mut writer) => ended,
            _ = interrupt.recv() => Err(EarlyEnd::Interrupted),
            never = watch => never,
        };
        bar.finish();
        host.inference.shut_down().await;

        let summary = format!("{} done, {} failed", output::count(writer.done), output::count(writer.failed));
        match ended {
            Ok(()) if writer.failed == 0 => {
                if !self.quiet {
                    output::note(&summary);
                }
                Ok(())
            }
            Ok(()) => Err(after_records(Exit::new(Code::MapFailed, summary))),
            // The reader of standard output has closed it.
            Err(EarlyEnd::ReaderGone) => Ok(()),
            Err(EarlyEnd::Io(error)) => Err(error.into()),
            Err(EarlyEnd::Interrupted) => {
                Err(after_records(Exit::new(Code::Interrupted, format!("interrupted; {summary}"))))
            }
            Err(EarlyEnd::Failed { index, failure }) => {
                let mut exit = Exit::from(failure);
                exit.message = format!("input {index}: {}", exit.message);
                Err(after_records(exit.hint("--keep-going goes on after a failed input")))
            }
        }
    }
}

impl MapCommand {
    async fn on_host(self, global: &Global) -> Result<(), Exit> {
        if self.settings != AppSettings::default() {
            return Err(Exit::usage("grants, secrets and configuration are given to an app or its host, not to a map"));
        }
        let map = HostMap {
            address: Address::of(self.host),
            target: self.target,
            resume: self.resume,
            retry_failed: self.retry_failed.clone(),
            detaches: self.detach,
            cancels_on_interrupt: self.cancel_on_interrupt,
            priority: self.priority,
            is_unordered: self.unordered,
            keeps_going: self.keep_going,
            is_quiet: self.quiet,
        };
        let client = map.client(global)?;
        let open = |are_bytes| map_inputs::open(&self.inputs, LineFormat { are_paths: self.files, are_bytes });
        let (document, chunks) = match map.find(&client).await? {
            // A closed map has all its inputs.
            Some(document) if document.closed => (document, None),
            Some(document) => {
                let are_bytes = HostMap::takes_bytes(&client, &document).await?;
                (document, Some(open(are_bytes)?))
            }
            None => {
                let function = map.function(&client).await?;
                let mut chunks = open(function.takes_bytes())?;
                chunks.begin().await?;
                (map.create(&client).await?, Some(chunks))
            }
        };
        let bar = MapBar::new(self.quiet);
        if chunks.is_some() {
            bar.count_inputs(&self.inputs);
        }
        map.drive(global, client, document, chunks, bar).await
    }
}

fn after_records(exit: Exit) -> Exit {
    Exit { is_after_records: true, ..exit }
}

/// Early end of a map.
enum EarlyEnd {
    Interrupted,
    ReaderGone,
    Io(std::io::Error),
    Failed { index: u64, failure: Failure },
}

impl From<std::io::Error> for EarlyEnd {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { EarlyEnd::ReaderGone } else { EarlyEnd::Io(error) }
    }
}

/// Pushes inputs and prints outcomes until both have ended.
async fn drive(mut map: impl MapRun, mut chunks: Inputs, writer: &mut Writer) -> Result<(), EarlyEnd> {
    let mut pending: VecDeque<Payload> = VecDeque::new();
    let mut pushed: u64 = 0;
    let mut inputs_end = false;
    loop {
        if !pending.is_empty() {
            pushed += map.push(&mut pending).map_err(|failure| EarlyEnd::Failed { index: pushed, failure })? as u64;
        }
        if inputs_end && pending.is_empty() {
            map.finish();
        }
        let in_flight = pushed - writer.done - writer.failed;
        let outcomes = if pending.is_empty() && !inputs_end {
            tokio::select! {
                biased;
                outcomes = map.next(TAKE_MAX), if in_flight > 0 => outcomes,
                chunk = chunks.recv() => {
                    match chunk {
                        Some(Ok(chunk)) => pending.extend(chunk),
                        Some(Err(error)) => return Err(EarlyEnd::Io(error)),
                        None => inputs_end = true,
                    }
                    continue;
                }
            }
        } else if in_flight > 0 {
            map.next(TAKE_MAX).await
        } else if pending.is_empty() {
            return Ok(());
        } else {
            continue;
        };
        writer.write(outcomes)?;
    }
}

/// Printer of outcomes.
struct Writer {
    bar: MapBar,
    envelope: bool,
    keep_going: bool,
    done: u64,
    failed: u64,
}

impl Writer {
    fn write(&mut self, outcomes: Vec<MapOutcome>) -> Result<(), EarlyEnd> {
        let mut lines = Vec::new();
        let mut stop = None;
        for outcome in outcomes {
            let index = outcome.index;
            // A result that is not JSON would corrupt its line.
            match outcome.result.as_ref().map_err(Clone::clone).and_then(output::json) {
                Ok(result) => {
                    self.done += 1;
                    self.line(&mut lines, index, &result)?;
                }
                Err(failure) => {
                    self.failed += 1;
                    if !self.keep_going {
                        stop = Some(EarlyEnd::Failed { index, failure });
                        break;
                    }
                    writeln!(lines, "{}", failure_line(index, &failure, self.envelope))?;
                }
            }
        }
        self.bar.beside(|| {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&lines).and_then(|()| stdout.flush())
        })?;
        stop.map_or(Ok(()), Err)
    }

    fn line(&self, lines: &mut Vec<u8>, index: u64, result: &RawValue) -> Result<(), EarlyEnd> {
        if self.envelope {
            write!(lines, "{{\"index\":{index},\"output\":")?;
        }
        // A line end between JSON tokens is white space; inside tokens JSON has none.
        lines.extend(result.get().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        lines.extend_from_slice(if self.envelope { b"}\n" } else { b"\n" });
        Ok(())
    }
}
