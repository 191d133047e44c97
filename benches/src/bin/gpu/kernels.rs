//! Each kernel's time, as a part of what memory or arithmetic allow.

use bireme_kernels::cpu::{Activation, Pooling};
use bireme_kernels::cuda::device::{BatchShape, Device, DeviceError, Embedding, Inputs, LayerNorm, Linear, Tensor};
use bireme_kernels::cuda::{AddRmsNorm, BiasGelu, Convert, DType, Launch, LaunchError, SiluGate, Softmax};
use bireme_kernels::{Sequences, Vocabulary};

use crate::peak::percent;
use crate::weights::Random;
use crate::{Bench, Failure};

/// Rows of what is bound by memory: more than any second-level cache holds.
const ROWS: usize = 65_536;
const WIDTH: usize = 768;
const VOCABULARY: Vocabulary = Vocabulary { words: 30_522, positions: 512, types: 2 };

pub(crate) fn run(bench: &Bench, device: &Device, own: &Device) -> Result<(), Failure> {
    println!(
        "\nkernels bound by memory, f16, {ROWS} rows of {WIDTH}\n{:<18}{:>12}{:>12}{:>10}",
        "", "µs", "GB/s", "of peak"
    );
    memory_bound(bench, device)?;
    println!(
        "\nproducts, f16, sums in f32\n{:<26}{:>14}{:>10}{:>14}{:>10}",
        "rows × inputs × outputs", "cuBLASLt", "of peak", "our own", "of peak"
    );
    products(bench, device, own)?;
    println!(
        "\nattention, f16, 65,536 tokens\n{:<26}{:>12}{:>12}{:>10}",
        "heads × depth, length", "µs", "TFLOP/s", "of peak"
    );
    attention(bench, device)
}

fn random(device: &Device, len: usize) -> Result<Tensor, DeviceError> {
    let mut random = Random(7);
    let some: Vec<f32> = (0..len.min(1 << 20)).map(|_| random.next()).collect();
    let values: Vec<f32> = some.iter().copied().cycle().take(len).collect();
    device.upload(DType::F16, &values)
}

fn memory_bound(bench: &Bench, device: &Device) -> Result<(), Failure> {
    let len = ROWS * WIDTH;
    let (x, y, gates) = (random(device, len)?, random(device, len)?, random(device, 2 * len)?);
    let f32s = device.tensor(DType::F32, len)?;
    let (weight, bias) = (vec![1.0; WIDTH], vec![0.1; WIDTH]);
    let norm = || LayerNorm::new(device, DType::F16, &weight, &bias, 1e-12);
    let add_norm = norm()?;
    let (scale, shift) = (random(device, WIDTH)?, random(device, WIDTH)?);

    let inputs = inputs(device, ROWS / 128, 128)?;
    let batch = inputs.batch()?;
    let words: Vec<f32> = (0..30_522 * WIDTH).map(|index| (index % 17) as f32 * 0.01).collect();
    let embedding = Embedding::new(&words, &vec![0.1; 512 * WIDTH], &vec![0.2; 2 * WIDTH], norm()?)?;
    let pooled = device.tensor(DType::F32, ROWS / 128 * WIDTH)?;

    // Bytes that each must move: what it reads once and what it writes.
    let value = 2 * len;
    report(bench, device, "embedding", 3 * value, || embedding.run(&batch, &y))?;
    report(bench, device, "add_layer_norm", 3 * value, || add_norm.add_residual(&x, &y, ROWS))?;
    report(bench, device, "pooling", value, || device.pool(Pooling::Mean, &x, &batch, WIDTH, true, &pooled))?;
    let queue = |launch: Result<Launch, LaunchError>| -> Result<(), DeviceError> { queue(device, &launch?) };
    let rms = AddRmsNorm {
        x: Some(device.all(&x)?),
        residual: device.all(&y)?,
        weight: device.all(&scale)?,
        out: device.all(&x)?,
        epsilon: 1e-6,
    };
    report(bench, device, "add_rms_norm", 4 * value, || queue(rms.launch()))?;
    let gelu = BiasGelu { x: device.all(&x)?, bias: device.all(&shift)? };
    report(bench, device, "bias_gelu", 2 * value, || queue(gelu.launch()))?;
    let silu = SiluGate { x: device.all(&gates)?, out: device.all(&y)?, width: WIDTH };
    report(bench, device, "silu_gate", 3 * value, || queue(silu.launch()))?;
    let softmax = Softmax { x: device.all(&x)?, width: WIDTH, scale: 1.0 };
    report(bench, device, "softmax", 2 * value, || queue(softmax.launch()))?;
    let convert = Convert { from: device.all(&x)?, to: device.all(&f32s)? };
    report(bench, device, "f16_to_f32", 3 * value, || queue(convert.launch()))
}

