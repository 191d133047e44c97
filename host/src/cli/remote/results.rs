//! `bireme results`: results of a map on a host.

use std::sync::atomic::AtomicBool;

use clap::Args;
use serde_json::value::RawValue;

use super::address::Address;
use super::client::{Answer, Client};
use super::map_watch::MapWatch;
use super::outcomes::{OutcomeOrder, OutcomePrinter, PrintOptions};
use super::paths;
use super::state_text::map_line;
use crate::api::{MapOutcome, MapOutcomeState};
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::output;
use crate::cli::progress::MapBar;
use crate::codes::Code;

/// Print the results of a map on a host, in the order of its inputs, while it runs or after it has ended.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme results ID --index 41\n  bireme results ID --failed --json\n  bireme results ID --follow > results.jsonl"
)]
pub(crate) struct Results {
    #[command(flatten)]
    address: Address,
    /// The id that `bireme map` printed; a unique prefix of at least 8 digits is enough.
    id: String,
    /// Only the result of input N, from 0.
    #[arg(long, value_name = "N", conflicts_with_all = ["failed", "follow", "unordered"])]
    index: Option<u64>,
    /// Only failed inputs, with their errors; in a terminal grouped by error, each with its input.
    #[arg(long)]
    failed: bool,
    /// Wait for results that are not there yet.
    #[arg(long)]
    follow: bool,
    /// Print results in the order of completion.
    #[arg(long)]
    unordered: bool,
}

impl Results {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        if let Some(index) = self.index {
            let path = paths::map(&self.id, &format!("/results/{index}"))?;
            // The output as its own text: numbers keep their digits.
            let answer: Answer<MapOutcome<Box<RawValue>>> = client.send("GET", &path, &[])?;
            let outcome = answer.document;
            if outcome.state == MapOutcomeState::Pending {
                let exit = Exit::new(Code::Timeout, format!("input {index} has no result yet"));
                return Err(exit.hint(format!("bireme results {} --follow", self.id)));
            }
            if global.json || outcome.error.is_some() {
                output::line(&answer.text);
            } else {
                output::line(outcome.output.as_ref().map_or("null", |output| output.get()));
            }
            return Ok(());
        }
        let order = if self.unordered { OutcomeOrder::Completion } else { OutcomeOrder::Input };
        let options = PrintOptions {
            order,
            is_envelope: global.json || self.unordered || self.failed,
            keeps_going: true,
            follows: self.follow,
            only_failed: self.failed,
        };
        // People read errors in a terminal; what reads a pipe gets each line as it is.
        let columns = console::Term::stdout().size_checked().filter(|_| self.failed && !global.json);
        let mut printer =
            if columns.is_some() { OutcomePrinter::grouping(options) } else { OutcomePrinter::new(options) };
        let bar = MapBar::new(!self.follow);
        let watch = MapWatch::start(&client, &self.id, &bar)?;
        let summary = printer.print(&client, &self.id, &bar, &AtomicBool::new(false));
        drop(watch);
        bar.finish();
        let summary = summary?;
        if let (Some((_, columns)), Some(groups)) = (columns, printer.groups()) {
            let text = groups.text(&client, &self.id, usize::from(columns))?;
            if !text.is_empty() {
                output::line(&text);
            }
        }
        if let Some(summary) = summary {
            output::note(&map_line(&summary));
        }
        Ok(())
    }
}
