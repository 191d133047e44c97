//! Shapes and values to try, from a seed that a failure prints.

use bireme_kernels::cuda::DType;

use crate::checks::Case;

pub(crate) const STORAGES: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];

/// Random numbers, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `first` to `last`.
    pub(crate) fn between(&mut self, first: usize, last: usize) -> usize {
        first + (self.next() % (last - first + 1) as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.between(0, choices.len() - 1)]
    }

    /// Values between `-scale` and `scale`, which the storage holds exactly: what rounding costs is the kernel's alone.
    pub(crate) fn values(&mut self, dtype: DType, len: usize, scale: f32) -> Vec<f32> {
        (0..len)
            .map(|_| ((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale)
            .map(|value| match dtype {
                DType::F16 => half::f16::from_f32(value).to_f32(),
                DType::Bf16 => half::bf16::from_f32(value).to_f32(),
                DType::F32 | DType::U32 => value,
            })
            .collect()
    }

    /// Cumulative lengths of `count` sequences of up to `length_max` tokens.
    pub(crate) fn sequences(&mut self, count: usize, length_max: usize) -> Vec<u32> {
        let lengths: Vec<usize> = (0..count).map(|_| self.between(1, length_max)).collect();
        cumulative(&lengths)
    }
}

pub(crate) fn cumulative(lengths: &[usize]) -> Vec<u32> {
    let mut sum = 0;
    std::iter::once(0)
        .chain(lengths.iter().map(|&length| {
            sum += length as u32;
            sum
        }))
        .collect()
}

/// The position of each token in its sequence.
pub(crate) fn positions(cu_seqlens: &[u32]) -> Vec<u32> {
    cu_seqlens.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect()
}

/// Calls `make` for each storage and each of `count` seeds.
pub(crate) fn cases(count: u64, mut make: impl FnMut(DType, &mut Random) -> Case) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in STORAGES {
        for seed in 0..count {
            let mut case = make(dtype, &mut Random::new(seed));
            case.name = format!("{} (seed {seed})", case.name);
            cases.push(case);
        }
    }
    cases
}
