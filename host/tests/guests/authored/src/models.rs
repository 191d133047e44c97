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

/// Tells what kind of file this is: the place of the likeliest of magika's labels, and how likely it is.
#[function(models = ["magika"])]
fn tells_files(content: Bytes) -> Result<(usize, f32)> {
    let content = content.trim_ascii();
    let part = content.len().min(1024);
    let (first, last) = (&content[..part], &content[content.len() - part..]);
    let padding = || std::iter::repeat_n(256i32, 1024 - part);
    let bytes = |part: &[u8]| part.iter().map(|byte| i32::from(*byte)).collect::<Vec<_>>();
    let all: Vec<i32> = bytes(first).into_iter().chain(padding()).chain(padding()).chain(bytes(last)).collect();
    let outputs = model("magika").infer(&[Tensor::new("bytes", &[1, 2048], &all)?])?;
    let scores = outputs.iter().next().context("the model said nothing")?.values::<f32>()?;
    let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).context("no scores")?;
    Ok((best, scores[best]))
}
