//! Outcomes of a map from a host: a stream of JSON lines, printed as results or as lines with their index.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{self, Client};
use super::failed_inputs::FailedInputs;
use super::outcome_line::OutcomeLine;
use super::paths;
use super::reconnect::Reconnect;
use crate::api::Map;
use crate::call::{Failure, FailureCode};
use crate::cli::exit::Exit;
use crate::cli::map_failure::failure_line;
use crate::cli::progress::MapBar;
use crate::codes::Code;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeOrder {
    Input,
    Completion,
}

impl OutcomeOrder {
    fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Completion => "completion",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PrintOptions {
    pub order: OutcomeOrder,
    /// Prints the host's line with index and state instead of the bare result.
    pub is_envelope: bool,
    /// Prints failed inputs as lines instead of stopping at the first.
    pub keeps_going: bool,
    /// Waits for outcomes that are not there yet.
    pub follows: bool,
    pub only_failed: bool,
}

/// Prints each outcome once.
pub(crate) struct OutcomePrinter {
    options: PrintOptions,
    /// Next index in input order, where a new connection resumes.
    next: u64,
    /// Indexes already printed in completion order.
    seen: HashSet<u64>,
    failed: Option<Exit>,
    /// Failed inputs, where they are grouped rather than printed as they come.
    groups: Option<FailedInputs>,
}

impl OutcomePrinter {
    pub(crate) fn new(options: PrintOptions) -> Self {
        Self { options, next: 0, seen: HashSet::new(), failed: None, groups: None }
    }

    /// Groups failed inputs by their error: none is printed.
    pub(crate) fn grouping(options: PrintOptions) -> Self {
        Self { groups: Some(FailedInputs::default()), ..Self::new(options) }
    }

    /// Returns the groups of `grouping`.
    pub(crate) fn groups(&self) -> Option<&FailedInputs> {
        self.groups.as_ref()
    }

    /// Prints outcomes until the map has ended, over as many connections as it takes. Returns the final state of the
    /// map; `None` if standard output is closed or `stop` is set.
    pub(crate) fn print(
        &mut self,
        client: &Client,
        id: &str,
        bar: &MapBar,
        stop: &AtomicBool,
    ) -> Result<Option<Map>, Exit> {
        let mut reconnect = Reconnect::default();
        loop {
            let mut query = vec![("order", self.options.order.as_str().to_owned()), ("from", self.next.to_string())];
            if self.options.follows {
                query.push(("follow", "true".to_owned()));
            }
            if self.options.only_failed {
                query.push(("failed", "true".to_owned()));
            }
            let stream = match client.stream(&paths::map(id, "/results")?, &query) {
                Ok(stream) => stream,
                Err(exit) if exit.code == Code::NoHost && !stop.load(Ordering::Relaxed) => {
                    reconnect.wait(exit)?;
                    continue;
                }
                Err(exit) => return Err(exit),
            };
            reconnect = Reconnect::default();
            let mut reader = BufReader::with_capacity(1 << 18, stream);
            let mut out = Vec::new();
            let mut text = Vec::new();
            loop {
                text.clear();
                // A broken connection is opened again, from `next`.
                if stop.load(Ordering::Relaxed) || !matches!(reader.read_until(b'\n', &mut text), Ok(1..)) {
                    break;
                }
                let Ok(line) = serde_json::from_slice::<OutcomeLine<'_>>(&text) else { break };
                if let Some(summary) = line.summary().map_err(|error| client::unreadable(&error))? {
                    return Ok(write(&mut out, bar)?.then_some(summary));
                }
                self.outcome(&line, &text, &mut out)?;
                if (reader.buffer().is_empty() || out.len() > 1 << 16) && !write(&mut out, bar)? {
                    return Ok(None);
                }
                if let Some(exit) = self.failed.take() {
                    write(&mut out, bar)?;
                    return Err(exit);
                }
            }
            if !write(&mut out, bar)? || stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            reconnect.wait(Exit::new(Code::NoHost, "the host's answer broke off"))?;
        }
    }

    /// Appends one outcome to `out`; sets `failed` for the first failure without `keeps_going`.
    fn outcome(&mut self, line: &OutcomeLine<'_>, text: &[u8], out: &mut Vec<u8>) -> Result<(), Exit> {
        let Some(index) = line.index else {
            let error = line.stream_error().map_err(|error| client::unreadable(&error))?;
            return Err(match error {
                Some(error) => Exit::new(Code::find(&error.code).unwrap_or(Code::NoHost), error.message),
                None => Exit::new(Code::NoHost, "the host's answer cannot be read"),
            });
        };
        if self.options.order == OutcomeOrder::Completion {
            if !self.seen.insert(index) {
                return Ok(());
            }
        } else {
            self.next = index + 1;
        }
        if let Some(groups) = &mut self.groups {
            let failure = line.failure().map_err(|error| client::unreadable(&error))?;
            failure.into_iter().for_each(|failure| groups.add(index, failure));
            return Ok(());
        }
        match line.output() {
            _ if self.options.is_envelope => out.extend_from_slice(text),
            Some(output) => {
                out.extend_from_slice(output.as_bytes());
                out.push(b'\n');
            }
            None => {
                let failure = line.failure().map_err(|error| client::unreadable(&error))?;
                let failure = failure.unwrap_or_else(|| Failure::new(FailureCode::Failed, "it failed"));
                if self.options.keeps_going {
                    out.extend_from_slice(failure_line(index, &failure, false).as_bytes());
                    out.push(b'\n');
                    return Ok(());
                }
                let exit = Exit::from(failure);
                let message = format!("input {index}: {}", exit.message);
                self.failed = Some(
                    Exit { message, is_after_records: true, ..exit }
                        .hint("--keep-going prints what comes after a failed input; the map itself goes on"),
                );
            }
        }
        Ok(())
    }
}

/// Writes to standard output; returns false if the reader has closed it.
fn write(out: &mut Vec<u8>, bar: &MapBar) -> Result<bool, Exit> {
    let written = bar.beside(|| {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(out).and_then(|()| stdout.flush())
    });
    out.clear();
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
