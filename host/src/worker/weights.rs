//! The tensors of a model file, checked one by one.
//!
//! The file is read with plain reads and not mapped into memory: every tensor is copied anyway, into the layout that
//! the kernels want, and a mapped file that someone shortens kills the process where a read returns an error.
//!
//! Limits: a header of 16 MiB. Nothing is allocated for a tensor before the file is known to hold all of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;

/// An open `.safetensors` file whose header agrees with its length.
#[derive(Debug)]
pub(crate) struct Weights {
    file: File,
    path: PathBuf,
    header: Metadata,
    data_start: u64,
    prefix: &'static str,
}

/// A model file that cannot be read, or that is not the model its directory describes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` has a header of {bytes} bytes, over the limit of {HEADER_BYTES_MAX}", path.display())]
    HeaderTooLarge { path: PathBuf, bytes: u64 },
    #[error("the header of `{}` is damaged", path.display())]
    Header { path: PathBuf, source: serde_json::Error },
    #[error("`{}` is {actual} bytes long, its header describes {expected}", path.display())]
    Length { path: PathBuf, actual: u64, expected: u64 },
    #[error("tensor `{tensor}` is missing in `{}`", path.display())]
    Missing { path: PathBuf, tensor: String },
    #[error("tensor `{tensor}` in `{}` has shape {actual:?}, expected {expected:?}", path.display())]
    Shape { path: PathBuf, tensor: String, actual: Vec<usize>, expected: Vec<usize> },
    #[error("tensor `{tensor}` in `{}` holds {dtype:?}, expected F32, F16 or BF16", path.display())]
    Type { path: PathBuf, tensor: String, dtype: Dtype },
    #[error("value {index} of tensor `{tensor}` in `{}` is not a finite number", path.display())]
    NotFinite { path: PathBuf, tensor: String, index: usize },
}

/// Real headers hold 10 KiB for six layers, 200 KiB for the largest models.
const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The length field before the header.
const HEADER_START: u64 = 8;

/// Bytes of one read: small enough for the second-level cache, large enough to hide the system call.
const READ_BYTES: usize = 256 * 1024;

impl Weights {
    /// Returns the bytes of all tensors as f32, their type on the CPU.
    pub(crate) fn bytes(&self) -> u64 {
        let values = |info: &safetensors::tensor::TensorInfo| info.shape.iter().map(|&n| n as u64).product::<u64>();
        self.header.tensors().values().map(|info| values(info) * 4).sum()
    }

    /// Returns names and shapes of all tensors.
    #[cfg(feature = "fuzzing")]
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
    }

    /// Opens a file and checks its header against its length.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let path = path.to_owned();
        let read = |source| WeightsError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(read)?;
        let actual = file.metadata().map_err(read)?.len();

        let mut length = [0; HEADER_START as usize];
        file.read_exact_at(&mut length, 0).map_err(read)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > HEADER_BYTES_MAX {
            return Err(WeightsError::HeaderTooLarge { path, bytes: header_bytes });
        }
        let data_start = HEADER_START + header_bytes;
        if actual < data_start {
            return Err(WeightsError::Length { path, actual, expected: data_start });
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact_at(&mut header, HEADER_START).map_err(read)?;
        // Reading the header also checks that tensors lie one after another and are as long as their shapes say.
        let header: Metadata = match serde_json::from_slice(&header) {
            Ok(header) => header,
            Err(source) => return Err(WeightsError::Header { path, source }),
        };
        let expected = data_start.saturating_add(header.data_len() as u64);
        if actual != expected {
            return Err(WeightsError::Length { path, actual, expected });
        }
        Ok(Self { file, path, header, data_start, prefix: "" })
    }

    /// Puts `prefix` before all names from now on, if the file has `tensor` under it.
    pub(crate) fn prefer_prefix(&mut self, prefix: &'static str, tensor: &str) {
        if self.header.info(&format!("{prefix}{tensor}")).is_some() {
            self.prefix = prefix;
        }
    }

    /// Reads a tensor of exactly this shape as f32.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        self.read_tensor(format!("{}{name}", self.prefix), shape)
    }

    /// The same for a tensor whose name is without the prefix.
    pub(crate) fn tensor_beside(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        self.read_tensor(name.to_owned(), shape)
    }

    fn read_tensor(&self, tensor: String, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let path = || self.path.clone();
        let Some(info) = self.header.info(&tensor) else {
            return Err(WeightsError::Missing { path: path(), tensor });
        };
        if info.shape != shape {
            let (actual, expected) = (info.shape.clone(), shape.to_vec());
            return Err(WeightsError::Shape { path: path(), tensor, actual, expected });
        }
        let start = self.data_start + info.data_offsets.0 as u64;
        let len = shape.iter().product();
        let values = match info.dtype {
            Dtype::F32 => self.read(start, len, f32::from_le_bytes),
            Dtype::F16 => self.read(start, len, |bytes| f32_from_f16(u16::from_le_bytes(bytes))),
            Dtype::BF16 => self.read(start, len, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)),
            dtype => {
                return Err(WeightsError::Type { path: path(), tensor, dtype });
            }
        };
        let values = values.map_err(|source| WeightsError::Read { path: path(), source })?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(WeightsError::NotFinite { path: path(), tensor, index }),
        }
    }

    /// Reads `len` values of `N` bytes each.
    fn read<const N: usize>(&self, start: u64, len: usize, convert: impl Fn([u8; N]) -> f32) -> io::Result<Vec<f32>> {
        let mut values = Vec::with_capacity(len);
        let mut bytes = vec![0; READ_BYTES.min(len * N)];
        let mut offset = start;
        while values.len() < len {
            let chunk = bytes.len().min((len - values.len()) * N);
            let chunk = &mut bytes[..chunk];
            self.file.read_exact_at(chunk, offset)?;
            offset += chunk.len() as u64;
            values.extend(chunk.as_chunks::<N>().0.iter().map(|&bytes| convert(bytes)));
        }
        Ok(values)
    }
}

