//! `bireme map` on a host: uploads inputs in order and prints outcomes; neither is lost with the connection or the
//! host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use super::address::Address;
use super::client::{self, Answer, Client};
use super::map_watch::MapWatch;
use super::outcomes::{OutcomeOrder, OutcomePrinter, PrintOptions};
use super::paths;
use super::state_text::map_line;
use super::upload::upload;
use crate::api::{Map, MapRetried, MapState};
use crate::app::metadata::FunctionInfo;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::map_inputs::Inputs;
use crate::cli::progress::MapBar;
use crate::cli::{function_lookup, output, target};
use crate::codes::Code;
use crate::tasks::blocking;

/// Arguments of a map on a host.
pub(crate) struct HostMap {
    pub address: Address,
    /// APP::FUNCTION of a deployed app; `None` for an existing map.
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

impl HostMap {
    pub(crate) fn client(&self, global: &Global) -> Result<Client, Exit> {
        Client::new(&self.address, global)
    }

    /// Finds the map to resume, and restarts its failed inputs with `retry_failed`. `None` means that a new map is
    /// wanted.
    pub(crate) async fn find(&self, client: &Client) -> Result<Option<Map>, Exit> {
        let (client, resume, retry) = (client.clone(), self.resume.clone(), self.retry_failed.clone());
        blocking(move || match (resume, retry) {
            (Some(id), _) => Ok(Some(map_of(&client, &id)?.document)),
            (None, Some(id)) => {
                let answer: Answer<MapRetried> = client.send("POST", &paths::map(&id, "/retry-failed")?, &[])?;
                Ok(Some(answer.document.map))
            }
            (None, None) => Ok(None),
        })
        .await
    }

    /// Fetches the function of a new map.
    pub(crate) async fn function(&self, client: &Client) -> Result<FunctionInfo, Exit> {
        let (client, (app, name)) = (client.clone(), self.split_target()?);
        blocking(move || {
            let metadata = client.metadata(&app)?;
            function_lookup::find(&metadata, &name, Some(client.base())).cloned()
        })
        .await
    }

    /// Creates a map.
    pub(crate) async fn create(&self, client: &Client) -> Result<Map, Exit> {
        let (client, (app, name)) = (client.clone(), self.split_target()?);
        let query: Vec<_> = self.priority.iter().map(|priority| ("priority", priority.clone())).collect();
        blocking(move || {
            // An empty body: inputs in it would be part of the map.
            let path = format!("/api/v1/apps/{app}/functions/{name}/maps");
            let response = client.post(&path, &query, "application/json", b"")?;
            Ok(client::answer::<Map>(response)?.document)
        })
        .await
    }

    fn split_target(&self) -> Result<(String, String), Exit> {
        let target = self.target.as_deref();
        let target =
            target.ok_or_else(|| Exit::usage("name the function, as APP::FUNCTION, or a map with --resume"))?;
        let (app, name) = target::split(target)?;
        Ok((app.to_owned(), name.to_owned()))
    }

    /// Whether the inputs of the map's function are bytes.
    pub(crate) async fn takes_bytes(client: &Client, map: &Map) -> Result<bool, Exit> {
        let client = client.clone();
        let (app, function) = (map.app.clone(), map.function.clone());
        blocking(move || {
            let metadata = client.metadata(app.as_str())?;
            let name = function.rsplit("::").next().unwrap_or_default();
            Ok(metadata.function(name).is_some_and(|function| function.takes_bytes()))
        })
        .await
    }

