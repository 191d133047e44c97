//! Every way to ask a model.

use bireme_sdk::model::Ranked;
use bireme_sdk::prelude::*;
use bireme_sdk::{Classes, Tensor};

/// Embeds texts that must fit the model.
#[function(models = ["all-minilm-l6-v2"])]
fn embed_whole(texts: Vec<String>) -> Result<Vec<Vector>> {
    Ok(model("all-minilm-l6-v2").truncate(false).embed(&texts)?)
}

/// Embeds texts as a tensor.
#[function(models = ["all-minilm-l6-v2"])]
fn infer_texts(texts: Vec<String>) -> Result<(Vec<u64>, Vec<f32>)> {
    let outputs = model("all-minilm-l6-v2").infer(&[Tensor::strings("text", &texts)])?;
    let embedding = outputs.get("embedding")?;
    Ok((embedding.shape().to_vec(), embedding.values()?))
}

/// Embeds texts one by one, as long as there are tokens for one call.
#[function(models = ["all-minilm-l6-v2"], tokens = 5)]
fn embed_sparingly(texts: Vec<String>) -> Result<usize> {
    for (index, text) in texts.iter().enumerate() {
        model("all-minilm-l6-v2").embed(&[text]).with_context(|| format!("text {index}"))?;
    }
    Ok(texts.len())
}

/// Embeds a text, as long as there are tokens for today.
#[function(models = ["all-minilm-l6-v2"], tokens_per_day = 5)]
fn embed_daily(text: String) -> Result<usize> {
    Ok(model("all-minilm-l6-v2").embed(&[text])?.len())
}

/// Gives the model an input that it does not have.
#[function(models = ["all-minilm-l6-v2"])]
fn infer_nonsense() -> Result<()> {
    model("all-minilm-l6-v2").infer(&[Tensor::scalar("nonsense", 1.0f64)])?;
    Ok(())
}

/// Sorts documents.
#[function(models = ["reranker"])]
fn rank(query: String, documents: Vec<String>) -> Result<(Vec<f32>, Vec<Ranked>)> {
    let model = model("reranker");
    Ok((model.rerank(&query, &documents)?, model.rank(&query, &documents)?))
}

/// Classifies texts.
#[function(models = ["classifier"])]
fn classify(texts: Vec<String>) -> Result<Classes> {
    Ok(model("classifier").classify(&texts)?)
}
