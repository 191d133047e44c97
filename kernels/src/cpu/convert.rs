//! f32 to and from the halves that other devices store, by the `half` crate: to nearest, ties to even.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::ShapeError;

/// A half that f32 values can be stored as.
pub trait Half: Copy {
    /// Writes `out` from `values`, rounded.
    fn narrow(values: &[f32], out: &mut [Self]) -> Result<(), ShapeError>;

    /// Writes `out` from `values`, exactly.
    fn widen(values: &[Self], out: &mut [f32]) -> Result<(), ShapeError>;
}

macro_rules! half {
    ($half:ty) => {
        impl Half for $half {
            fn narrow(values: &[f32], out: &mut [Self]) -> Result<(), ShapeError> {
                ShapeError::check_len("out", out.len(), values.len())?;
                out.convert_from_f32_slice(values);
                Ok(())
            }

            fn widen(values: &[Self], out: &mut [f32]) -> Result<(), ShapeError> {
                ShapeError::check_len("out", out.len(), values.len())?;
                values.convert_to_f32_slice(out);
                Ok(())
            }
        }
    };
}

half!(f16);
half!(bf16);

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the nearest of all finite halves, the even one of two: the crate must agree.
    fn nearest(value: f32, all: impl Fn(u16) -> f64) -> u16 {
        let distance = |bits: u16| (all(bits) - f64::from(value)).abs();
        (0..=u16::MAX)
            .filter(|&bits| all(bits).is_finite())
            .min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1))))
            .unwrap()
    }

    #[test]
    fn halves_are_the_nearest_ones() {
        for value in [1.0f32, 1.000_488_3, 1.001_464_8, -0.333_333_34, 6.0e-8, 3.0e-8, 1e-5, 65_500.0, -2_049.0] {
            let (mut short, mut brain) = ([f16::ZERO], [bf16::ZERO]);
            f16::narrow(&[value], &mut short).unwrap();
            bf16::narrow(&[value], &mut brain).unwrap();
            assert_eq!(short[0].to_bits(), nearest(value, |bits| f16::from_bits(bits).to_f64()), "f16 of {value}");
            assert_eq!(brain[0].to_bits(), nearest(value, |bits| bf16::from_bits(bits).to_f64()), "bf16 of {value}");
        }
    }

    #[test]
    fn what_is_too_large_becomes_infinite() {
        let mut out = [f16::ZERO; 3];
        f16::narrow(&[65_519.0, 65_520.0, -1e9], &mut out).unwrap();
        assert_eq!(out, [f16::MAX, f16::INFINITY, f16::NEG_INFINITY]);
    }

    #[test]
    fn lengths_must_match() {
        assert_eq!(
            bf16::widen(&[bf16::ONE; 2], &mut [0.0]).unwrap_err(),
            ShapeError::Length { operand: "out", actual: 1, expected: 2 }
        );
    }
}
