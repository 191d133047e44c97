//! Each op but the products (`products`) against its CPU twin, over random shapes.
//!
//! Tolerances: both sides compute in f32, from the same values, in another order. A sum of n products of values up to 1
//! is off by at most n · 2^-24 on each side; normalisation and softmax keep the relative error of their sums, some
//! 2e-6. Each kernel rounds to its storage once, which `checks` allows for; inputs are exact in their storage.

use bireme_kernels::cpu::{self, Parallelism};
use bireme_kernels::cuda::{
    AddLayerNorm, AddRmsNorm, Attention, BiasGelu, Convert, DType, Embedding, Pooling, Rotary, SiluGate, Softmax,
};
use bireme_kernels::{Sequences, ShapeError};

use crate::cases::{cases, cumulative, positions};
use crate::checks::{Case, check};
use crate::shim::Memory;

/// Widths: of 16-byte loads and not, smaller and larger than a warp's loads, up to what a model has.
const WIDTHS: [usize; 10] = [1, 7, 31, 64, 100, 129, 384, 768, 1000, 2048];

#[test]
fn embedding() {
    check(&cases(8, |dtype, random| {
        let width = random.pick(&WIDTHS);
        let (count, length) = random.pick(&[(0, 1), (1, 1), (3, 40), (1, 512)]);
        let cu_seqlens = if length == 512 {
            cumulative(&[1, if width > 1000 { 30 } else { 512 }])
        } else {
            random.sequences(count, length)
        };
        let sequences = Sequences::new(&cu_seqlens).unwrap();
        let ids: Vec<u32> = (0..sequences.tokens()).map(|_| random.between(0, 49) as u32).collect();
        let (words, places) = (random.values(dtype, 50 * width, 1.0), random.values(dtype, 512 * width, 1.0));
        let (weight, bias) = (random.values(dtype, width, 1.0), random.values(dtype, width, 1.0));

        let norm = cpu::LayerNorm::new(weight.clone(), bias.clone(), 1e-5).unwrap();
        let twin = cpu::Embedding::new(words.clone(), &places, &vec![0.0; width], norm).unwrap();
        let mut expected = vec![0.0; ids.len() * width];
        twin.run(&ids, sequences, &mut expected, Parallelism::SINGLE).unwrap();

        let mut memory = Memory::default();
        let out = memory.room(dtype, expected.len());
        let op = Embedding {
            ids: memory.put_u32(&ids),
            positions: memory.put_u32(&positions(&cu_seqlens)),
            word_table: memory.put(dtype, &words),
            position_table: memory.put(dtype, &places),
            weight: memory.put(dtype, &weight),
            bias: memory.put(dtype, &bias),
            out,
            epsilon: 1e-5,
        };
        Case {
            name: format!("{} tokens of {width}", ids.len()),
            memory,
            launch: op.launch(),
            outputs: vec![(out, expected)],
            tolerance: 1e-5,
        }
    }));
}

#[test]
fn add_layer_norm() {
    check(&cases(12, |dtype, random| {
        let (rows, width) = (random.pick(&[0, 1, 7, 8, 9, 33]), random.pick(&WIDTHS));
        let (weight, bias) = (random.values(dtype, width, 1.0), random.values(dtype, width, 1.0));
        let (x, residual) = (random.values(dtype, rows * width, 2.0), random.values(dtype, rows * width, 2.0));
        let has_residual = random.between(0, 3) > 0;

        let mut expected = x.clone();
        let norm = cpu::LayerNorm::new(weight.clone(), bias.clone(), 1e-5).unwrap();
        let added = if has_residual { residual.clone() } else { vec![0.0; x.len()] };
        norm.add_residual(&mut expected, &added, Parallelism::SINGLE).unwrap();

        // In place, as an encoder runs it.
        let mut memory = Memory::default();
        let x = memory.put(dtype, &x);
        let op = AddLayerNorm {
            x,
            residual: has_residual.then(|| memory.put(dtype, &residual)),
            weight: memory.put(dtype, &weight),
            bias: memory.put(dtype, &bias),
            out: x,
            epsilon: 1e-5,
        };
        Case {
            name: format!("{rows} × {width}, residual {has_residual}"),
            memory,
            launch: op.launch(),
            outputs: vec![(x, expected)],
            tolerance: 1e-5,
        }
    }));
}

#[test]
fn add_rms_norm() {
    check(&cases(12, |dtype, random| {
        let (rows, width) = (random.pick(&[0, 1, 7, 8, 9, 33]), random.pick(&WIDTHS));
        let weight = random.values(dtype, width, 1.0);
        let (x, mut residual) = (random.values(dtype, rows * width, 2.0), random.values(dtype, rows * width, 2.0));
        let has_x = random.between(0, 3) > 0;

        let mut memory = Memory::default();
        let (sum, out) = (memory.put(dtype, &residual), memory.room(dtype, rows * width));
        let op = AddRmsNorm {
            x: has_x.then(|| memory.put(dtype, &x)),
            residual: sum,
            weight: memory.put(dtype, &weight),
            out,
            epsilon: 1e-5,
        };

        let mut expected = vec![0.0; x.len()];
        let norm = cpu::RmsNorm::new(weight, 1e-5).unwrap();
        if has_x {
            norm.add_residual(&x, &mut residual, &mut expected, Parallelism::SINGLE).unwrap();
        } else {
            norm.run(&residual, &mut expected, Parallelism::SINGLE).unwrap();
        }
        Case {
            name: format!("{rows} × {width}, x {has_x}"),
            memory,
            launch: op.launch(),
            outputs: vec![(out, expected), (sum, residual)],
            tolerance: 1e-5,
        }
    }));
}

