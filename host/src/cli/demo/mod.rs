//! `bireme demo`: scrape, embed and search real documentation, starting from an empty machine.
//!
//! Each stage is one file: `pages` (scrape), `vectors` (embed, store), `questions` (search over HTTP); `report` is the
//! table at the end. `docs` and `site` serve the documentation of the Rust toolchain.

mod app;
pub(crate) mod docs;
mod pages;
mod progress;
mod questions;
mod report;
mod site;
mod source;
mod vectors;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use self::app::{APP, MODEL, NAME};
use self::report::Report;
use self::source::Source;
use super::device::OnDevice;
use super::exit::Exit;
use super::global::Global;
use super::log::StderrLog;
use super::signals::StopSignals;
use super::{listen, models, output, target};
use crate::codes::Code;
use crate::config::{ConfigError, check_listen};
use crate::http::Ingress;
use crate::limits::DRAIN_DEFAULT;
use crate::logs::Level;
use crate::outbound::Grants;
use crate::server::{Host, ListenSettings, RunningHost};
use crate::tasks::blocking;

/// Default address; a free port is used if this one is taken.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Scrape the Rust documentation in sandboxes, embed it on a worker, search it over HTTP: the main job on real input.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme demo --once\n  bireme demo --docs ./my-site --question 'how do I install it?'"
)]
pub(crate) struct Demo {
    /// Exit after the questions instead of serving the search page.
    #[arg(long)]
    once: bool,
    /// Take every page of the installed documentation, not only The Book, the Reference and the Cargo book. Takes
    /// hours.
    #[arg(long, conflicts_with_all = ["docs", "site"])]
    all: bool,
    /// Index the HTML files under DIR.
    #[arg(long, value_name = "DIR", conflicts_with = "site")]
    docs: Option<PathBuf>,
    /// Index the site at URL, following its links.
    #[arg(long, value_name = "URL")]
    site: Option<String>,
    /// Follow links to at most N pages of a site.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    max_pages: usize,
    /// Ask this question instead of the usual three. Repeatable.
    #[arg(long = "question", value_name = "TEXT")]
    questions: Vec<String>,
    /// Take the model's files from DIR rather than from the network.
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Address of the search; 127.0.0.1:8080 or, if that is taken, a free port.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    on: OnDevice,
}

impl Demo {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let mut signals = StopSignals::listen()?;
        let demo = tokio::select! {
            ended = self.stages(global) => ended?,
            () = signals.next() => {
                return Err(Exit::new(Code::Interrupted, "interrupted; run it again to start over"));
            }
        };
        if !self.once {
            signals.next().await;
        }
        demo.shut_down().await;
        Ok(())
    }

    async fn stages(&self, global: &Global) -> Result<RunningDemo, Exit> {
        let started = Instant::now();
        let mut report = Report::default();

        let mut config = global.config(&[])?;
        config.inference.device = self.on.device;
        // A separate database: the demo neither sees nor changes a host's data.
        config.directories.data.push("demo");
        let source = self.source().await?;
        let is_rust = self.docs.is_none() && self.site.is_none();
        let questions = questions::or_usual(&self.questions, is_rust);
        let value = format!("{NAME}:questions={}", serde_json::json!(questions));
        config.settings.add_value(&value).map_err(ConfigError::from)?;
        config.grants = Grants::parse(&[format!("site={}", source.origin())]).map_err(ConfigError::from)?;

        let log = StderrLog::new(Level::Error);
        let open = Host::build(config, log.clone())?.open(ListenSettings::default()).await?;
        let host = &open.host;

        stage(&format!("building {APP}"));
        let build = Instant::now();
        let app = target::resolve(&app::dir(), host).await?.0;
        report.app_bytes = app.component.bytes.len() as u64;
        report.build = build.elapsed();

        let catalogue = host.inference.catalogue();
        if catalogue.get(MODEL).is_err() {
            stage(&format!("fetching the model {MODEL}"));
        }
        let fetch = Instant::now();
        let (catalogue, model_dir) = (catalogue.clone(), self.model_dir.clone());
        blocking(move || models::pull_model(&catalogue, MODEL, model_dir)).await?;
        report.fetch = fetch.elapsed();

        let program = host.load(&app, &host.config.grants).await?;

        stage(&format!("scraping {}", source.describe()));
        let follow = source.is_followed().then_some(self.max_pages);
        let mut scraped = pages::scrape(host, &program, source.urls(), follow, &log, &mut report).await?;
        for located in &mut scraped {
            located.url = source.public_url(&located.url);
        }

        stage(&format!("embedding {} passages", output::count(scraped.len() as u64)));
        let segments = vectors::embed(host, &program, scraped, &log, &mut report).await?;
        stage("storing the index");
        vectors::store(host, &program, segments, &log, &mut report).await?;

        let running = open.start(self.bind().await?).await?;
        let address = running.address;
        stage(&format!("asking over HTTP at http://{address}/docs-search/search"));
        let answers = questions::ask(address, questions).await?;
        report.finish(&running.host, started.elapsed());
        if global.json {
            output::line(&report.to_json(&answers).to_string());
        } else {
            answers.iter().for_each(|answer| output::line(&answer.to_text()));
            output::line(&report.to_text());
        }
        if !self.once {
            output::note(&format!(
                "the search page: http://{address}/docs-search/\nserving until Ctrl-C; try\n  curl 'http://{address}/docs-search/search?q=what+is+a+crate'\n  curl -d '{{\"q\": \"what is a crate?\"}}' http://{address}/docs-search/search"
            ));
        }
        Ok(RunningDemo { running, source })
    }

    async fn source(&self) -> Result<Source, Exit> {
        match (&self.site, &self.docs) {
            (Some(url), _) => Source::of_url(url),
            (None, Some(dir)) => Source::of_dir(dir),
            (None, None) => Source::of_rust_docs(self.all).await,
        }
    }

    async fn bind(&self) -> Result<Ingress, Exit> {
        if let Some(listen) = self.listen {
            return listen::bind(check_listen(listen)?).await;
        }
        match listen::bind(LISTEN).await {
            Ok(ingress) => Ok(ingress),
            Err(_) => {
                let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                output::note(&format!("{LISTEN} is taken; using a free port instead"));
                listen::bind(free).await
            }
        }
    }
}

/// The demo once it serves.
struct RunningDemo {
    running: RunningHost,
    source: Source,
}

impl RunningDemo {
    async fn shut_down(self) {
        self.running.shut_down(DRAIN_DEFAULT).await;
        // Served until now: with `--docs`, the links of the hits lead there.
        self.source.stop().await;
    }
}

fn stage(what: &str) {
    output::note(&format!("▸ {what}"));
}