#[expect(unsafe_code, reason = "ops without a layer are launched by their addresses")]
fn queue(device: &Device, launch: &Launch) -> Result<(), DeviceError> {
    // SAFETY: the callers make launches of whole tensors, which live until after the last `synchronize` of
    // `Bench::time`.
    unsafe { device.launch_at(launch) }
}

fn report(
    bench: &Bench,
    device: &Device,
    name: &str,
    bytes: usize,
    work: impl FnMut() -> Result<(), DeviceError>,
) -> Result<(), Failure> {
    let time = bench.time(device, work)?.as_secs_f64();
    let gbps = bytes as f64 / time / 1e9;
    println!("{name:<18}{:>12.1}{gbps:>12.0}{:>10}", time * 1e6, percent(gbps, bench.peak.gbps));
    println!("FIGURE {name}_gbps {gbps:.0}");
    Ok(())
}

fn products(bench: &Bench, device: &Device, own: &Device) -> Result<(), Failure> {
    let shapes = [
        (16, 384, 1152),
        (512, 384, 1536),
        (16_384, 384, 1152),
        (16_384, 384, 1536),
        (16_384, 1536, 384),
        (16_384, 768, 3072),
        (16_384, 3072, 768),
        (16_384, 1024, 4096),
    ];
    for (rows, inputs, outputs) in shapes {
        let mut tflops = Vec::new();
        for device in [device, own] {
            let weight = vec![0.01; inputs * outputs];
            let linear = Linear::new(device, DType::F16, &weight, &vec![0.0; outputs], inputs, Activation::Identity)?;
            let (x, out) = (random(device, rows * inputs)?, device.tensor(DType::F16, rows * outputs)?);
            let time = bench.time(device, || linear.run(&x, rows, &out))?.as_secs_f64();
            tflops.push(2.0 * (rows * inputs * outputs) as f64 / time / 1e12);
        }
        let part = |tflops| percent(tflops, bench.peak.tflops);
        println!(
            "{:<26}{:>14.1}{:>10}{:>14.1}{:>10}",
            format!("{rows} × {inputs} × {outputs}"),
            tflops[0],
            part(tflops[0]),
            tflops[1],
            part(tflops[1])
        );
        println!("RATIO own_product_vs_cublaslt_{rows}x{inputs}x{outputs} {:.2}", tflops[0] / tflops[1]);
    }
    Ok(())
}

fn attention(bench: &Bench, device: &Device) -> Result<(), Failure> {
    for (heads, depth, length) in
        [(12, 32, 32), (12, 32, 128), (12, 32, 512), (12, 64, 128), (12, 64, 512), (8, 128, 512)]
    {
        let inputs = inputs(device, ROWS / length, length)?;
        let batch = inputs.batch()?;
        let qkv = random(device, ROWS * 3 * heads * depth)?;
        let out = device.tensor(DType::F16, ROWS * heads * depth)?;
        let time = bench.time(device, || device.attention(&qkv, &batch, heads, depth, &out))?.as_secs_f64();
        let tflops = 4.0 * (ROWS * length * heads * depth) as f64 / time / 1e12;
        println!(
            "{:<26}{:>12.1}{tflops:>12.1}{:>10}",
            format!("{heads} × {depth}, {length}"),
            time * 1e6,
            percent(tflops, bench.peak.tflops)
        );
    }
    Ok(())
}

/// A batch of texts of one length, with random ids, on the device.
fn inputs(device: &Device, count: usize, length: usize) -> Result<Inputs, DeviceError> {
    let mut random = Random(3);
    let ids: Vec<u32> = (0..count * length).map(|_| (random.bits() % VOCABULARY.words as u64) as u32).collect();
    let ends: Vec<u32> = (0..=count).map(|index| (index * length) as u32).collect();
    let sequences = Sequences::new(&ends)?;
    let shape = BatchShape::of(sequences);
    let (mut inputs, mut pinned) = (Inputs::new(device, shape)?, device.pin(shape.inputs_len() * 4)?);
    inputs.load(device, &mut pinned, &ids, sequences, VOCABULARY, shape)?;
    device.synchronize()?;
    Ok(inputs)
}