/// Returns the exact value of a half-precision number.
fn f32_from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, mantissa) = (u32::from(bits >> 10) & 0x1f, u32::from(bits & 0x3ff));
    match exponent {
        // Subnormal: `mantissa` times 2^-24, a normal number in f32.
        0 => f32::from_bits(sign | (mantissa as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The bytes of a file with this header and data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn check(bytes: &[u8], shape: &[usize]) -> Result<Vec<f32>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        fs::write(&path, bytes).unwrap();
        Weights::open(&path)
            .and_then(|weights| weights.tensor("t", shape))
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "m"))
    }

    const HEADER: &str = r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    const DATA: [u8; 8] = [0, 0, 128, 63, 0, 0, 0, 192];

    #[test]
    fn every_float_type_is_read_as_f32() {
        assert_eq!(check(&file(HEADER, &DATA), &[2]), Ok(vec![1.0, -2.0]));
        let half = r#"{"t":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}"#;
        assert_eq!(
            check(&file(half, &[0, 60, 0, 192, 1, 0, 1, 128]), &[4]),
            Ok(vec![1.0, -2.0, 5.9604645e-8, -5.9604645e-8])
        );
        let brain = r#"{"t":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#;
        assert_eq!(check(&file(brain, &[128, 63, 0, 192]), &[2]), Ok(vec![1.0, -2.0]));
    }

    #[test]
    fn a_tensor_longer_than_one_read_comes_whole() {
        let len = READ_BYTES / 4 + 3;
        let data: Vec<u8> = (0..len).flat_map(|index| (index as f32).to_le_bytes()).collect();
        let header = format!(r#"{{"t":{{"dtype":"F32","shape":[{len}],"data_offsets":[0,{}]}}}}"#, data.len());
        let values = check(&file(&header, &data), &[len]).unwrap();
        assert!(values.iter().enumerate().all(|(index, &value)| value == index as f32));
    }

    #[test]
    fn a_file_that_ends_early_is_refused_at_any_length() {
        let whole = file(HEADER, &DATA);
        for len in 0..whole.len() {
            check(&whole[..len], &[2]).unwrap_err();
        }
        assert_eq!(check(&whole[..69], &[2]).unwrap_err(), "`m` is 69 bytes long, its header describes 70");
        assert_eq!(
            check(&[whole.as_slice(), &[0]].concat(), &[2]).unwrap_err(),
            "`m` is 71 bytes long, its header describes 70"
        );
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let refused = |header: &str| check(&file(header, &DATA), &[2]).unwrap_err();
        assert_eq!(refused("{}"), "`m` is 18 bytes long, its header describes 10");
        assert_eq!(refused("[]"), "the header of `m` is damaged");
        assert_eq!(refused(&HEADER.replace("[2]", "[3]")), "the header of `m` is damaged");
        assert_eq!(refused(&HEADER.replace("[2]", "[4611686018427387905,4]")), "the header of `m` is damaged");
        assert_eq!(refused(&HEADER.replace("[0,8]", "[8,0]")), "the header of `m` is damaged");
        assert_eq!(
            check(&u64::MAX.to_le_bytes(), &[2]).unwrap_err(),
            "`m` has a header of 18446744073709551615 bytes, over the limit of 16777216"
        );
    }

    #[test]
    fn a_tensor_of_another_name_shape_type_or_kind_is_named() {
        assert_eq!(
            check(&file(&HEADER.replace("\"t\"", "\"u\""), &DATA), &[2]).unwrap_err(),
            "tensor `t` is missing in `m`"
        );
        assert_eq!(
            check(&file(HEADER, &DATA), &[2, 1]).unwrap_err(),
            "tensor `t` in `m` has shape [2], expected [2, 1]"
        );
        assert_eq!(
            check(&file(&HEADER.replace("F32", "I32"), &DATA), &[2]).unwrap_err(),
            "tensor `t` in `m` holds I32, expected F32, F16 or BF16"
        );
        assert_eq!(
            check(&file(HEADER, &[0, 0, 128, 63, 0, 0, 192, 127]), &[2]).unwrap_err(),
            "value 1 of tensor `t` in `m` is not a finite number"
        );
    }
}
