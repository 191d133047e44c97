//! `bireme demo`: the main job on real input, from an empty machine to answered questions.
//!
//! Each stage is one file: `pages` (scrape), `vectors` (embed, store), `questions` (search over HTTP); `report` is the table
//! at the end. `docs` and `site` serve the documentation that came with the Rust toolchain.

pub mod docs;
mod pages;
mod progress;
mod questions;
mod report;
pub mod site;
mod vectors;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use self::docs::Docs;
use self::report::Report;
use self::site::Site;
use super::device::OnDevice;
use super::exit::Exit;
use super::log::StderrLog;
use super::serve::StopSignals;
use super::{Global, output, serve, target};
use crate::call::Principal;
use crate::codes::Code;
use crate::config::ConfigError;
use crate::dispatch::{Call, find_function};
use crate::http::Ingress;
use crate::limits::DRAIN_DEFAULT;
use crate::outbound::Grants;
use crate::sandbox::Program;
use crate::sandbox::log::Level;
use crate::server::{Host, ListenSettings, RunningHost};

/// The app that the demo runs.
const APP: &str = "examples/docs-search";
/// The model that it declares.
const MODEL: &str = "all-minilm-l6-v2";
/// Where the demo listens unless told otherwise, if the port is free.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Scrape the Rust documentation in sandboxes, embed it on a worker, search it over HTTP: the main job on real input.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme demo --once\n  bireme demo --docs ./my-site --question 'how do I install it?'"
)]
pub struct Demo {
    /// End after the questions rather than stay up.
    #[arg(long)]
    once: bool,
    /// Take every page of the installed documentation, not only The Book, the Reference and the Cargo book. Takes hours.
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
    /// Ask this rather than the usual three questions. Can be given several times.
    #[arg(long = "question", value_name = "TEXT")]
    questions: Vec<String>,
    /// Take the model's files from DIR rather than from the network.
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Where to serve the search; 127.0.0.1:8080 or, if that is taken, a free port.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    on: OnDevice,
}

impl Demo {
    pub async fn run(self, global: &Global) -> Result<(), Exit> {
        let mut signals = StopSignals::listen()?;
        let up = tokio::select! {
            ended = self.stages(global) => ended?,
            () = signals.next() => {
                return Err(Exit::new(Code::Interrupted, "interrupted; run it again to start over"));
            }
        };
        if !self.once {
            signals.next().await;
        }
        up.shut_down().await;
        Ok(())
    }

    async fn stages(&self, global: &Global) -> Result<Up, Exit> {
        let started = Instant::now();
        let mut report = Report::default();

        let mut config = global.config(&[])?;
        config.inference.device = self.on.device;
        // A database of its own: the demo neither sees nor disturbs what a host keeps.
        config.directories.data.push("demo");
        let source = self.source().await?;
        config.grants = Grants::parse(&[format!("site={}", source.origin())]).map_err(ConfigError::from)?;

        let log = StderrLog::new(Level::Error);
        let host = Host::build(config, log.clone())?;
        host.inference.check_device().await?;
        serve::take_file_size_signal()?;
        host.store.open_now()?;

        stage("building examples/docs-search");
        let build = Instant::now();
        let app = target::resolve(&app_dir(), &host).await?;
        report.app_bytes = app.component.bytes.len() as u64;
        report.build = build.elapsed();

        let catalogue = host.inference.catalogue();
        if catalogue.get(MODEL).is_err() {
            stage(&format!("fetching the model {MODEL}"));
        }
        let fetch = Instant::now();
        let (catalogue, model_dir) = (catalogue.clone(), self.model_dir.clone());
        super::blocking(move || super::models::pull_model(&catalogue, MODEL, model_dir)).await?;
        report.fetch = fetch.elapsed();

        let program = host.load(&app, &host.config.grants).await?;

        stage(&format!("scraping {}", source.describe()));
        let urls = source.urls()?;
        let follow = matches!(source, Source::Site { .. }).then_some(self.max_pages);
        let scraped = pages::scrape(&host, &program, urls, follow, &log, &mut report).await?;

        stage(&format!("embedding {} passages", output::count(scraped.len() as u64)));
        let segments = vectors::embed(&host, &program, scraped, &log, &mut report).await?;
        stage("storing the index");
        vectors::store(&host, &program, segments, &log, &mut report).await?;

        let ingress = self.bind().await?;
        let running = host.start(ingress, ListenSettings::default()).await?;
        let (host, address) = (&running.host, running.address);
        stage(&format!("asking over HTTP at http://{address}/docs-search/search"));
        let is_rust = self.docs.is_none() && self.site.is_none();
        let answers = questions::ask(address, &self.questions, is_rust).await?;
        report.finish(host, started.elapsed());
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
        Ok(Up { running, source })
    }

