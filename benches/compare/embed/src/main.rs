//! Bireme's encoder against tract: `compare-embed MODEL GRAPH BOOK ROUNDS`. See `../embed.sh`.

mod inference;
mod passages;
mod rival;
mod worker;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use bireme_kernels::cpu::Isa;
use inference::tokenizer::Tokenizer;
use rival::Rival;
use worker::encoder::Encoder;

const PASSAGES: usize = 1_000;

/// Texts in one of our batches; tract gets one at a time, for a batch of its would need padding.
const BATCH_TEXTS: usize = 32;

const TRACT_VERSION: &str = "0.23.9";

/// What one engine took for all passages, once a round.
#[derive(Default)]
struct Times {
    wall_s: Vec<f64>,
    cpu_s: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, graph, book, rounds] = arguments.as_slice() else {
        return Err("usage: compare-embed MODEL GRAPH BOOK ROUNDS".into());
    };
    let (model, rounds) = (Path::new(model), rounds.parse::<usize>()?.max(1));
    let texts = passages::read(Path::new(book), &Tokenizer::load(model)?, PASSAGES)?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let rival = Rival::load(Path::new(graph))?;
    let all = std::thread::available_parallelism()?.get();

    println!(
        "{PASSAGES} passages, {tokens} tokens (median {} a passage), {rounds} rounds in turns",
        median_len(&texts)
    );
    println!(
        "bireme {} ({}, batches of {BATCH_TEXTS}), tract-onnx {TRACT_VERSION} (one text a run)",
        env!("CARGO_PKG_VERSION"),
        Isa::detect().name()
    );
    println!("{}\n", machine(all));
    println!("engine   threads    min s  median s    max s    CPU s   tokens/s");

    let mut ratios = Vec::new();
    for (name, threads) in if all == 1 { vec![("1t", 1)] } else { vec![("1t", 1), ("all", all)] } {
        let mut encoder = Encoder::load(model, threads)?;
        let (mut ours, mut theirs) = (Times::default(), Times::default());
        for round in 0..rounds {
            let actual = ours.take(|| run(&mut encoder, &texts))?;
            let expected = theirs.take(|| Ok(rival.run(&texts, threads)?))?;
            if round == 0 {
                check_equal(&actual, &expected)?;
            }
        }
        ours.print("bireme", threads, tokens);
        theirs.print("tract", threads, tokens);
        ratios.push((name, theirs.median_s() / ours.median_s()));
    }
    println!();
    for (name, ratio) in ratios {
        println!("RATIO embed_vs_tract_{name} {ratio:.2}");
    }
    Ok(())
}

fn run(encoder: &mut Encoder, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let mut vectors = Vec::with_capacity(texts.len());
    let (mut ids, mut cu_seqlens, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for batch in texts.chunks(BATCH_TEXTS) {
        ids.clear();
        cu_seqlens.clear();
        cu_seqlens.push(0);
        for text in batch {
            ids.extend_from_slice(text);
            cu_seqlens.push(ids.len() as u32);
        }
        encoder.run(&ids, &cu_seqlens, &mut out)?;
        vectors.extend(out.chunks_exact(encoder.dimension()).map(<[f32]>::to_vec));
    }
    Ok(vectors)
}

/// Refuses to compare engines that do not compute the same thing.
fn check_equal(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> Result<(), Box<dyn Error>> {
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let lowest = ours.iter().zip(theirs).map(cosine).fold(f64::INFINITY, f64::min);
    if ours.len() == theirs.len() && lowest > 0.9999 {
        return Ok(());
    }
    Err(format!("the engines disagree: the lowest cosine of two vectors is {lowest}").into())
}

impl Times {
    fn take<T>(&mut self, work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
        let (start, cpu) = (Instant::now(), cpu_s()?);
        let result = work()?;
        self.wall_s.push(start.elapsed().as_secs_f64());
        self.cpu_s.push(cpu_s()? - cpu);
        Ok(result)
    }

    fn median_s(&self) -> f64 {
        median(&self.wall_s)
    }

    fn print(&self, engine: &str, threads: usize, tokens: usize) {
        let min = self.wall_s.iter().copied().fold(f64::INFINITY, f64::min);
        let max = self.wall_s.iter().copied().fold(0.0, f64::max);
        let (middle, cpu) = (self.median_s(), median(&self.cpu_s));
        let rate = tokens as f64 / middle;
        println!("{engine:<8} {threads:>7} {min:>8.2} {middle:>9.2} {max:>8.2} {cpu:>8.2} {rate:>10.0}");
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn median_len(texts: &[Vec<u32>]) -> usize {
    let mut lens: Vec<usize> = texts.iter().map(Vec::len).collect();
    lens.sort_unstable();
    lens[lens.len() / 2]
}

/// The CPU time of this process so far, in the kernel's ticks of 10 ms.
fn cpu_s() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in parentheses; user and system time are the 14th and 15th.
    let after = stat.rsplit_once(')').ok_or("`/proc/self/stat` has no name")?.1;
    let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

fn machine(threads: usize) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    format!("{} with {threads} threads, load average {load} at start", name.map_or("unknown CPU", |(_, name)| name))
}
