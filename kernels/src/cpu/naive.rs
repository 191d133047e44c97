//! Every op once more, plain and in f64, for the tests to compare with.

use crate::Sequences;

/// Random values between -1 and 1, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> f32 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[track_caller]
pub(crate) fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(actual) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "value {index} is {actual}, expected {expected}");
    }
}

/// `erf` by its series near 0, where that loses no digits, and beyond by the continued fraction of its complement.
fn erf(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..100).rev().fold(0.0, |rest, n| f64::from(n) / 2.0 / (x.abs() + rest));
    let complement = (-x * x).exp() / (x.abs() + fraction) * std::f64::consts::FRAC_2_SQRT_PI / 2.0;
    x.signum() * (1.0 - complement)
}

pub(crate) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

pub(crate) fn linear(x: &[f32], weight: &[f32], bias: &[f32], is_gelu: bool) -> Vec<f64> {
    let inputs = weight.len() / bias.len();
    let mut out = Vec::new();
    for x in x.chunks_exact(inputs) {
        for (weight, &bias) in weight.chunks_exact(inputs).zip(bias) {
            let product: f64 = x.iter().zip(weight).map(|(&x, &weight)| f64::from(x) * f64::from(weight)).sum();
            let value = product + f64::from(bias);
            out.push(if is_gelu { gelu(value) } else { value });
        }
    }
    out
}

pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f64) -> Vec<f64> {
    let width = weight.len();
    let mut out = Vec::new();
    for row in x.chunks_exact(width) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
        for ((&x, &weight), &bias) in row.iter().zip(weight).zip(bias) {
            out.push((f64::from(x) - mean) / (variance + epsilon).sqrt() * f64::from(weight) + f64::from(bias));
        }
    }
    out
}

pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f64) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(weight.len()) {
        let square = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / weight.len() as f64;
        out.extend(
            row.iter().zip(weight).map(|(&x, &weight)| f64::from(x) / (square + epsilon).sqrt() * f64::from(weight)),
        );
    }
    out
}

pub(crate) fn silu_gate(x: &[f32], width: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(2 * width) {
        let (gate, up) = row.split_at(width);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        out.extend(gate.iter().zip(up).map(|(&gate, &up)| silu(f64::from(gate)) * f64::from(up)));
    }
    out
}

pub(crate) fn softmax(x: &[f32], width: usize, scale: f64) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(width) {
        let weights: Vec<f64> = row.iter().map(|&x| (f64::from(x) * scale).exp()).collect();
        let sum: f64 = weights.iter().sum();
        out.extend(weights.iter().map(|weight| weight / sum));
    }
    out
}

/// As complex numbers: each pair times `exp(i · angle)`.
pub(crate) fn rotary(x: &[f32], stride: usize, heads: usize, depth: usize, positions: &[u32], base: f64) -> Vec<f64> {
    let mut out: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    for (token, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            for i in 0..depth / 2 {
                let angle = f64::from(position) / base.powf(2.0 * i as f64 / depth as f64);
                let (real, imaginary) =
                    (token * stride + head * depth + i, token * stride + head * depth + i + depth / 2);
                let (a, b) = (f64::from(x[real]), f64::from(x[imaginary]));
                out[real] = a * angle.cos() - b * angle.sin();
                out[imaginary] = a * angle.sin() + b * angle.cos();
            }
        }
    }
    out
}

pub(crate) fn attention(
    qkv: &[f32],
    sequences: Sequences<'_>,
    heads: usize,
    kv_heads: usize,
    depth: usize,
    is_causal: bool,
) -> Vec<f64> {
    let (hidden, stride) = (heads * depth, (heads + 2 * kv_heads) * depth);
    let at = |row: usize, column: usize| f64::from(qkv[row * stride + column]);
    let mut out = vec![0.0; sequences.tokens() * hidden];
    for range in sequences.ranges() {
        for head in 0..heads {
            let column = head * depth;
            let key_column = hidden + head * kv_heads / heads * depth;
            for query in range.clone() {
                let seen = range.start..if is_causal { query + 1 } else { range.end };
                let scores: Vec<f64> = seen
                    .clone()
                    .map(|key| (0..depth).map(|d| at(query, column + d) * at(key, key_column + d)).sum::<f64>())
                    .map(|score| score / (depth as f64).sqrt())
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (key, weight) in seen.zip(&weights) {
                    for d in 0..depth {
                        out[query * hidden + column + d] += weight / sum * at(key, key_column + kv_heads * depth + d);
                    }
                }
            }
        }
    }
    out
}
