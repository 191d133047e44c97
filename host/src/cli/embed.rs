//! `bireme embed`: vectors of texts, straight from the batcher.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::device::OnDevice;
use super::exit::Exit;
use super::{Global, output};
use crate::codes::Code;
use crate::inference::{Caller, Inference, InferenceConfig, Inputs, Overflow, Tenant};

/// Loading a large model from a cold disk counts too.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Embed texts with an installed model: one JSON array of numbers a line.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme embed all-minilm-l6-v2 --json -- \"a text\" \"another\"")]
pub struct Embed {
    #[command(flatten)]
    on: OnDevice,
    model: String,
    #[arg(required = true)]
    texts: Vec<String>,
}

impl Embed {
    pub async fn run(self, global: &Global) -> Result<(), Exit> {
        // Before a worker is there to be ended.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let inference = Inference::new(InferenceConfig { device: self.on.device, ..global.config(&[])?.inference });
        inference.check_device().await?;
        let caller = Caller::new(Tenant::way_in("cli"), Instant::now() + TIMEOUT);
        let embed = inference.embed(&self.model, Inputs::Texts(self.texts), Overflow::Truncate, &caller);
        let embedded = tokio::select! {
            embedded = embed => embedded?,
            _ = interrupt.recv() => return Err(Exit::new(Code::Interrupted, "interrupted")),
        };
        inference.shut_down().await;
        // Not by way of a `Value`: that prints each number as a double, with digits that mean nothing.
        let vectors: Vec<&[f32]> = embedded.values.chunks(embedded.dimension as usize).collect();
        if global.json {
            output::line(&to_json(&Embeddings { embeddings: &vectors }));
        } else {
            vectors.iter().for_each(|vector| output::line(&to_json(vector)));
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Embeddings<'a> {
    embeddings: &'a [&'a [f32]],
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("lists of numbers")
}