    async fn source(&self) -> Result<Source, Exit> {
        if let Some(url) = &self.site {
            let url = url::Url::parse(url).map_err(|error| Exit::usage(format!("`{url}` is no URL: {error}")))?;
            return Ok(Source::Site { url });
        }
        if let Some(dir) = &self.docs {
            let site = Site::open(dir).map_err(|error| Exit::new(Code::BadDocs, error.to_string()))?;
            return Ok(Source::Local { site, pages: html_files(dir)?, what: dir.display().to_string() });
        }
        let missing = |error: docs::DocsError| Exit::new(Code::NoDocs, error.to_string());
        let docs = super::blocking(Docs::find).await.map_err(missing)?;
        let books: &'static [&'static str] = if self.all { &[docs::ALL] } else { &docs::USUAL_BOOKS };
        let (docs, pages) = super::blocking(move || {
            let pages = docs.pages(books);
            (docs, pages)
        })
        .await;
        let pages = pages.map_err(missing)?;
        let site = Site::open(docs.root()).map_err(|error| Exit::new(Code::NoDocs, error.to_string()))?;
        let what = if self.all {
            "all installed Rust documentation".to_owned()
        } else {
            "The Book, the Reference and the Cargo book".to_owned()
        };
        Ok(Source::Local { site, pages, what })
    }

    async fn bind(&self) -> Result<Ingress, Exit> {
        if let Some(listen) = self.listen {
            return serve::bind(crate::config::check_listen(listen)?).await;
        }
        match serve::bind(LISTEN).await {
            Ok(ingress) => Ok(ingress),
            Err(_) => {
                let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                output::note(&format!("{LISTEN} is taken; using a free port instead"));
                serve::bind(free).await
            }
        }
    }
}

/// A demo that answers.
struct Up {
    running: RunningHost,
    source: Source,
}

impl Up {
    async fn shut_down(self) {
        self.running.shut_down(DRAIN_DEFAULT).await;
        // Until here, so that the links of the hits lead somewhere.
        if let Source::Local { site, .. } = self.source {
            site.stop().await;
        }
    }
}

/// What is indexed.
enum Source {
    /// Files that the demo serves on loopback itself.
    Local { site: Site, pages: Vec<String>, what: String },
    /// A site that somebody serves.
    Site { url: url::Url },
}

impl Source {
    fn origin(&self) -> String {
        match self {
            Source::Local { site, .. } => format!("http://{}", site.address()),
            Source::Site { url } => url.origin().ascii_serialization(),
        }
    }

    fn urls(&self) -> Result<Vec<String>, Exit> {
        match self {
            Source::Site { url } => Ok(vec![url.to_string()]),
            Source::Local { site, pages, .. } => {
                let base = url::Url::parse(&format!("http://{}/", site.address())).expect("an address makes a URL");
                // `join` escapes what a file name may hold and a URL may not.
                Ok(pages
                    .iter()
                    .filter_map(|page| base.join(&page.replace('%', "%25")).ok())
                    .map(String::from)
                    .collect())
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Source::Local { pages, what, .. } => {
                format!("{what}: {} files", output::count(pages.len() as u64))
            }
            Source::Site { url } => url.to_string(),
        }
    }
}

fn stage(what: &str) {
    output::note(&format!("▸ {what}"));
}

/// The example in the current directory, else in the tree that this binary was built from.
fn app_dir() -> String {
    if Path::new(APP).join("Cargo.toml").is_file() {
        return APP.to_owned();
    }
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/docs-search").to_owned()
}

fn html_files(dir: &Path) -> Result<Vec<String>, Exit> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            // Links could lead out of the directory, or round in it.
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                files.extend(path.strip_prefix(dir).ok().and_then(Path::to_str).map(str::to_owned));
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Exit::new(Code::BadDocs, format!("no HTML file under `{}`", dir.display())));
    }
    Ok(files)
}

/// Runs one function once and wants its result.
async fn call(
    host: &Host,
    program: &Arc<Program>,
    function: &str,
    input: &impl serde::Serialize,
) -> Result<crate::dispatch::Finished, Exit> {
    let function = find_function(program, function)?;
    let input = crate::call::Payload::json(serde_json::to_vec(input).expect("inputs have string keys only"));
    let call = Call::new(function, input, Principal::Operator);
    Ok(host.dispatcher.call(call).await)
}

/// Returns how many of `count` were done in a second.
fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}
