//! `bireme rerank`: relevance of texts to a question, without an app.

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::global::Global;
use super::model::OnModel;
use super::output;
use crate::inference::{Overflow, sigmoid};

/// Rank texts by relevance to a question: one per line, best first, each after its score from 0 to 1.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bireme rerank my-reranker \"what is a trait?\" \"Traits are like interfaces.\" \"Cargo builds.\""
)]
pub(crate) struct Rerank {
    #[command(flatten)]
    on: OnModel,
    /// The question.
    query: String,
    /// The texts to rank.
    #[arg(required = true)]
    documents: Vec<String>,
}

#[derive(Serialize)]
struct Ranking {
    results: Vec<RankedText>,
}

#[derive(Serialize)]
struct RankedText {
    index: usize,
    score: f32,
}

impl Rerank {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let documents = self.documents.clone();
        let scored = self.on.ask(global, async |inference, model, caller| {
            inference.rerank(model, self.query, documents, Overflow::Truncate, caller).await
        });
        let scores = scored.await?.scores;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let results: Vec<RankedText> =
            order.into_iter().map(|index| RankedText { index, score: sigmoid(scores[index]) }).collect();
        if global.json {
            output::line(&serde_json::to_string(&Ranking { results }).expect("string keys and numbers"));
        } else {
            for RankedText { index, score } in results {
                output::line(&format!("{score:.4}  {}", self.documents[index]));
            }
        }
        Ok(())
    }
}
