//! `bireme map` on a host, and `bireme results`: inputs go up in order, outcomes come down, and neither is lost when the
//! connection or the host is.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::calls::{failed_line, map_line};
use super::client::{self, Client};
use super::{Address, Patience};
use crate::app::metadata::FunctionInfo;
use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::cli::map::inputs::Inputs;
use crate::cli::{Global, output};
use crate::codes::Code;
use crate::tasks::blocking;

/// Bytes of inputs after which a request leaves.
const REQUEST_BYTES: usize = 1 << 20;
/// Inputs after which it does.
const REQUEST_LEN: usize = 4_096;

/// What a map on a host is asked for.
pub struct HostMap {
    pub address: Address,
    /// APP::FUNCTION of a deployed app; not needed to go on with a map.
    pub target: Option<String>,
    pub resume: Option<String>,
    pub retry_failed: Option<String>,
    pub detaches: bool,
    pub cancels_on_interrupt: bool,
    pub priority: Option<String>,
    pub is_unordered: bool,
    pub keeps_going: bool,
    pub is_quiet: bool,
}

/// One line of a map's outcomes, as the host writes it.
#[derive(Deserialize)]
struct Line<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
}

impl HostMap {
    pub fn client(&self) -> Result<Client, Exit> {
        Client::new(&self.address)
    }

    /// Finds a map to go on with, and begins its failed inputs anew where that is asked for; `None` if a new one is
    /// wanted.
    pub async fn find(&self, client: &Client) -> Result<Option<Value>, Exit> {
        let (client, resume, retry) = (client.clone(), self.resume.clone(), self.retry_failed.clone());
        blocking(move || match (resume, retry) {
            (Some(id), _) => client.send("GET", &path(&id, "")?, &[]).map(Some),
            (None, Some(id)) => {
                let answer = client.send("POST", &path(&id, "/retry-failed")?, &[])?;
                Ok(Some(answer["map"].clone()))
            }
            (None, None) => Ok(None),
        })
        .await
    }

    /// Returns the description of the function that a new map is for.
    pub async fn function(&self, client: &Client) -> Result<FunctionInfo, Exit> {
        let (client, (app, name)) = (client.clone(), self.split_target()?);
        blocking(move || {
            let metadata = client.metadata(&app)?;
            crate::cli::run::by_name(&metadata, &name, Some(client.base())).cloned()
        })
        .await
    }

    /// Makes a new map.
    pub async fn create(&self, client: &Client) -> Result<Value, Exit> {
        let (client, (app, name)) = (client.clone(), self.split_target()?);
        let query: Vec<_> = self.priority.iter().map(|priority| ("priority", priority.clone())).collect();
        blocking(move || {
            // Empty and of a known length: a body would be the inputs.
            let path = format!("/api/v1/apps/{app}/functions/{name}/maps");
            let response = client.post(&path, &query, "application/json", b"")?;
            if response.status().is_success() { client::json(response) } else { Err(client::problem(response)) }
        })
        .await
    }

    fn split_target(&self) -> Result<(String, String), Exit> {
        let target = self.target.as_deref();
        let target =
            target.ok_or_else(|| Exit::usage("name the function, as APP::FUNCTION, or a map with --resume"))?;
        let (app, name) = crate::cli::target::split(target)?;
        Ok((app.to_owned(), name.to_owned()))
    }

    /// Whether the inputs of the map's function are bytes.
    pub async fn takes_bytes(client: &Client, map: &Value) -> Result<bool, Exit> {
        let client = client.clone();
        let (app, function) = (text(map, "app"), text(map, "function"));
        blocking(move || {
            let metadata = client.metadata(&app)?;
            let name = function.rsplit("::").next().unwrap_or_default();
            Ok(metadata.function(name).is_some_and(|function| function.takes_bytes()))
        })
        .await
    }

