//! `bireme embed`: vectors of texts, straight from the batcher.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::{Global, output};
use crate::inference::Inference;

/// Loading a large model from a cold disk counts too.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Embed texts with an installed model: one JSON array of numbers a line.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bireme embed all-minilm-l6-v2 --json -- \"a text\" \"another\""
)]
pub struct Embed {
    model: String,
    #[arg(required = true)]
    texts: Vec<String>,
}

impl Embed {
    pub async fn run(self, global: &Global) -> Result<(), Exit> {
        let inference = Inference::new(global.config(&[])?.inference);
        let embed = inference.embed(&self.model, self.texts, Instant::now() + TIMEOUT);
        let embedded = tokio::select! {
            embedded = embed => embedded?,
            _ = tokio::signal::ctrl_c() => return Err(Exit::new(130, "interrupted", "interrupted")),
        };
        inference.shut_down().await;
        let vectors: Vec<&[f32]> = embedded
            .values
            .chunks(embedded.dimension as usize)
            .collect();
        if global.json {
            output::line(&json!({ "embeddings": vectors }).to_string());
        } else {
            for vector in vectors {
                output::line(&json!(vector).to_string());
            }
        }
        Ok(())
    }
}
