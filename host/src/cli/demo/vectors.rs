//! Embedding and storage stages: maps `embed` over chunks of passages and `store` over segments, then commits the
//! index.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::value::RawValue;

use super::app;
use super::pages::LocatedPassage;
use super::progress::Progress;
use super::report::Report;
use crate::call::{Payload, Principal, Priority};
use crate::cli::exit::Exit;
use crate::cli::log::StderrLog;
use crate::codes::Code;
use crate::dispatch::find_function;
use crate::ids::CallId;
use crate::sandbox::{MapOutcome, MapRun, Order, Program};
use crate::server::Host;

/// Texts per call.
const CHUNK_LEN: usize = 32;
/// Passages per segment: the limit of docs-search.
const SEGMENT_LEN: usize = 512;
/// Outcomes taken at a time.
const TAKE_MAX: usize = 64;

/// Input of `store`.
#[derive(Serialize)]
pub(crate) struct Segment {
    generation: String,
    number: u32,
    passages: Vec<LocatedPassage>,
    /// Vectors in the guest's own JSON, unparsed.
    vectors: Vec<Box<RawValue>>,
}

/// Embeds all passages.
pub(crate) async fn embed(
    host: &Host,
    program: &Arc<Program>,
    passages: Vec<LocatedPassage>,
    log: &StderrLog,
    report: &mut Report,
) -> Result<Vec<Segment>, Exit> {
    let started = Instant::now();
    report.passages = passages.len() as u64;
    let inputs = passages.chunks(CHUNK_LEN).map(|chunk| {
        let texts: Vec<String> = chunk
            .iter()
            .map(|located| format!("{}\n{}", located.passage.heading.join(" > "), located.passage.text))
            .collect();
        serde_json::json!({ "texts": texts }).to_string()
    });
    let mut progress = Progress::new(report.passages, "passages");
    log.above(&progress.bar);
    let mut vectors: Vec<Box<RawValue>> = Vec::with_capacity(passages.len());
    let total = report.passages;
    map_all(host, program, "embed", inputs, |outcome| {
        report.sandboxes += u64::from(outcome.receipt.attempts);
        report.inference.add(&outcome.receipt.inference);
        let payload = outcome.result?;
        let chunk: Vec<Box<RawValue>> = serde_json::from_slice(&payload.data)
            .map_err(|error| Exit::new(Code::BadOutput, format!("`embed` returned no list of vectors: {error}")))?;
        vectors.extend(chunk);
        progress.set(vectors.len() as u64, total, 0);
        Ok(())
    })
    .await?;
    if vectors.len() != passages.len() {
        let message = format!("`embed` returned {} vectors for {} passages", vectors.len(), passages.len());
        return Err(Exit::new(Code::BadOutput, message));
    }
    report.embed = started.elapsed();

    let generation = CallId::generate().to_string();
    let mut segments = Vec::new();
    let (mut passages, mut vectors) = (passages.into_iter(), vectors.into_iter());
    for number in 0.. {
        let part: Vec<LocatedPassage> = passages.by_ref().take(SEGMENT_LEN).collect();
        if part.is_empty() {
            break;
        }
        let vectors = vectors.by_ref().take(part.len()).collect();
        segments.push(Segment { generation: generation.clone(), number, passages: part, vectors });
    }
    Ok(segments)
}

/// Stores all segments, then commits them as the searched index.
pub(crate) async fn store(
    host: &Host,
    program: &Arc<Program>,
    segments: Vec<Segment>,
    log: &StderrLog,
    report: &mut Report,
) -> Result<(), Exit> {
    let started = Instant::now();
    let generation = segments.first().map(|segment| segment.generation.clone()).unwrap_or_default();
    let total = segments.len() as u64;
    let mut progress = Progress::new(total, "segments");
    log.above(&progress.bar);
    let mut done = 0;
    // Direct to text: a `Value` would parse and print every number again.
    let inputs = segments.into_iter().map(|segment| {
        let segment = serde_json::to_string(&segment).expect("segments have string keys only");
        format!("{{\"segment\":{segment}}}")
    });
    map_all(host, program, "store", inputs, |outcome| {
        report.sandboxes += u64::from(outcome.receipt.attempts);
        outcome.result?;
        done += 1;
        progress.set(done, total, 0);
        Ok(())
    })
    .await?;
    let manifest = serde_json::json!({
        "manifest": { "generation": generation, "segments": total, "passages": report.passages, "model": app::MODEL },
    });
    let committed = app::call(host, program, "commit", &manifest).await?;
    report.sandboxes += u64::from(committed.receipt.attempts);
    committed.result?;
    report.store = started.elapsed();
    Ok(())
}

/// Maps a function over `inputs` in order and passes each outcome to `take`, whose error ends the map.
async fn map_all(
    host: &Host,
    program: &Arc<Program>,
    function: &str,
    mut inputs: impl Iterator<Item = String>,
    mut take: impl FnMut(MapOutcome) -> Result<(), Exit>,
) -> Result<(), Exit> {
    let function = find_function(program, function)?;
    let mut map = host.dispatcher.map(function, Order::Input, Priority::Normal, Principal::Operator);
    let mut waiting: VecDeque<Payload> = VecDeque::new();
    let mut has_ended = false;
    loop {
        // As many as fit; the rest waits for the next round.
        while !has_ended {
            if waiting.is_empty() {
                match inputs.next() {
                    Some(input) => waiting.push_back(Payload::json(input)),
                    None => {
                        has_ended = true;
                        map.finish();
                        break;
                    }
                }
            }
            if map.push(&mut waiting)? == 0 {
                break;
            }
        }
        let outcomes = map.next(TAKE_MAX).await;
        if outcomes.is_empty() {
            return Ok(());
        }
        outcomes.into_iter().try_for_each(&mut take)?;
    }
}
