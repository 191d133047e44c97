//! Functions that measure the way to a worker and back, with a model that computes nothing and with one that does.

use std::time::Instant;

use bireme_sdk::prelude::*;

const MODEL: &str = "bireme-noop";

/// Embeds one text and returns the vector's dimension.
#[function(models = ["bireme-noop"])]
pub fn embed(text: String) -> Result<usize> {
    Ok(model(MODEL).embed_flat(&[text])?.dimension)
}

/// Embeds texts with a real model and returns the vectors' dimension.
#[function(models = ["all-minilm-l6-v2"], timeout = "10m")]
pub fn embed_texts(texts: Vec<String>) -> Result<usize> {
    Ok(model("all-minilm-l6-v2").embed_flat(&texts)?.dimension)
}

/// Embeds one text `times` times, one after the other, and returns what each took, in microseconds.
#[function(models = ["bireme-noop"])]
pub fn embed_times(text: String, times: u32) -> Result<Vec<u32>> {
    let model = model(MODEL);
    (0..times)
        .map(|_| {
            let start = Instant::now();
            model.embed_flat(&[&text])?;
            Ok(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX))
        })
        .collect()
}

/// Computes for `rounds` rounds of some nanoseconds, and returns what came of it.
#[function]
pub fn spin(rounds: u64) -> u64 {
    let mut state = rounds | 1;
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    std::hint::black_box(state)
}
