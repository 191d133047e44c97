//! `bireme deploy`: a new version of an app on a host.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use clap::Args;
use console::style;

use super::address::Address;
use super::client::{self, Answer, Client};
use crate::api::Deployment;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::{output, target};
use crate::compiler::announced_after;
use crate::logs::{NoLog, printable};
use crate::server::Host;
use crate::tasks::blocking;

/// Deploy an app to a host: build it, send it, swap it in between two requests.
///
/// Shows the permissions that are new in this version and asks you to accept them. Running calls finish on the version
/// that they started with. The host keeps earlier versions; `bireme rollback` returns to one.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme deploy examples/hello\n  bireme deploy . --accept -m 'reads the new feed'")]
pub(crate) struct Deploy {
    /// A crate's directory, a `.wasm` file, or a directory with a `bireme.toml`.
    app: String,
    #[command(flatten)]
    address: Address,
    /// Accept all new capabilities without asking.
    #[arg(long)]
    accept: bool,
    /// Permit the app an outbound address: NAME=ORIGIN for a `$NAME` that it declares, or a private ORIGIN. Or a model,
    /// where the app is a component that can declare none: model:NAME. Kept for later versions until other grants are
    /// given; `--grant ''` takes them all back.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Message for the history.
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Deploy {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let located = target::locate(&self.app, &global.directories()?).await?;
        let app = match located.described() {
            Some((_, app)) => app,
            None => {
                let host = Host::build(global.config(&[])?, std::sync::Arc::new(NoLog))?;
                located.describe(&host).await?.1
            }
        };
        let json = global.json;
        let bytes = app.component.bytes.len() as u64;
        let waiting = format!("the host compiles `{}` ({})…", app.metadata.app.name, output::bytes(bytes));
        blocking(move || self.send(&client, &app.component.bytes, &waiting, json)).await
    }

    fn send(&self, client: &Client, component: &[u8], waiting: &str, json: bool) -> Result<(), Exit> {
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(self.accept.then(|| ("accept", "all".to_owned())));
        query.extend(self.grants.iter().map(|grant| ("grant", grant.clone())));
        query.extend(self.message.iter().map(|message| ("message", message.clone())));
        query.extend(self.dry_run.then(|| ("dry_run", "true".to_owned())));
        let post = |query: &[_]| client.post("/api/v1/apps", query, "application/wasm", component);
        let mut response = announced(waiting, component.len(), || post(&query))?;
        if response.status() == 409 {
            let (code, problem) = client::problem_document(response)?;
            let exit = Exit { causes: problem.causes, ..Exit::new(code, problem.detail) };
            if problem.added.is_empty() {
                return Err(exit);
            }
            if json || !confirm(client, &problem.added) {
                return Err(exit.hint("to grant these permissions, deploy it with --accept"));
            }
            // Accept exactly the capabilities that were shown, not ones added since.
            query.extend(problem.added.into_iter().map(|capability| ("accept", capability)));
            response = announced(waiting, component.len(), || post(&query))?;
        }
        let answer: Answer<Deployment> = client::answer(response)?;
        if json {
            output::line(&answer.text);
            return Ok(());
        }
        output::line(&self.text(client, &answer.document));
        for warning in &answer.document.warnings {
            output::note(&format!(
                "{} {}",
                style("warning:").for_stderr().yellow().bold(),
                printable(&warning.message)
            ));
        }
        Ok(())
    }

    fn text(&self, client: &Client, deployment: &Deployment) -> String {
        let Deployment { app, version, previous, changed, added, removed, routes, warnings: _ } = deployment;
        let base = client.base();
        let was = match previous {
            Some(previous) if previous != version => format!(" (before: {previous})"),
            _ => String::new(),
        };
        let mut text = match (self.dry_run, changed) {
            (true, _) => format!("{app} {version} would be deployed to {base}{was}"),
            (false, true) => format!("{app} {version} is live on {base}{was}"),
            (false, false) => format!("{app} {version} was live on {base} already; nothing changed"),
        };
        for (sign, capabilities) in [('+', added), ('-', removed)] {
            for capability in capabilities {
                text += &format!("\n  {sign} {capability}");
            }
        }
        for route in routes {
            if let Some((method, path)) = route.split_once(' ') {
                text += &format!("\n  {method} {base}{path}");
            }
        }
        text.lines().map(printable).collect::<Vec<_>>().join("\n")
    }
}

/// Runs `work`, for which a host compiles a component of `bytes`; a note and the time taken are printed if it is slow.
fn announced<T>(waiting: &str, bytes: usize, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let is_late = move || is_done.recv_timeout(announced_after(bytes as u64)) == Err(RecvTimeoutError::Timeout);
        let announcing = scope.spawn(move || is_late().then(|| output::note(waiting)).is_some());
        let result = work();
        drop(done);
        if announcing.join().unwrap_or(false) {
            output::note(&format!("it answered after {:.1} s", begun.elapsed().as_secs_f64()));
        }
        result
    })
}

/// Shows new capabilities and asks, if a terminal is there to answer.
fn confirm(client: &Client, added: &[String]) -> bool {
    output::note(&format!("new permissions of this version on {}:", client.base()));
    added.iter().for_each(|capability| output::note(&format!("  + {}", printable(capability))));
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return false;
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "deploy it? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
