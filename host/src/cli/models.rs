//! `bireme models`: installed models, download, import and removal.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::exit::Exit;
use super::global::Global;
use super::{output, table};
use crate::inference::builtin_models::{BUILTIN_MODELS, BuiltinModel};
use crate::inference::catalogue::{Catalogue, InstalledModel, ModelKind};
use crate::inference::pull::{self, Attempt, PullProgress, Sources};
use crate::logs::printable;

/// List, fetch, add and remove models.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme models\n  bireme models available\n  bireme models pull all-minilm-l6-v2\n  bireme models add my-model ./folder"
)]
pub(crate) struct Models {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// List installed models, and models that can be pulled.
    List,
    /// List the models that can be pulled by name: task, size, licence, purpose, and whether they are installed.
    Available,
    /// Fetch a built-in model from the first source that answers, and check each file against its SHA-256.
    Pull {
        /// Name of a built-in model, such as all-minilm-l6-v2; `bireme models available` lists them.
        name: String,
        /// Take the files from DIR rather than from the network.
        #[arg(long, value_name = "DIR")]
        model_dir: Option<PathBuf>,
    },
    /// Install a model from a directory: config.json, model.safetensors and tokenizer.json, or model.onnx. Or from one
    /// .onnx file.
    Add {
        /// Name for the model, by which functions and requests ask for it.
        name: String,
        /// Directory of the model's files, or one .onnx file.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Remove a model's files.
    Rm {
        /// Name of an installed model.
        name: String,
    },
}

impl Models {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let catalogue = Catalogue::new(global.directories()?.models);
        match self.command.unwrap_or(ModelsCommand::List) {
            ModelsCommand::List => list(&catalogue, global.json),
            ModelsCommand::Available => available(&catalogue, global.json),
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
    bar.set_style(style("{spinner} {msg}"));
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let mut progress = Bar { bar, name: name.to_owned(), has_bytes: false };
    let installed = pull::pull(catalogue, name, &sources, &mut progress);
    progress.bar.finish_and_clear();
    Ok(installed?)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants")
}

struct Bar {
    bar: ProgressBar,
    name: String,
    /// Whether the present source has given any.
    has_bytes: bool,
}

impl PullProgress for Bar {
    fn source(&mut self, name: &str, failed: Option<&Attempt>) {
        // A bar that is hidden, without a terminal, prints nothing.
        let print = |text: &str| if self.bar.is_hidden() { output::note(text) } else { self.bar.println(text) };
        if let Some(Attempt { source, error }) = failed {
            print(&printable(&format!("{source} did not give {}: {error}", self.name)));
        }
        if self.bar.is_hidden() {
            print(&format!("fetching {} from {name}", self.name));
        }
        self.has_bytes = false;
        self.bar.set_style(style("{spinner} {msg}"));
        self.bar.set_message(format!("fetching {} from {name}", self.name));
    }

    fn bytes(&mut self, done: u64, total: u64) {
        // The rate is that of the bytes, not of the wait for the first of them.
        if !std::mem::replace(&mut self.has_bytes, true) {
            self.bar.reset();
            self.bar.set_style(style("{spinner} {msg} {bytes}/{total_bytes} {bytes_per_sec}"));
        }
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
        let available: Vec<_> = listing.available.iter().map(|model| builtin_to_json(model)).collect();
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

/// Prints the built-in models.
fn available(catalogue: &Catalogue, json: bool) -> Result<(), Exit> {
    let installed = catalogue.list()?.installed;
    let is_installed = |model: &BuiltinModel| installed.iter().any(|installed| installed.name == model.name);
    if json {
        let models = BUILTIN_MODELS.iter().map(|model| {
            let mut object = builtin_to_json(model);
            object["installed"] = json!(is_installed(model));
            object
        });
        output::line(&json!({ "models": models.collect::<Vec<_>>() }).to_string());
        return Ok(());
    }
    let mut rows = vec![["NAME", "TASK", "SIZE", "LICENCE", "INSTALLED", "PURPOSE"].map(str::to_owned).to_vec()];
    rows.extend(BUILTIN_MODELS.iter().map(|model| {
        let installed = if is_installed(model) { "yes" } else { "no" };
        let size = output::bytes(model.bytes());
        let [name, task, license, summary] = [model.name, model.task, model.license, model.summary].map(str::to_owned);
        vec![name, task, size, license, installed.to_owned(), summary]
    }));
    output::line(&table::fitted(&rows, &[5]));
    output::note("`bireme models pull NAME` fetches one; `bireme models add NAME DIR` installs any other");
    Ok(())
}

fn builtin_to_json(model: &BuiltinModel) -> serde_json::Value {
    json!({
        "name": model.name,
        "task": model.task,
        "summary": model.summary,
        "bytes": model.bytes(),
        "license": model.license,
    })
}