#[test]
fn softmax() {
    check(&cases(12, |dtype, random| {
        let (rows, width) = (random.pick(&[0, 1, 7, 8, 9, 33]), random.pick(&WIDTHS));
        let scale = random.pick(&[0.125, 1.0, 3.0]);
        let values = random.values(dtype, rows * width, 5.0);
        let mut expected = values.clone();
        cpu::softmax(&mut expected, width, scale, Parallelism::SINGLE).unwrap();
        let mut memory = Memory::default();
        let x = memory.put(dtype, &values);
        Case {
            name: format!("{rows} × {width}, scale {scale}"),
            memory,
            launch: Softmax { x, width, scale }.launch(),
            outputs: vec![(x, expected)],
            tolerance: 2e-6,
        }
    }));
}

#[test]
fn bias_gelu() {
    check(&cases(8, |dtype, random| {
        let (rows, width) = (random.pick(&[0, 1, 9, 33]), random.pick(&WIDTHS));
        let (values, bias) = (random.values(dtype, rows * width, 4.0), random.values(dtype, width, 1.0));
        let mut expected = values.clone();
        cpu::bias_gelu(&mut expected, &bias, Parallelism::SINGLE).unwrap();
        let mut memory = Memory::default();
        let x = memory.put(dtype, &values);
        Case {
            name: format!("{rows} × {width}"),
            launch: BiasGelu { x, bias: memory.put(dtype, &bias) }.launch(),
            memory,
            outputs: vec![(x, expected)],
            tolerance: 1e-6,
        }
    }));
}

#[test]
fn silu_gate() {
    check(&cases(8, |dtype, random| {
        let (rows, width) = (random.pick(&[0, 1, 9, 33]), random.pick(&WIDTHS));
        let values = random.values(dtype, rows * 2 * width, 8.0);
        let mut expected = vec![0.0; rows * width];
        cpu::silu_gate(&values, width, &mut expected, Parallelism::SINGLE).unwrap();
        let mut memory = Memory::default();
        let out = memory.room(dtype, expected.len());
        Case {
            name: format!("{rows} × {width}"),
            launch: SiluGate { x: memory.put(dtype, &values), out, width }.launch(),
            memory,
            outputs: vec![(out, expected)],
            tolerance: 1e-6,
        }
    }));
}

#[test]
fn rotary() {
    check(&cases(8, |dtype, random| {
        let (depth, heads, rest) = (random.pick(&[32, 64, 128]), random.between(1, 5), random.pick(&[0, 8, 64]));
        let stride = heads * depth + rest;
        let tokens = random.pick(&[0, 1, 9, 60]);
        let positions: Vec<u32> = (0..tokens).map(|_| random.between(0, 4095) as u32).collect();
        let values = random.values(dtype, tokens * stride, 2.0);
        let twin = cpu::Rotary::new(depth, 4096, 10_000.0).unwrap();
        let mut expected = values.clone();
        twin.run(&mut expected, stride, heads, &positions, Parallelism::SINGLE).unwrap();
        let mut memory = Memory::default();
        let x = memory.put(dtype, &values);
        let op = Rotary {
            x,
            stride,
            heads,
            depth,
            positions: memory.put_u32(&positions),
            cosines: memory.put(DType::F32, twin.cosines()),
            sines: memory.put(DType::F32, twin.sines()),
        };
        Case {
            name: format!("{tokens} tokens of {heads} heads of {depth} in {stride}"),
            memory,
            launch: op.launch(),
            outputs: vec![(x, expected)],
            tolerance: 5e-7,
        }
    }));
}

#[test]
fn pooling() {
    check(&cases(10, |dtype, random| {
        let width = random.pick(&WIDTHS);
        let (count, length) = random.pick(&[(0, 1), (1, 1), (5, 40), (1, 512)]);
        let cu_seqlens = if length == 512 {
            cumulative(&[if width > 1000 { 60 } else { 512 }])
        } else {
            random.sequences(count, length)
        };
        let sequences = Sequences::new(&cu_seqlens).unwrap();
        let values = random.values(dtype, sequences.tokens() * width, 1.0);
        let method = random.pick(&[cpu::Pooling::Mean, cpu::Pooling::Cls]);
        let mut expected = vec![0.0; count * width];
        let is_normalised = random.between(0, 1) == 1;
        method.run(&values, sequences, width, is_normalised, &mut expected).unwrap();
        let mut memory = Memory::default();
        let out = memory.room(DType::F32, expected.len());
        let (rows, places) = (memory.put(dtype, &values), memory.put_u32(&cu_seqlens));
        let op = Pooling { method, rows, cu_seqlens: places, width, is_normalised, out };
        Case {
            name: format!("{method:?} of {cu_seqlens:?} × {width}, normalised: {is_normalised}"),
            memory,
            launch: op.launch(),
            outputs: vec![(out, expected)],
            tolerance: 2e-6,
        }
    }));
}

