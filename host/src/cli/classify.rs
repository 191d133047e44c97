//! `bireme classify`: label scores of texts, without an app.

use clap::Args;
use serde::{Serialize, Serializer};

use super::exit::Exit;
use super::global::Global;
use super::model::OnModel;
use super::output;
use crate::inference::{Inputs, Overflow};

/// Classify texts: one JSON object per line, with a score for each label.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme classify my-classifier --json -- \"a text\" \"another\"")]
pub(crate) struct Classify {
    #[command(flatten)]
    on: OnModel,
    /// The texts; behind `--` where one begins with a dash.
    #[arg(required = true)]
    texts: Vec<String>,
}

impl Classify {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let texts = Inputs::Texts(self.texts);
        let classified = self.on.ask(global, async |inference, model, caller| {
            inference.classify(model, texts, Overflow::Truncate, caller).await
        });
        let classified = classified.await?;
        let labels = &classified.labels;
        let texts = classified.scores.chunks(labels.len()).map(|scores| LabelScores { labels, scores });
        if global.json {
            output::line(&to_json(&Classification { classified: texts.collect() }));
        } else {
            texts.for_each(|text| output::line(&to_json(&text)));
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Classification<'a> {
    classified: Vec<LabelScores<'a>>,
}

/// Scores of one text. Not a `Value`, which would print each `f32` as a double.
struct LabelScores<'a> {
    labels: &'a [String],
    scores: &'a [f32],
}

impl Serialize for LabelScores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.labels.iter().zip(self.scores))
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("string keys and numbers")
}