    /// Uploads inputs and prints outcomes until the map has ended.
    pub(crate) async fn drive(
        self,
        global: &Global,
        client: Client,
        map: Map,
        inputs: Option<Inputs>,
        bar: MapBar,
    ) -> Result<(), Exit> {
        let id = map.id.to_string();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let accepted = Arc::new(AtomicU64::new(map.counts.accepted));
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
        let watch = MapWatch::start(&client, &id, &bar)?;
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
            bar.finish();
            output::line(&if json { map_of(&client, &id)?.text } else { id });
            return Ok(());
        }
        if !self.is_quiet {
            bar.note(&format!("map {id}"));
        }
        let download = {
            let (client, id, bar, stop) = (client.clone(), id.clone(), bar.clone(), stop.clone());
            let order = if self.is_unordered { OutcomeOrder::Completion } else { OutcomeOrder::Input };
            let mut printer = OutcomePrinter::new(PrintOptions {
                order,
                is_envelope: self.is_unordered || json,
                keeps_going: self.keeps_going,
                follows: true,
                only_failed: false,
            });
            async move { blocking(move || printer.print(&client, &id, &bar, &stop)).await }
        };
        // The first failure is the one to report.
        let both = async { tokio::try_join!(upload, download).map(|((), summary)| summary) };
        let ended = tokio::select! {
            ended = both => ended,
            _ = interrupt.recv() => {
                stop.store(true, Ordering::Relaxed);
                bar.finish();
                return Err(self.interrupted(&client, &id).await);
            }
        };
        drop(watch);
        bar.finish();
        stop.store(true, Ordering::Relaxed);
        let summary = match ended {
            Ok(Some(summary)) => summary,
            // The reader of standard output has closed it.
            Ok(None) => return Ok(()),
            Err(exit) => return Err(self.failed(&client, &id, &accepted, exit).await),
        };
        let counts = &summary.counts;
        let lost = counts.failed + counts.dead + counts.cancelled;
        let line = map_line(&summary);
        if summary.state == MapState::Cancelled {
            return Err(Exit { is_after_records: true, ..Exit::new(Code::Cancelled, line) });
        }
        if lost > 0 {
            // Without it, the first input that fails again would end the output.
            let keep_going = if self.keeps_going { " --keep-going" } else { "" };
            let exit = Exit::new(Code::MapFailed, line).hint(format!("bireme map --retry-failed {id}{keep_going}"));
            return Err(Exit { is_after_records: true, ..exit });
        }
        if !self.is_quiet {
            output::note(&line);
        }
        Ok(())
    }

    /// Adds a hint how to resume; a new map without inputs is cancelled instead.
    async fn failed(&self, client: &Client, id: &str, accepted: &AtomicU64, exit: Exit) -> Exit {
        let is_new = self.resume.is_none() && self.retry_failed.is_none();
        if is_new && accepted.load(Ordering::Relaxed) == 0 {
            let (client, id) = (client.clone(), id.to_owned());
            let cancelled = blocking(move || {
                // The host may hold inputs whose response was lost.
                let is_empty = map_of(&client, &id)?.document.counts.accepted == 0;
                if is_empty { cancel(&client, &id).map(|_| true) } else { Ok(false) }
            });
            if cancelled.await.unwrap_or(false) {
                return exit;
            }
        }
        exit.or_hint(format!("the map goes on; bireme map --resume {id}"))
    }

    /// Returns a hint how to resume; with `cancels_on_interrupt`, cancels the map.
    async fn interrupted(&self, client: &Client, id: &str) -> Exit {
        if self.cancels_on_interrupt {
            let (client, id_to_cancel) = (client.clone(), id.to_owned());
            let cancelled = blocking(move || cancel(&client, &id_to_cancel)).await;
            let message = match cancelled {
                Ok(map) => format!("interrupted; map {id} is cancelled ({})", map_line(&map)),
                Err(exit) => format!("interrupted; map {id} could not be cancelled: {}", exit.message),
            };
            return Exit { is_after_records: true, ..Exit::new(Code::Interrupted, message) };
        }
        let message = format!("interrupted; map {id} continues with the inputs that it has");
        let exit = Exit::new(Code::Interrupted, message);
        let hint = format!("go on: bireme map --resume {id} --inputs FILE; or end it: bireme cancel {id}");
        Exit { is_after_records: true, ..exit.hint(hint) }
    }
}

fn map_of(client: &Client, id: &str) -> Result<Answer<Map>, Exit> {
    client.send("GET", &paths::map(id, "")?, &[])
}

fn cancel(client: &Client, id: &str) -> Result<Map, Exit> {
    Ok(client.send("DELETE", &paths::map(id, "")?, &[])?.document)
}
