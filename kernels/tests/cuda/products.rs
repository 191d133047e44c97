//! Matrix products and attention against their CPU twins, on f32 units and on tensor cores, over random shapes.
//!
//! Tolerances: a product sums n products of values up to 1 in f32 on both sides, in another order: n · 2^-24 on each.
//! The products of halves are exact in f32. Tensor cores cut the bits below those of a sum, where f32 units round: they
//! get twice as much. Attention on tensor cores rounds its weights to the storage before it multiplies values up to 2
//! by them: 2 · 2^-11 for f16, 2 · 2^-8 for bf16.

use bireme_kernels::Sequences;
use bireme_kernels::cpu::{self, Activation, Parallelism};
use bireme_kernels::cuda::{Attention, DType, Gemm, Launch, Module, TensorCores};

use crate::cases::{Random, cases, cumulative};
use crate::checks::{Case, check};
use crate::shim::Memory;

const HALVES: [DType; 2] = [DType::F16, DType::Bf16];

/// A product as a case.
fn multiply(
    dtype: DType,
    random: &mut Random,
    (rows, inputs, outputs): (usize, usize, usize),
    tensor_cores: TensorCores,
) -> Case {
    let activation = random.pick(&[Activation::Identity, Activation::Gelu]);
    let has_bias = random.between(0, 2) > 0;
    let (a, weight) = (random.values(dtype, rows * inputs, 1.0), random.values(dtype, outputs * inputs, 1.0));
    let bias = if has_bias { random.values(dtype, outputs, 1.0) } else { vec![0.0; outputs] };
    let mut expected = vec![0.0; rows * outputs];
    let twin = cpu::Linear::new(&weight, bias.clone(), inputs, activation).unwrap();
    twin.run(&a, &mut expected, Parallelism::SINGLE).unwrap();
    let steps = if tensor_cores == TensorCores::Used { 4.0 } else { 2.0 };
    let mut memory = Memory::default();
    let out = memory.room(dtype, expected.len());
    let op = Gemm {
        a: memory.put(dtype, &a),
        weight: memory.put(dtype, &weight),
        bias: has_bias.then(|| memory.put(dtype, &bias)),
        out,
        inputs,
        activation,
    };
    Case {
        name: format!("{rows} × {inputs} × {outputs}, {activation:?}, bias {has_bias}"),
        memory,
        launch: op.launch_on(tensor_cores),
        outputs: vec![(out, expected)],
        tolerance: steps * inputs as f32 / (1 << 24) as f32 + 1e-6,
    }
}

#[test]
fn gemm() {
    check(&cases(12, |dtype, random| {
        let shape = (
            random.pick(&[0, 1, 5, 63, 64, 65, 130]),
            random.pick(&[1, 3, 8, 15, 16, 40, 100, 384]),
            random.pick(&[1, 2, 30, 64, 65, 96, 130]),
        );
        multiply(dtype, random, shape, TensorCores::Unused)
    }));
}

#[test]
fn gemm_on_tensor_cores() {
    check(&cases(20, |dtype, random| {
        let shape = (
            random.pick(&[0, 1, 5, 63, 64, 65, 130]),
            random.pick(&[8, 16, 24, 32, 40, 64, 104, 136, 384]),
            random.pick(&[1, 2, 30, 63, 64, 65, 96, 130]),
        );
        multiply(dtype, random, shape, TensorCores::Used)
    }));
}

/// Made to be run on large tiles whatever the launcher would choose for so few rows.
#[test]
fn gemm_on_tensor_cores_in_large_tiles() {
    let mut random = Random::new(3);
    let mut cases = Vec::new();
    for dtype in HALVES {
        // More stages than steps, as many, and more steps; rows and outputs within a tile, whole, and beyond.
        for shape in [(1, 8, 1), (127, 64, 128), (130, 104, 131), (128, 232, 257), (512, 32, 130)] {
            let mut case = multiply(dtype, &mut random, shape, TensorCores::Used);
            let large = multiply(dtype, &mut Random::new(0), (2048, 8, 1024), TensorCores::Used).launch.unwrap();
            assert!(large.kernel.to_string().starts_with("gemm_mma_128"), "{}", large.kernel);
            let (rows, _, outputs) = shape;
            case.launch = case.launch.map(|launch| Launch {
                kernel: large.kernel,
                threads: large.threads,
                grid: [outputs.div_ceil(128) as u32, rows.div_ceil(128) as u32, 1],
                ..launch
            });
            cases.push(case);
        }
    }
    check(&cases);
}

#[track_caller]
fn check_kernel(dtype: DType, shape: (usize, usize, usize), tensor_cores: TensorCores, expected: &str, module: Module) {
    let launch = multiply(dtype, &mut Random::new(0), shape, tensor_cores).launch.unwrap();
    assert_eq!((launch.kernel.to_string().as_str(), launch.kernel.module()), (expected, module), "{shape:?}");
}

#[test]
fn the_kernel_of_a_product_follows_from_the_device_the_type_and_the_shape() {
    use Module::{Compute75, Compute80};
    use TensorCores::{Unused, Used};
    check_kernel(DType::F16, (64, 64, 64), Unused, "gemm_f16", Compute75);
    check_kernel(DType::Bf16, (64, 64, 64), Unused, "gemm_bf16", Compute80);
    check_kernel(DType::F32, (64, 64, 64), Used, "gemm_f32", Compute75);
    check_kernel(DType::F16, (64, 60, 64), Used, "gemm_f16", Compute75);
    check_kernel(DType::F16, (64, 64, 64), Used, "gemm_mma_64_f16", Compute80);
    check_kernel(DType::Bf16, (2048, 8, 1016), Used, "gemm_mma_128_bf16", Compute80);
    check_kernel(DType::Bf16, (1920, 8, 1016), Used, "gemm_mma_64_bf16", Compute80);
    assert_eq!(TensorCores::of((7, 5)), Unused);
    assert_eq!(TensorCores::of((8, 0)), Used);
    assert_eq!(TensorCores::of((12, 0)), Used);
}

