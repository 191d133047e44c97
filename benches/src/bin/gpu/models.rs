//! Whole models: the same vectors as on the CPU, then how many a second.

use std::path::Path;
use std::time::{Duration, Instant};

use bireme::limits::BatchLimits;
use bireme::tokenizer::{Overflow, Tokenizer};
use bireme::worker::encoder::Encoder;
use bireme_kernels::cuda::device::Device;

use crate::peak::percent;
use crate::weights::Random;
use crate::{Bench, Failure};

/// Least cosine between a vector in half precision and its reference.
const COSINE_MIN: f64 = 0.999;

/// Texts as token ids.
type Texts = Vec<Vec<u32>>;

/// A model on the device, and the texts that it is run over.
pub(crate) struct Model<'a> {
    name: &'a str,
    dir: &'a Path,
    encoder: Encoder,
    /// Of the lengths that passages have.
    mixed: Texts,
}

impl<'a> Model<'a> {
    /// Loads it; without a file of texts, one a line, the texts are random ids.
    pub(crate) fn load(device: &Device, name: &'a str, dir: &'a Path, texts: Option<&Path>) -> Result<Self, Failure> {
        let encoder = Encoder::load_on(dir, device)?;
        let (in_use, _) = device.memory_use();
        let mebibytes = in_use as f64 / f64::from(1 << 20);
        println!("\n{name}: {} values a vector, {mebibytes:.0} MiB on the device", encoder.dimension());
        let mixed = match texts {
            Some(path) => tokenize(dir, path)?,
            None => random_texts(4_096),
        };
        Ok(Self { name, dir, encoder, mixed })
    }

    pub(crate) fn parity(&mut self) -> Result<(), Failure> {
        parity(self.name, self.dir, &mut self.encoder, &self.mixed)
    }

    pub(crate) fn sweep(&mut self, bench: &Bench) -> Result<(), Failure> {
        let Self { name, dir, encoder, mixed } = self;
        let flop = flop_per_token(dir)?;
        println!("{:<28}{:>16}{:>14}{:>10}{:>12}", "texts × tokens", "embeddings/s", "tokens/s", "MFU", "device");
        for length in [16, 128, 512] {
            for count in [1, 8, 32, 128, 512] {
                let batch: Texts = (0..count).map(|index| ids(index as u64, length)).collect();
                sweep(bench, encoder, name, &format!("{count}x{length}"), &[batch], flop)?;
            }
        }
        sweep(bench, encoder, name, "mixed", &batches(mixed), flop)
    }
}

/// Cuts texts into batches as the host's batcher does with what waits, by the host's own limits.
fn batches(texts: &[Vec<u32>]) -> Vec<Texts> {
    let limits = BatchLimits::default();
    let mut batches: Vec<Texts> = vec![Vec::new()];
    let mut tokens = 0;
    for text in texts {
        let is_full = batches.last().is_some_and(|batch| batch.len() == limits.max_batch_size);
        if is_full || tokens + text.len() > limits.max_batch_tokens {
            batches.push(Vec::new());
            tokens = 0;
        }
        tokens += text.len();
        batches.last_mut().expect("there is one").push(text.clone());
    }
    batches
}

