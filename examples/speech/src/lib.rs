//! Finds where somebody speaks in a recording.
//!
//! The model is silero-vad: it takes a piece of sound of 32 ms, with the 4 ms before it and what it remembers of all
//! before, and says how likely somebody speaks in it. So one recording is one request after another; many recordings at
//! once (`bireme map`) share the worker's batches.
//!
//! ```sh
//! bireme models pull silero-vad
//! bireme run examples/speech::speech @recording.wav
//! ```

#[cfg(test)]
mod tests;
mod wav;

use bireme_sdk::Tensor;
use bireme_sdk::prelude::*;

use crate::wav::Wav;

const RATE: u32 = 16_000;
/// Samples of one piece.
const PIECE: usize = 512;
/// Samples before a piece that the model hears again.
const BEFORE: usize = 64;
/// From here on somebody speaks.
const THRESHOLD: f32 = 0.5;
/// A shorter pause, in pieces, is part of the speech around it.
const PAUSE_PIECES: usize = 3;

/// Somebody speaks, in seconds from the start of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speech {
    pub from: f64,
    pub to: f64,
}

/// Tells where somebody speaks in a WAV file of 16 kHz and 16 bits.
#[function(models = ["silero-vad"], timeout = "2m")]
pub fn speech(recording: Bytes) -> Result<Vec<Speech>> {
    let wav = Wav::parse(&recording).map_err(|error| Failure::terminal(error.to_string()))?;
    if wav.rate != RATE {
        return Err(Failure::terminal(format!("the recording has {} samples a second; this takes {RATE}", wav.rate)));
    }
    let likely = listen(&wav.samples)?;
    Ok(spans(&likely))
}

/// Says for each piece how likely somebody speaks in it.
fn listen(samples: &[f32]) -> Result<Vec<f32>> {
    let model = model("silero-vad");
    let mut state = Tensor::new("state", &[2, 1, 128], &[0.0f32; 2 * 128])?;
    let mut heard = vec![0.0; BEFORE];
    let mut likely = Vec::with_capacity(samples.len().div_ceil(PIECE));
    for piece in samples.chunks(PIECE) {
        heard.extend_from_slice(piece);
        // The last piece ends in silence.
        heard.resize(BEFORE + PIECE, 0.0);
        let input = Tensor::new("input", &[1, heard.len()], &heard)?;
        let outputs = model.infer(&[input, state, Tensor::scalar("sr", i64::from(RATE))])?;
        likely.push(*outputs.get("output")?.values::<f32>()?.first().context("the model said nothing")?);
        state = Tensor::new("state", &[2, 1, 128], &outputs.get("stateN")?.values::<f32>()?)?;
        heard.drain(..PIECE);
    }
    Ok(likely)
}

/// Joins pieces in which somebody speaks.
fn spans(likely: &[f32]) -> Vec<Speech> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for (piece, _) in likely.iter().enumerate().filter(|(_, likely)| **likely >= THRESHOLD) {
        match spans.last_mut() {
            Some((_, end)) if piece - *end < PAUSE_PIECES => *end = piece + 1,
            _ => spans.push((piece, piece + 1)),
        }
    }
    let seconds = |piece: usize| (piece * PIECE) as f64 / f64::from(RATE);
    spans.into_iter().map(|(from, to)| Speech { from: seconds(from), to: seconds(to) }).collect()
}
