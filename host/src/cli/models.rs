//! `bireme models`: installed models, download, import and removal.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::exit::Exit;
use super::global::Global;
use super::{output, table};
use crate::inference::catalogue::{Catalogue, InstalledModel, ModelKind};
use crate::inference::pull::{self, PullProgress, Sources};

/// List, fetch, add and remove models.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme models\n  bireme models pull all-minilm-l6-v2\n  bireme models add my-model ./folder"
)]
pub(crate) struct Models {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// List installed models, and models that can be pulled.
    List,
    /// Fetch a built-in model from the first source that answers, and check each file against its SHA-256.
    Pull {
        /// The model, as `bireme models` lists it.
        name: String,
        /// Take the files from DIR rather than from the network.
        #[arg(long, value_name = "DIR")]
        model_dir: Option<PathBuf>,
    },
    /// Install a model from a directory: config.json, model.safetensors and tokenizer.json, or model.onnx. Or from one
    /// .onnx file.
    Add {
        /// Name for the model, by which functions and commands use it.
        name: String,
        /// Directory of the model's files, or one .onnx file.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Remove a model's files.
    Rm {
        /// The model, as `bireme models` lists it.
        name: String,
    },
}

impl Models {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let catalogue = Catalogue::new(global.directories()?.models);
        match self.command.unwrap_or(ModelsCommand::List) {
            ModelsCommand::List => list(&catalogue, global.json),
            ModelsCommand::Pull { name, model_dir } => {
                let installed = pull_model(&catalogue, &name, model_dir)?;
                show(&installed, global.json, "installed");
                Ok(())
            }
            ModelsCommand::Add { name, path } => {
                show(&catalogue.add(&name, &path)?, global.json, "installed");
                Ok(())
            }
            ModelsCommand::Rm { name } => {
                catalogue.remove(&name)?;
                if global.json {
                    output::line(&json!({ "removed": name }).to_string());
                } else {
                    output::note(&format!("removed {name}"));
                }
                Ok(())
            }
        }
    }
}

/// Fetches a built-in model, with a progress bar.
pub(crate) fn pull_model(
    catalogue: &Catalogue,
    name: &str,
    model_dir: Option<PathBuf>,
) -> Result<InstalledModel, Exit> {
    let sources = Sources { directory: model_dir, ..Sources::from_env() };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {msg} {bytes}/{total_bytes} {bytes_per_sec}");
    bar.set_style(style.expect("the template is a constant"));
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let mut progress = Bar { bar, name: name.to_owned() };
    let installed = pull::pull(catalogue, name, &sources, &mut progress);
    progress.bar.finish_and_clear();
    Ok(installed?)
}

struct Bar {
    bar: ProgressBar,
    name: String,
}

impl PullProgress for Bar {
    fn source(&mut self, name: &str) {
        self.bar.set_message(format!("{} from {name}", self.name));
        // Without a terminal the bar is hidden, so print a line.
        if self.bar.is_hidden() {
            output::note(&format!("fetching {} from {name}", self.name));
        }
    }

    fn bytes(&mut self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

fn to_json(model: &InstalledModel) -> serde_json::Value {
    let mut object = json!({ "name": model.name, "path": model.path, "bytes": model.bytes });
    match &model.kind {
        ModelKind::Encoder { architecture, dimension, max_tokens } => {
            object["kind"] = json!("encoder");
            object["architecture"] = json!(architecture);
            object["dimension"] = json!(dimension);
            object["max_tokens"] = json!(max_tokens);
        }
        ModelKind::Onnx => object["kind"] = json!("onnx"),
    }
    object
}

fn show(model: &InstalledModel, json: bool, done: &str) {
    if json {
        output::line(&json!({ done: to_json(model) }).to_string());
    } else {
        output::note(&format!("{done} {} ({}) in {}", model.name, output::bytes(model.bytes), model.path.display()));
    }
}

fn list(catalogue: &Catalogue, json: bool) -> Result<(), Exit> {
    let listing = catalogue.list()?;
    if json {
        let installed: Vec<_> = listing.installed.iter().map(to_json).collect();
        let broken: Vec<_> =
            listing.broken.iter().map(|(name, error)| json!({ "name": name, "reason": error.to_string() })).collect();
        let available: Vec<_> = listing
            .available
            .iter()
            .map(|model| json!({ "name": model.name, "summary": model.summary, "bytes": model.bytes() }))
            .collect();
        output::line(&json!({ "installed": installed, "broken": broken, "available": available }).to_string());
        return Ok(());
    }
    let mut rows = Vec::new();
    for model in &listing.installed {
        let shape = match &model.kind {
            ModelKind::Encoder { architecture, dimension, max_tokens } => {
                format!("{architecture}, {dimension} dimensions, {max_tokens} tokens")
            }
            ModelKind::Onnx => "ONNX, named tensors".to_owned(),
        };
        rows.push(vec![model.name.clone(), output::bytes(model.bytes), shape]);
    }
    for (name, error) in &listing.broken {
        rows.push(vec![name.clone(), "broken".to_owned(), error.to_string()]);
    }
    for model in &listing.available {
        rows.push(vec![
            model.name.to_owned(),
            format!("{} to pull", output::bytes(model.bytes())),
            model.summary.to_owned(),
        ]);
    }
    output::line(&table::plain(rows));
    Ok(())
}
