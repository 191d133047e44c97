//! `bireme embed`: embeddings of texts, without an app.

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::global::Global;
use super::model::OnModel;
use super::output;
use crate::inference::{Inputs, Overflow};

/// Embed texts with an installed model: one JSON array of numbers per line.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme embed all-minilm-l6-v2 --json -- \"a text\" \"another\"")]
pub(crate) struct Embed {
    #[command(flatten)]
    on: OnModel,
    /// The texts; behind `--` where one begins with a dash.
    #[arg(required = true)]
    texts: Vec<String>,
}

impl Embed {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let texts = Inputs::Texts(self.texts);
        let embedded = self.on.ask(global, async |inference, model, caller| {
            inference.embed(model, texts, Overflow::Truncate, caller).await
        });
        let embedded = embedded.await?;
        // Not a `Value`, which would print each `f32` as a double, with meaningless digits.
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