/// A case of attention over sequences of these lengths. Some may have no tokens, and the longest may be said to be
/// longer than it is: a batch that is rounded up has both.
fn attend(
    dtype: DType,
    random: &mut Random,
    lengths: &[usize],
    (heads, kv_heads, depth): (usize, usize, usize),
    is_causal: bool,
    tensor_cores: TensorCores,
) -> Case {
    let cu_seqlens = cumulative(lengths);
    let of_tokens = cumulative(&lengths.iter().copied().filter(|&length| length > 0).collect::<Vec<_>>());
    let sequences = Sequences::new(&of_tokens).unwrap();
    let stride = (heads + 2 * kv_heads) * depth;
    let values = random.values(dtype, sequences.tokens() * stride, 2.0);
    let mut expected = vec![0.0; sequences.tokens() * heads * depth];
    run_twin(&values, sequences, (heads, kv_heads, depth), is_causal, &mut expected);
    let mut memory = Memory::default();
    let out = memory.room(dtype, expected.len());
    let op = Attention {
        qkv: memory.put(dtype, &values),
        cu_seqlens: memory.put_u32(&cu_seqlens),
        out,
        length_max: lengths.iter().copied().max().unwrap_or(0) + random.pick(&[0, 0, 1, 70]),
        heads,
        kv_heads,
        depth,
        is_causal,
    };
    let tolerance = match (tensor_cores, dtype) {
        (TensorCores::Used, DType::F16) => 2.0 / 2048.0,
        (TensorCores::Used, DType::Bf16) => 2.0 / 256.0,
        _ => 1e-5,
    };
    Case {
        name: format!("lengths {lengths:?}, {heads} heads over {kv_heads} of {depth}, causal {is_causal}"),
        memory,
        launch: op.launch_on(tensor_cores),
        outputs: vec![(out, expected)],
        tolerance,
    }
}

fn run_twin(
    values: &[f32],
    sequences: Sequences<'_>,
    (heads, kv_heads, depth): (usize, usize, usize),
    is_causal: bool,
    out: &mut [f32],
) {
    let twin = if is_causal {
        cpu::Attention::causal(heads, kv_heads, depth)
    } else {
        cpu::Attention::grouped(heads, kv_heads, depth)
    };
    twin.unwrap().run(values, sequences, out, Parallelism::SINGLE).unwrap();
}

/// A case of attention over up to three sequences.
fn attend_short(dtype: DType, random: &mut Random, tensor_cores: TensorCores) -> Case {
    let kv_heads = random.between(1, 2);
    let shape = (kv_heads * random.between(1, 3), kv_heads, random.pick(&[32, 64, 128]));
    let count = random.between(0, 3);
    let lengths: Vec<usize> = (0..count).map(|_| random.pick(&[0, 1, 2, 5, 31, 32, 33, 64, 65, 90, 129])).collect();
    let is_causal = random.between(0, 1) == 1;
    attend(dtype, random, &lengths, shape, is_causal, tensor_cores)
}

#[test]
fn attention_over_short_sequences() {
    check(&cases(10, |dtype, random| attend_short(dtype, random, TensorCores::Unused)));
}

#[test]
fn attention_over_short_sequences_on_tensor_cores() {
    check(&cases(20, |dtype, random| attend_short(dtype, random, TensorCores::Used)));
}

#[test]
fn attention_over_the_longest_sequence() {
    use TensorCores::{Unused, Used};
    let mut random = Random::new(1);
    check(&[
        attend(DType::F32, &mut random, &[1, 512], (1, 1, 32), false, Unused),
        attend(DType::F16, &mut random, &[512, 1], (2, 1, 32), true, Unused),
        attend(DType::Bf16, &mut random, &[512], (1, 1, 64), false, Unused),
        attend(DType::F16, &mut random, &[1, 512], (1, 1, 32), false, Used),
        attend(DType::F16, &mut random, &[512, 1], (2, 1, 64), true, Used),
        attend(DType::Bf16, &mut random, &[512], (1, 1, 128), true, Used),
        attend(DType::Bf16, &mut random, &[512], (1, 1, 64), false, Used),
    ]);
}

#[test]
fn the_kernel_of_attention_follows_from_the_device_the_type_and_the_depth() {
    use Module::{Compute75, Compute80};
    use TensorCores::{Unused, Used};
    for (dtype, depth, tensor_cores, expected, module) in [
        (DType::F16, 128, Unused, "attention_128_f16", Compute75),
        (DType::F32, 64, Used, "attention_64_f32", Compute75),
        (DType::F16, 32, Used, "attention_mma_32_f16", Compute80),
        (DType::Bf16, 128, Used, "attention_mma_128_bf16", Compute80),
    ] {
        let case = attend(dtype, &mut Random::new(0), &[65], (1, 1, depth), true, tensor_cores);
        let launch = case.launch.unwrap();
        assert_eq!((launch.kernel.to_string().as_str(), launch.kernel.module()), (expected, module));
    }
}