/// The device's vectors against the CPU's, over some texts of every length.
fn parity(name: &str, dir: &Path, on_device: &mut Encoder, texts: &[Vec<u32>]) -> Result<(), Failure> {
    let mut on_cpu = Encoder::load(dir, std::thread::available_parallelism().map_or(1, usize::from))?;
    let mut texts: Texts = texts.iter().take(64).cloned().collect();
    texts.extend([1, 2, 15, 16, 17, 63, 64, 65, 128, 255, 512].map(|length| ids(length as u64, length)));
    let (ids, ends) = packed(&texts);
    let (mut actual, mut expected, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    on_device.run(&ids, &ends, &mut actual)?;
    on_cpu.run(&ids, &ends, &mut expected)?;
    let dimension = on_device.dimension();
    let worst_of = |actual: &[f32], expected: &[f32]| {
        let pairs = actual.chunks(dimension).zip(expected.chunks(dimension));
        pairs.map(|(actual, expected)| cosine(actual, expected)).fold(1.0, f64::min)
    };
    let mut worst = worst_of(&actual, &expected);
    // Alone and a few together, three times, so that the graphs of their shapes run too.
    for count in [1, 3, 31] {
        for (index, few) in texts.chunks(count).enumerate() {
            let (ids, ends) = packed(few);
            for _ in 0..3 {
                on_device.run(&ids, &ends, &mut alone)?;
                worst = worst.min(worst_of(&alone, &expected[index * count * dimension..][..few.len() * dimension]));
            }
        }
    }
    println!("parity      worst cosine of {} texts, alone and together, with the CPU: {worst:.6}", texts.len());
    println!("FIGURE {name}_cosine {worst:.6}");
    if worst < COSINE_MIN {
        return Err(format!("{name}: a vector's cosine with that of the CPU is {worst}, under {COSINE_MIN}").into());
    }
    Ok(())
}

fn sweep(
    bench: &Bench,
    encoder: &mut Encoder,
    name: &str,
    what: &str,
    batches: &[Texts],
    flop: f64,
) -> Result<(), Failure> {
    let packed: Vec<_> = batches.iter().map(|batch| packed(batch)).collect();
    let (texts, tokens) =
        (batches.iter().map(Vec::len).sum::<usize>(), packed.iter().map(|(ids, _)| ids.len()).sum::<usize>());
    let mut out = Vec::new();
    let mut pass = || -> Result<Duration, Failure> {
        let mut nanoseconds = 0;
        for (ids, ends) in &packed {
            nanoseconds += encoder.run(ids, ends, &mut out)?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    };
    for _ in 0..3 {
        pass()?;
    }
    let (mut walls, mut devices) = (Vec::new(), Vec::new());
    let until = Instant::now() + Duration::from_secs_f64(bench.seconds);
    while walls.len() < 5 || (Instant::now() < until && walls.len() < 10_000) {
        let started = Instant::now();
        devices.push(pass()?.as_secs_f64());
        walls.push(started.elapsed().as_secs_f64());
    }
    let (wall, device) = (median(&mut walls), median(&mut devices));
    let tflops = flop * tokens as f64 / wall / 1e12;
    println!(
        "{what:<28}{:>16.0}{:>14.0}{:>10}{:>12}",
        texts as f64 / wall,
        tokens as f64 / wall,
        percent(tflops, bench.peak.tflops),
        percent(device, Some(wall))
    );
    println!("FIGURE {name}_{what}_per_s {:.0}", texts as f64 / wall);
    Ok(())
}

/// `config.json` of a BERT, as far as its products tell.
#[derive(serde::Deserialize)]
struct Shape {
    num_hidden_layers: usize,
    hidden_size: usize,
    intermediate_size: usize,
}

/// The operations of a token's products: two for each weight of the layers. Attention's own are left out, as is usual.
fn flop_per_token(dir: &Path) -> Result<f64, Failure> {
    let shape: Shape = serde_json::from_str(&std::fs::read_to_string(dir.join("config.json"))?)?;
    let Shape { num_hidden_layers: layers, hidden_size: hidden, intermediate_size: intermediate } = shape;
    Ok(2.0 * (layers * hidden * (4 * hidden + 2 * intermediate)) as f64)
}

fn packed(texts: &[Vec<u32>]) -> (Vec<u32>, Vec<u32>) {
    let (mut ids, mut ends) = (Vec::new(), vec![0]);
    for text in texts {
        ids.extend_from_slice(text);
        ends.push(ids.len() as u32);
    }
    (ids, ends)
}

fn tokenize(dir: &Path, path: &Path) -> Result<Texts, Failure> {
    let tokenizer = Tokenizer::load(dir)?;
    let lines = std::fs::read_to_string(path)?;
    lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| Ok(tokenizer.encode(line, Overflow::Truncate)?))
        .collect()
}

/// Lengths as passages have them: most of some 20 to 200 tokens, a few as long as the model takes.
fn random_texts(count: u64) -> Texts {
    (0..count)
        .map(|index| {
            let mut random = Random(index);
            let spread: f32 = (0..4).map(|_| random.next()).sum();
            ids(index, ((60.0 * spread.exp()) as usize).clamp(4, 512))
        })
        .collect()
}

/// A text of a length with ids that every vocabulary has, between the marks of its ends.
fn ids(seed: u64, length: usize) -> Vec<u32> {
    let mut random = Random(seed.wrapping_mul(31) + length as u64);
    let mut ids: Vec<u32> = (0..length).map(|_| 1_000 + (random.bits() % 28_000) as u32).collect();
    ids[0] = 101;
    ids[length - 1] = 102;
    ids
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
