//! The vector operations that the ops are written in, once for every instruction set.
//!
//! Not here: choosing the set (`isa`), and anything that only one op needs.

/// One instruction set. A value of such a type is the proof that this machine has it: only `Isa::run` makes one, after
/// asking the machine. Every method is inlined into a function compiled for that set, or it would be a call.
pub(crate) trait Simd: Copy {
    type Vector: Copy;

    /// The f32 values in a vector.
    const WIDTH: usize;

    /// The rows of a tile of the matrix product: as many as the registers hold beside two vectors of each row.
    const TILE_ROWS: usize;

    fn splat(self, value: f32) -> Self::Vector;

    /// # Safety
    /// `from` is readable for `WIDTH` values.
    #[expect(unsafe_code, reason = "the inner loop of the matrix product cannot pay for bounds checks")]
    unsafe fn load(self, from: *const f32) -> Self::Vector;

    /// # Safety
    /// `to` is writable for `WIDTH` values.
    #[expect(unsafe_code, reason = "the counterpart of `load`")]
    unsafe fn store(self, to: *mut f32, value: Self::Vector);

    /// Asks for the cache line at `from` to be brought into the second-level cache; any address will do.
    fn prefetch(self, from: *const f32);

    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b + c`, in one rounding where the set has it.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// `2^exponent`, for whole exponents from -126 to 127.
    fn pow2(self, exponent: Self::Vector) -> Self::Vector;

    /// The sum of a vector's values.
    fn sum(self, vector: Self::Vector) -> f32;

    /// The largest of a vector's values.
    fn max_value(self, vector: Self::Vector) -> f32;

    /// Reads up to `WIDTH` values; where there are fewer, the rest are `fill`.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the length is checked here, once for a vector")]
    fn read(self, from: &[f32], fill: f32) -> Self::Vector {
        if from.len() >= Self::WIDTH {
            // SAFETY: the slice holds at least `WIDTH` values.
            return unsafe { self.load(from.as_ptr()) };
        }
        let mut lanes = [fill; LANES_MAX];
        lanes[..from.len()].copy_from_slice(from);
        // SAFETY: `WIDTH` is at most `LANES_MAX`.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Writes as many of the vector's values as `to` has room for.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the length is checked here, once for a vector")]
    fn write(self, to: &mut [f32], value: Self::Vector) {
        if to.len() >= Self::WIDTH {
            // SAFETY: the slice holds at least `WIDTH` values.
            return unsafe { self.store(to.as_mut_ptr(), value) };
        }
        let mut lanes = [0.0; LANES_MAX];
        // SAFETY: `WIDTH` is at most `LANES_MAX`.
        unsafe { self.store(lanes.as_mut_ptr(), value) };
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// The widest vector of any set, for buffers on the stack.
pub(crate) const LANES_MAX: usize = 16;

/// Plain arrays, for machines without AVX2: the compiler turns them into the baseline of the target (SSE2, NEON).
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const PORTABLE_WIDTH: usize = 8;

impl Portable {
    #[inline(always)]
    fn zip(a: [f32; PORTABLE_WIDTH], b: [f32; PORTABLE_WIDTH], op: impl Fn(f32, f32) -> f32) -> [f32; PORTABLE_WIDTH] {
        std::array::from_fn(|lane| op(a[lane], b[lane]))
    }
}

impl Simd for Portable {
    type Vector = [f32; PORTABLE_WIDTH];
    const WIDTH: usize = PORTABLE_WIDTH;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; PORTABLE_WIDTH]
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "see the trait")]
    unsafe fn load(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller's promise; the cast keeps an f32's alignment.
        unsafe { from.cast::<Self::Vector>().read() }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "see the trait")]
    unsafe fn store(self, to: *mut f32, value: Self::Vector) {
        // SAFETY: the caller's promise; the cast keeps an f32's alignment.
        unsafe { to.cast::<Self::Vector>().write(value) }
    }

    /// The targets that need this set have no such instruction in common.
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        Self::zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        Self::zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        Self::zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        Self::zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        Self::zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        Self::zip(a, b, |a, b| if a > b { a } else { b })
    }

    /// Two roundings: a fused one is a library call on targets that need this set.
    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }

    #[inline(always)]
    fn pow2(self, exponent: Self::Vector) -> Self::Vector {
        exponent.map(|exponent| f32::from_bits(((exponent as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sum(self, vector: Self::Vector) -> f32 {
        vector.iter().sum()
    }

    #[inline(always)]
    fn max_value(self, vector: Self::Vector) -> f32 {
        vector.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}