#[test]
fn a_vector_of_zeros_stays_one() {
    let mut memory = Memory::default();
    let out = memory.room(DType::F32, 6);
    let op = Pooling {
        method: cpu::Pooling::Mean,
        rows: memory.put(DType::F32, &[1.0, -1.0, 0.0, -1.0, 1.0, 0.0, 0.0, 3.0, 4.0]),
        cu_seqlens: memory.put_u32(&[0, 2, 3]),
        width: 3,
        is_normalised: true,
        out,
    };
    let expected = vec![0.0, 0.0, 0.0, 0.0, 0.6, 0.8];
    let launch = op.launch();
    check(&[Case { name: "zeros".into(), memory, launch, outputs: vec![(out, expected)], tolerance: 2e-7 }]);
}

#[test]
fn conversions_are_exactly_those_of_the_cpu() {
    use half::{bf16, f16};
    // Every half there is to f32, then every half's neighbourhood back: the halves, their middles, and beside these.
    for dtype in [DType::F16, DType::Bf16] {
        let widen = |bits: u16| match dtype {
            DType::F16 => f16::from_bits(bits).to_f32(),
            _ => bf16::from_bits(bits).to_f32(),
        };
        let halves: Vec<f32> = (0..=u16::MAX).map(widen).filter(|value| !value.is_nan()).collect();
        let mut values = halves.clone();
        for pair in halves.windows(2) {
            let middle = f32::midpoint(pair[0], pair[1]);
            values.extend([middle, middle.next_up(), middle.next_down()].into_iter().filter(|value| !value.is_nan()));
        }
        let mut cases = Vec::new();
        for len in [0, 1, 7, 8, 9, values.len()] {
            let values = &values[..len];
            let mut memory = Memory::default();
            let (from, to) = (memory.put(DType::F32, values), memory.room(dtype, len));
            let mut expected = Memory::default();
            let rounded = expected.put(dtype, values);
            cases.push(Case {
                name: format!("{len} values to {dtype}"),
                launch: Convert { from, to }.launch(),
                memory,
                outputs: vec![(to, expected.get(rounded))],
                tolerance: 0.0,
            });
            let mut memory = Memory::default();
            let (from, to) = (memory.put(dtype, values), memory.room(DType::F32, len));
            cases.push(Case {
                name: format!("{len} values from {dtype}"),
                launch: Convert { from, to }.launch(),
                outputs: vec![(to, memory.get(from))],
                memory,
                tolerance: 0.0,
            });
        }
        check(&cases);
    }
}

#[test]
fn a_wrong_shape_or_type_is_an_error_before_the_launch() {
    use bireme_kernels::cuda::LaunchError;
    let mut memory = Memory::default();
    let x = memory.room(DType::F16, 12);
    let (weight, short, wide) = (memory.room(DType::F16, 4), memory.room(DType::F16, 3), memory.room(DType::F32, 4));
    let norm = AddLayerNorm { x, residual: None, weight, bias: weight, out: x, epsilon: 1e-5 };
    assert!(norm.launch().is_ok());
    assert_eq!(
        AddLayerNorm { bias: short, ..norm }.launch().unwrap_err(),
        LaunchError::Shape(ShapeError::Length { operand: "bias", actual: 3, expected: 4 })
    );
    assert_eq!(
        AddLayerNorm { weight: wide, ..norm }.launch().unwrap_err(),
        LaunchError::Type { operand: "weight", actual: DType::F32, expected: DType::F16 }
    );
    let mut odd = x;
    odd.address += 2;
    assert_eq!(
        AddLayerNorm { x: odd, ..norm }.launch().unwrap_err(),
        LaunchError::Alignment { operand: "x", address: odd.address }
    );
    let ids = memory.put_u32(&[0; 12]);
    assert_eq!(
        Softmax { x: ids, width: 4, scale: 1.0 }.launch().unwrap_err(),
        LaunchError::Storage { operand: "x", actual: DType::U32 }
    );
    let wide = bireme_kernels::cuda::Values { len: 20_000, ..x };
    assert_eq!(
        Softmax { x: wide, width: 20_000, scale: 1.0 }.launch().unwrap_err(),
        LaunchError::TooLarge { size: "width", actual: 20_000, max: 12_288 }
    );
    let attention =
        Attention { qkv: x, cu_seqlens: ids, out: x, length_max: 1, heads: 2, kv_heads: 1, depth: 48, is_causal: true };
    assert_eq!(attention.launch().unwrap_err(), LaunchError::Depth { depth: 48 });
    assert_eq!(
        Attention { kv_heads: 3, ..attention }.launch().unwrap_err(),
        LaunchError::Shape(ShapeError::KvHeads { heads: 2, kv_heads: 3 })
    );
}