    /// Sends inputs and prints outcomes until the map has ended.
    pub async fn drive(
        self,
        global: &Global,
        client: Client,
        map: Value,
        inputs: Option<Inputs>,
        bar: ProgressBar,
    ) -> Result<(), Exit> {
        let id = text(&map, "id");
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let accepted = Arc::new(AtomicU64::new(map["counts"]["accepted"].as_u64().unwrap_or(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let upload = {
            let (client, id, accepted, stop) = (client.clone(), id.clone(), accepted.clone(), stop.clone());
            async move {
                match inputs {
                    Some(inputs) => blocking(move || upload(&client, &id, inputs, &accepted, &stop)).await,
                    None => Ok(()),
                }
            }
        };
        let json = global.json;
        if self.detaches {
            tokio::select! {
                uploaded = upload => {
                    if let Err(exit) = uploaded {
                        return Err(self.failed(&client, &id, &accepted, exit).await);
                    }
                }
                _ = interrupt.recv() => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(self.interrupted(&client, &id).await);
                }
            }
            bar.finish_and_clear();
            output::line(&if json { map_of(&client, &id)?.to_string() } else { id });
            return Ok(());
        }
        if !self.is_quiet {
            output::note(&format!("map {id}"));
        }
        let download = {
            let (client, id, bar, stop) = (client.clone(), id.clone(), bar.clone(), stop.clone());
            let accepted = accepted.clone();
            let mut printer = Printer {
                envelope: self.is_unordered || json,
                keeps_going: self.keeps_going,
                order: if self.is_unordered { "completion" } else { "input" },
                next: 0,
                seen: std::collections::HashSet::new(),
                failed: None,
                follows: true,
                only_failed: false,
            };
            async move { blocking(move || printer.print(&client, &id, &bar, &accepted, &stop)).await }
        };
        // Whichever fails first is the one to tell.
        let both = async { tokio::try_join!(upload, download).map(|((), summary)| summary) };
        let ended = tokio::select! {
            ended = both => ended,
            _ = interrupt.recv() => {
                stop.store(true, Ordering::Relaxed);
                bar.finish_and_clear();
                return Err(self.interrupted(&client, &id).await);
            }
        };
        bar.finish_and_clear();
        stop.store(true, Ordering::Relaxed);
        let summary = match ended {
            Ok(Some(summary)) => summary,
            // Whoever read our output has enough.
            Ok(None) => return Ok(()),
            Err(exit) => return Err(self.failed(&client, &id, &accepted, exit).await),
        };
        let counts = &summary["counts"];
        let lost = ["failed", "dead", "cancelled"].iter().filter_map(|name| counts[name].as_u64()).sum::<u64>();
        let line = map_line(&summary);
        if summary["state"] == "cancelled" {
            return Err(Exit { is_after_records: true, ..Exit::new(Code::Cancelled, line) });
        }
        if lost > 0 {
            let exit = Exit::new(Code::MapFailed, line).hint(format!("bireme map --retry-failed {id}"));
            return Err(Exit { is_after_records: true, ..exit });
        }
        if !self.is_quiet {
            output::note(&line);
        }
        Ok(())
    }

    /// Says how to go on after a failure; a new map that has no input yet is cancelled instead.
    async fn failed(&self, client: &Client, id: &str, accepted: &AtomicU64, exit: Exit) -> Exit {
        let is_new = self.resume.is_none() && self.retry_failed.is_none();
        if is_new && accepted.load(Ordering::Relaxed) == 0 {
            let (client, id) = (client.clone(), id.to_owned());
            let cancelled = blocking(move || {
                // The host may have taken inputs whose answer was lost.
                let is_empty = map_of(&client, &id)?["counts"]["accepted"] == 0;
                if is_empty { client.send("DELETE", &path(&id, "")?, &[]).map(|_| true) } else { Ok(false) }
            });
            if cancelled.await.unwrap_or(false) {
                return exit;
            }
        }
        exit.or_hint(format!("the map goes on; bireme map --resume {id}"))
    }

    /// Says how to go on; or cancels the map, if that was asked for.
    async fn interrupted(&self, client: &Client, id: &str) -> Exit {
        if self.cancels_on_interrupt {
            let (client, path) = (client.clone(), path(id, "").unwrap_or_default());
            let cancelled = blocking(move || client.send("DELETE", &path, &[])).await;
            let message = match cancelled {
                Ok(map) => format!("interrupted; map {id} is cancelled ({})", map_line(&map)),
                Err(exit) => format!("interrupted; map {id} could not be cancelled: {}", exit.message),
            };
            return Exit { is_after_records: true, ..Exit::new(Code::Interrupted, message) };
        }
        let message = format!("interrupted; map {id} goes on with the inputs that it has");
        let exit = Exit::new(Code::Interrupted, message);
        let hint = format!("go on: bireme map --resume {id} --inputs FILE; or end it: bireme cancel {id}");
        Exit { is_after_records: true, ..exit.hint(hint) }
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// Returns the path of something of a map.
pub fn path(id: &str, below: &str) -> Result<String, Exit> {
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_id { Ok(format!("/api/v1/maps/{id}{below}")) } else { Err(Exit::usage(format!("`{id}` is no id of a map"))) }
}

fn map_of(client: &Client, id: &str) -> Result<Value, Exit> {
    client.send("GET", &path(id, "")?, &[])
}

/// Sends inputs from the first that the host has not, and closes the map. A request is sent again until it is answered: the host
/// passes over what it has.
fn upload(client: &Client, id: &str, mut inputs: Inputs, accepted: &AtomicU64, stop: &AtomicBool) -> Result<(), Exit> {
    // The last of those that it has is sent again, so that inputs of another map are found out.
    let known = accepted.load(Ordering::Relaxed);
    let skipped = known.saturating_sub(1);
    let (mut index, mut body, mut len) = (0_u64, Vec::new(), 0_u64);
    let send = |from: u64, body: &mut Vec<u8>| -> Result<(), Exit> {
        let mut patience = Patience::default();
        loop {
            let sent = client.post(&path(id, "/inputs")?, &[("from", from.to_string())], "application/x-ndjson", body);
            let answer = sent.and_then(|response| match response.status().is_success() {
                true => client::json(response),
                false => Err(client::problem(response)),
            });
            match answer {
                Ok(answer) => {
                    accepted.store(answer["accepted"].as_u64().unwrap_or(0), Ordering::Relaxed);
                    body.clear();
                    return Ok(());
                }
                Err(exit) if matches!(exit.code, Code::NoHost | Code::DiskFull) && !stop.load(Ordering::Relaxed) => {
                    patience.wait(exit)?;
                }
                Err(exit) => return Err(exit),
            }
        }
    };
    while let Some(chunk) = inputs.blocking_recv() {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        for input in chunk? {
            index += 1;
            if index > skipped {
                line(&mut body, &input);
                len += 1;
            }
            if body.len() >= REQUEST_BYTES || len >= REQUEST_LEN as u64 {
                send(index - len, &mut body)?;
                len = 0;
            }
        }
        // What has come is sent when no more is there yet.
        if len > 0 && inputs.is_empty() {
            send(index - len, &mut body)?;
            len = 0;
        }
    }
    if index < known {
        return Err(Exit::usage(format!(
            "the map has {known} inputs already, and these are {index}: are they of another map?"
        )));
    }
    if len > 0 {
        send(index - len, &mut body)?;
    }
    let mut patience = Patience::default();
    loop {
        match client.send("POST", &path(id, "/close")?, &[]) {
            Ok(_) => return Ok(()),
            Err(exit) if exit.code == Code::NoHost && !stop.load(Ordering::Relaxed) => patience.wait(exit)?,
            Err(exit) => return Err(exit),
        }
    }
}

/// Writes an input as its line.
fn line(body: &mut Vec<u8>, input: &Payload) {
    if input.is_json() {
        // Between tokens a line end is a space like any other; within them JSON has none.
        body.extend(input.data.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    } else {
        let object = json!({ "content_type": input.content_type, "base64": BASE64.encode(&input.data) });
        body.extend_from_slice(object.to_string().as_bytes());
    }
    body.push(b'\n');
}

/// Prints outcomes as they come.
struct Printer {
    envelope: bool,
    keeps_going: bool,
    order: &'static str,
    /// The next input, in their order.
    next: u64,
    /// Those printed, in the order of completion.
    seen: std::collections::HashSet<u64>,
    failed: Option<Exit>,
    follows: bool,
    only_failed: bool,
}

impl Printer {
    /// Returns what the map came to, or nothing if nobody reads the output any more.
    fn print(
        &mut self,
        client: &Client,
        id: &str,
        bar: &ProgressBar,
        accepted: &AtomicU64,
        stop: &AtomicBool,
    ) -> Result<Option<Value>, Exit> {
        let mut patience = Patience::default();
        let mut counted = 0;
        loop {
            let mut query = vec![("order", self.order.to_owned()), ("from", self.next.to_string())];
            if self.follows {
                query.push(("follow", "true".to_owned()));
            }
            if self.only_failed {
                query.push(("failed", "true".to_owned()));
            }
            let stream = match client.stream(&path(id, "/results")?, &query) {
                Ok(stream) => stream,
                Err(exit) if exit.code == Code::NoHost && !stop.load(Ordering::Relaxed) => {
                    patience.wait(exit)?;
                    continue;
                }
                Err(exit) => return Err(exit),
            };
            patience = Patience::default();
            let mut reader = BufReader::with_capacity(1 << 18, stream);
            let mut out = Vec::new();
            let mut text = Vec::new();
            loop {
                text.clear();
                // A connection that breaks off is made again.
                if stop.load(Ordering::Relaxed) || !matches!(reader.read_until(b'\n', &mut text), Ok(1..)) {
                    break;
                }
                let Ok(line) = serde_json::from_slice::<Line<'_>>(&text) else { break };
                if let Some(summary) = line.summary {
                    if !write(&mut out)? {
                        return Ok(None);
                    }
                    return Ok(serde_json::from_str(summary.get()).ok());
                }
                self.outcome(&line, &text, &mut out)?;
                counted += 1;
                if reader.buffer().is_empty() || out.len() > 1 << 16 {
                    if !write(&mut out)? {
                        return Ok(None);
                    }
                    bar.set_position(counted);
                    bar.set_length(accepted.load(Ordering::Relaxed));
                }
                if let Some(exit) = self.failed.take() {
                    write(&mut out)?;
                    return Err(exit);
                }
            }
            if !write(&mut out)? || stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            patience.wait(Exit::new(Code::NoHost, "the host's answer broke off"))?;
        }
    }

    fn outcome(&mut self, line: &Line<'_>, text: &[u8], out: &mut Vec<u8>) -> Result<(), Exit> {
        let Some(index) = line.index else {
            let error: Value = line.error.and_then(|error| serde_json::from_str(error.get()).ok()).unwrap_or_default();
            let code = error["code"].as_str().and_then(Code::find).unwrap_or(Code::NoHost);
            return Err(Exit::new(code, error["message"].as_str().unwrap_or("the host's answer cannot be read")));
        };
        if self.order == "completion" {
            if !self.seen.insert(index) {
                return Ok(());
            }
        } else {
            self.next = index + 1;
        }
        match line.output {
            _ if self.envelope => out.extend_from_slice(text),
            Some(output) => {
                out.extend_from_slice(output.get().as_bytes());
                out.push(b'\n');
            }
            None => {
                let value: Value = serde_json::from_slice(text).unwrap_or_default();
                if !self.keeps_going {
                    let failure = serde_json::from_value::<crate::call::Failure>(value["error"].clone());
                    let exit = failure.map_or_else(|_| Exit::new(Code::Failed, "it failed"), Exit::from);
                    let message = format!("input {index}: {}", exit.message);
                    self.failed = Some(
                        Exit { message, is_after_records: true, ..exit }
                            .hint("--keep-going prints what comes after a failed input; the map itself goes on"),
                    );
                    return Ok(());
                }
                out.extend_from_slice(failed_line(&value).to_string().as_bytes());
                out.push(b'\n');
            }
        }
        Ok(())
    }
}

/// Writes to stdout; returns whether anybody reads it.
fn write(out: &mut Vec<u8>) -> Result<bool, Exit> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out).and_then(|()| stdout.flush());
    out.clear();
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Print the results of a map on a host, in the order of its inputs, while it runs or after it has ended.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme results ID --index 41\n  bireme results ID --failed --json\n  bireme results ID --follow > results.jsonl"
)]
pub struct ResultsCommand {
    #[command(flatten)]
    address: Address,
    /// The id that `bireme map` printed.
    id: String,
    /// The one result of this input, from 0.
    #[arg(long, value_name = "N", conflicts_with_all = ["failed", "follow", "unordered"])]
    index: Option<u64>,
    /// The inputs that failed, and why.
    #[arg(long)]
    failed: bool,
    /// Wait for those that are not there yet.
    #[arg(long)]
    follow: bool,
    /// As they complete.
    #[arg(long)]
    unordered: bool,
}

impl ResultsCommand {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        if let Some(index) = self.index {
            let result = client.send("GET", &path(&self.id, &format!("/results/{index}"))?, &[])?;
            if result["state"] == "pending" {
                let exit = Exit::new(Code::Timeout, format!("input {index} has no result yet"));
                return Err(exit.hint(format!("bireme results {} --follow", self.id)));
            }
            if global.json || !result["error"].is_null() {
                output::line(&result.to_string());
            } else {
                output::line(&result["output"].to_string());
            }
            return Ok(());
        }
        let mut printer = Printer {
            envelope: global.json || self.unordered || self.failed,
            keeps_going: true,
            order: if self.unordered { "completion" } else { "input" },
            next: 0,
            seen: std::collections::HashSet::new(),
            failed: None,
            follows: self.follow,
            only_failed: self.failed,
        };
        let (accepted, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let summary = printer.print(&client, &self.id, &ProgressBar::hidden(), &accepted, &stop)?;
        if let Some(summary) = summary {
            output::note(&map_line(&summary));
        }
        Ok(())
    }
}
