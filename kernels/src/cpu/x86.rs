//! AVX-512 and AVX2 with FMA.
#![expect(unsafe_code, reason = "intrinsics may run only where the machine has them; the token types are the proof")]

use std::arch::x86_64::*;

use super::simd::Simd;

/// The proof that this machine has AVX-512F.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// The proof that this machine has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx512 {
    /// # Safety
    /// The machine has AVX-512F.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Avx2 {
    /// # Safety
    /// The machine has AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Writes methods that are one intrinsic on vectors.
macro_rules! intrinsics {
    ($($method:ident($($operand:ident),+) = $intrinsic:ident;)+) => {
        $(
            #[inline(always)]
            fn $method(self, $($operand: Self::Vector),+) -> Self::Vector {
                // SAFETY: the token proves that the machine has the instruction.
                unsafe { $intrinsic($($operand),+) }
            }
        )+
    };
}

impl Simd for Avx512 {
    type Vector = __m512;
    const WIDTH: usize = 16;
    /// 24 of the 32 registers sum, two hold a row of the weights, the rest let loads run ahead.
    const TILE_ROWS: usize = 12;

    intrinsics! {
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        min(a, b) = _mm512_min_ps;
        max(a, b) = _mm512_max_ps;
        mul_add(a, b, c) = _mm512_fmadd_ps;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: the token proves that the machine has the instruction.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the token, and the caller's promise; the instruction needs no alignment.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        // SAFETY: the token, and the caller's promise; the instruction needs no alignment.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: the token; a hint never faults, at any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

    #[inline(always)]
    fn pow2(self, exponent: __m512) -> __m512 {
        // SAFETY: the token proves that the machine has the instructions.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(exponent), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    fn sum(self, vector: __m512) -> f32 {
        // SAFETY: the token proves that the machine has the instructions.
        unsafe { _mm512_reduce_add_ps(vector) }
    }

    #[inline(always)]
    fn max_value(self, vector: __m512) -> f32 {
        // SAFETY: the token proves that the machine has the instructions.
        unsafe { _mm512_reduce_max_ps(vector) }
    }
}

impl Simd for Avx2 {
    type Vector = __m256;
    const WIDTH: usize = 8;
    /// 12 of the 16 registers sum, two hold a row of the weights, one a value of the inputs.
    const TILE_ROWS: usize = 6;

    intrinsics! {
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        min(a, b) = _mm256_min_ps;
        max(a, b) = _mm256_max_ps;
        mul_add(a, b, c) = _mm256_fmadd_ps;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: the token proves that the machine has the instruction.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the token, and the caller's promise; the instruction needs no alignment.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: the token, and the caller's promise; the instruction needs no alignment.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        // SAFETY: the token; a hint never faults, at any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

    #[inline(always)]
    fn pow2(self, exponent: __m256) -> __m256 {
        // SAFETY: the token proves that the machine has the instructions.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    fn sum(self, vector: __m256) -> f32 {
        self.lanes(vector).iter().sum()
    }

    #[inline(always)]
    fn max_value(self, vector: __m256) -> f32 {
        self.lanes(vector).iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

impl Avx2 {
    #[inline(always)]
    fn lanes(self, vector: __m256) -> [f32; 8] {
        let mut lanes = [0.0; 8];
        // SAFETY: the array holds a vector.
        unsafe { self.store(lanes.as_mut_ptr(), vector) };
        lanes
    }
}
