//! Each kernel's time, as a part of what memory or arithmetic allow.

use bireme_kernels::cpu::{Activation, Pooling};
use bireme_kernels::cuda::device::{Batch, Device, DeviceError, Embedding, LayerNorm, Linear, Pinned, Tensor};
use bireme_kernels::cuda::{AddRmsNorm, BiasGelu, Convert, DType, Launch, LaunchError, SiluGate, Softmax};

use crate::peak::percent;
use crate::weights::Random;
use crate::{Bench, Failure};

/// Rows of what is bound by memory: more than any second-level cache holds.
const ROWS: usize = 65_536;
const WIDTH: usize = 768;

pub fn run(bench: &Bench, device: &Device, own: &Device) -> Result<(), Failure> {
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

    let lengths = vec![128; ROWS / 128];
    let inputs = inputs(device, &lengths, 30_522)?;
    let batch = Batch::new(&inputs.tensor, ROWS, lengths.len(), 128)?;
    let words: Vec<f32> = (0..30_522 * WIDTH).map(|index| (index % 17) as f32 * 0.01).collect();
    let embedding = Embedding::new(&words, &vec![0.1; 512 * WIDTH], &vec![0.2; 2 * WIDTH], norm()?)?;
    let pooled = device.tensor(DType::F32, lengths.len() * WIDTH)?;

    // Bytes that each must move: what it reads once and what it writes.
    let value = 2 * len;
    report(bench, device, "embedding", 3 * value, || embedding.run(&batch, &y))?;
    report(bench, device, "add_layer_norm", 3 * value, || add_norm.add_residual(&x, &y, ROWS))?;
    report(bench, device, "pooling", value, || device.pool(Pooling::Mean, &x, &batch, WIDTH, true, &pooled))?;
    let queue = |launch: Result<Launch, LaunchError>| -> Result<(), DeviceError> { queue(device, &launch?) };
    let rms = AddRmsNorm { x: Some(x.all()), residual: y.all(), weight: scale.all(), out: x.all(), epsilon: 1e-6 };
    report(bench, device, "add_rms_norm", 4 * value, || queue(rms.launch()))?;
    let gelu = BiasGelu { x: x.all(), bias: shift.all() };
    report(bench, device, "bias_gelu", 2 * value, || queue(gelu.launch()))?;
    let silu = SiluGate { x: gates.all(), out: y.all(), width: WIDTH };
    report(bench, device, "silu_gate", 3 * value, || queue(silu.launch()))?;
    let softmax = Softmax { x: x.all(), width: WIDTH, scale: 1.0 };
    report(bench, device, "softmax", 2 * value, || queue(softmax.launch()))?;
    let convert = Convert { from: x.all(), to: f32s.all() };
    report(bench, device, "f16_to_f32", 3 * value, || queue(convert.launch()))
}

#[expect(unsafe_code, reason = "ops without a layer are launched by their addresses")]
fn queue(device: &Device, launch: &Launch) -> Result<(), DeviceError> {
    // SAFETY: the callers make launches of whole tensors, which live until after the last `synchronize` of `Bench::time`.
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
        let lengths = vec![length; ROWS / length];
        let inputs = inputs(device, &lengths, 100)?;
        let batch = Batch::new(&inputs.tensor, ROWS, lengths.len(), length)?;
        let qkv = random(device, ROWS * 3 * heads * depth)?;
        let out = device.tensor(DType::F16, ROWS * heads * depth)?;
        let time = bench.time(device, || device.attention(&qkv, &batch, heads, depth, &out))?.as_secs_f64();
        let tflops = 4.0 * (lengths.len() * length * length * heads * depth) as f64 / time / 1e12;
        println!(
            "{:<26}{:>12.1}{tflops:>12.1}{:>10}",
            format!("{heads} × {depth}, {length}"),
            time * 1e6,
            percent(tflops, bench.peak.tflops)
        );
    }
    Ok(())
}

/// A batch's inputs on the device, and the memory that they were copied from.
struct Inputs {
    tensor: Tensor,
    _pinned: Pinned,
}

fn inputs(device: &Device, lengths: &[usize], vocabulary: u64) -> Result<Inputs, DeviceError> {
    let tokens: usize = lengths.iter().sum();
    let len = Batch::inputs_len(tokens, lengths.len());
    let (tensor, mut pinned) = (device.tensor(DType::U32, len)?, device.pin(len * 4)?);
    let values = pinned.write::<u32>(len);
    let mut random = Random(3);
    values[..tokens].fill_with(|| (random.bits() % vocabulary) as u32);
    let mut end = 0;
    values[2 * tokens] = 0;
    for (index, &length) in lengths.iter().enumerate() {
        for position in 0..length {
            values[tokens + end + position] = position as u32;
        }
        end += length;
        values[2 * tokens + index + 1] = end as u32;
    }
    device.copy_in(&pinned, &tensor, len)?;
    device.synchronize()?;
    Ok(Inputs { tensor, _pinned: pinned })
}
