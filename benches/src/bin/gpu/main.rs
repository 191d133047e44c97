//! A CUDA device with our kernels and models: correctness and speed.
//!
//!     bireme-gpu [--device N] [--model DIR]... [--shape minilm|bge-base|bge-large]... [--texts FILE]
//!                [--seconds S] [--peak-tflops T] [--peak-gbps G] [--parity only]
//!
//! Prints lines for people, then `FIGURE name value` and `RATIO name value`. Ends with status 1 if a model's vectors
//! are not those of the CPU. `benches/gpu.sh` runs it beside the others; it needs nothing but the driver.

#![expect(clippy::print_stdout, reason = "a program that reports")]

mod kernels;
mod models;
mod peak;
mod weights;

use std::path::PathBuf;
use std::time::Duration;

use bireme_kernels::cuda::device::{Device, DeviceError, DeviceOptions, Event};

use self::peak::Peak;
use self::weights::Shape;

type Failure = Box<dyn std::error::Error>;

/// Options of the command line.
struct Options {
    ordinal: u32,
    models: Vec<PathBuf>,
    shapes: Vec<Shape>,
    texts: Option<PathBuf>,
    seconds: f64,
    peak_tflops: Option<f64>,
    peak_gbps: Option<f64>,
    /// Nothing is timed.
    is_parity_only: bool,
}

fn main() -> Result<(), Failure> {
    let options = parse(std::env::args().skip(1))?;
    let open = |use_cublaslt| Device::open(DeviceOptions { ordinal: options.ordinal, budget: None, use_cublaslt });
    let device = open(true)?;
    device.self_check()?;
    let info = device.info();
    let peak = Peak::of(&info.name).or(options.peak_tflops, options.peak_gbps);
    println!(
        "device      {} (compute capability {}.{})",
        info.name, info.compute_capability.0, info.compute_capability.1
    );
    println!("memory      {:.1} GiB", info.memory_bytes as f64 / f64::from(1 << 30));
    println!("cuBLASLt    {}", info.cublaslt.map_or("not found: products are our own".to_owned(), |it| it.to_string()));
    println!("peak        {peak}");

    let bench = Bench { seconds: options.seconds, peak };
    if !options.is_parity_only {
        kernels::run(&bench, &device, &open(false)?)?;
    }
    let mut dirs: Vec<(String, PathBuf)> = options.models.iter().map(|dir| (weights::name(dir), dir.clone())).collect();
    let made = tempfile::tempdir()?;
    for shape in &options.shapes {
        let dir = made.path().join(shape.name);
        shape.write(&dir)?;
        dirs.push((shape.name.to_owned(), dir));
    }
    for (name, dir) in &dirs {
        let mut model = models::Model::load(&device, name, dir, options.texts.as_deref())?;
        model.parity()?;
        if !options.is_parity_only {
            model.sweep(&bench)?;
        }
    }
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, Failure> {
    let mut options = Options {
        ordinal: 0,
        models: Vec::new(),
        shapes: Vec::new(),
        texts: None,
        seconds: 1.0,
        peak_tflops: None,
        peak_gbps: None,
        is_parity_only: false,
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` wants a value"))?;
        match word.as_str() {
            "--device" => options.ordinal = value.parse()?,
            "--model" => options.models.push(value.into()),
            "--shape" => options.shapes.push(Shape::named(&value).ok_or_else(|| format!("no shape `{value}`"))?),
            "--texts" => options.texts = Some(value.into()),
            "--seconds" => options.seconds = value.parse()?,
            "--peak-tflops" => options.peak_tflops = Some(value.parse()?),
            "--parity" if value == "only" => options.is_parity_only = true,
            "--peak-gbps" => options.peak_gbps = Some(value.parse()?),
            _ => return Err(format!("`{word}` is no option").into()),
        }
    }
    if options.models.is_empty() && options.shapes.is_empty() {
        options.shapes = vec![Shape::MINILM, Shape::BGE_BASE];
    }
    Ok(options)
}

/// Settings of the measurements.
struct Bench {
    seconds: f64,
    peak: Peak,
}

impl Bench {
    /// Times queued work on the device: the median over rounds, each between two marks around so many repeats that it
    /// lasts for a millisecond at least.
    fn time(
        &self,
        device: &Device,
        mut queue: impl FnMut() -> Result<(), DeviceError>,
    ) -> Result<Duration, DeviceError> {
        let (start, end) = (Event::new(device)?, Event::new(device)?);
        let mut round = |repeats: u32| {
            start.record()?;
            for _ in 0..repeats {
                queue()?;
            }
            end.record()?;
            device.synchronize()?;
            end.nanoseconds_since(&start)
        };
        // The first loads what it takes; the second says how many make a round.
        round(2)?;
        let once = round(4)? / 4;
        let repeats = (1_000_000 / once.max(1)).clamp(1, 1_000) as u32;
        let rounds = ((self.seconds * 1e9 / 4.0) as u64 / (once.max(1) * u64::from(repeats))).clamp(5, 200);
        let mut nanoseconds = Vec::new();
        for _ in 0..rounds {
            nanoseconds.push(round(repeats)? as f64 / f64::from(repeats));
        }
        nanoseconds.sort_by(f64::total_cmp);
        Ok(Duration::from_nanos(nanoseconds[nanoseconds.len() / 2] as u64))
    }
}
