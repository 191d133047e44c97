//! A process of the shim, and the memory that launches name.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bireme_kernels::cuda::{Argument, DType, Launch, Values};
use half::{bf16, f16};

/// Buffers, each of which has a range of addresses to itself: a value's address tells its buffer.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) buffers: Vec<Vec<u8>>,
}

/// The addresses of one buffer, far more than any has bytes.
pub(crate) const BUFFER_ADDRESSES: u64 = 1 << 40;

impl Memory {
    /// Puts f32 values into a buffer of its own, rounded to their storage.
    pub(crate) fn put(&mut self, dtype: DType, values: &[f32]) -> Values {
        let bytes = match dtype {
            DType::F32 => values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
            DType::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_ne_bytes()).collect(),
            DType::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_ne_bytes()).collect(),
            DType::U32 => unreachable!("`put_u32` takes these"),
        };
        self.put_bytes(dtype, values.len(), bytes)
    }

    pub(crate) fn put_u32(&mut self, values: &[u32]) -> Values {
        self.put_bytes(DType::U32, values.len(), values.iter().flat_map(|value| value.to_ne_bytes()).collect())
    }

    /// A buffer for results: all NaN, so that what a kernel leaves out is no result.
    pub(crate) fn room(&mut self, dtype: DType, len: usize) -> Values {
        self.put_bytes(dtype, len, vec![0xff; len * dtype.size()])
    }

    fn put_bytes(&mut self, dtype: DType, len: usize, bytes: Vec<u8>) -> Values {
        self.buffers.push(bytes);
        Values { address: self.buffers.len() as u64 * BUFFER_ADDRESSES, dtype, len }
    }

    /// The values as f32.
    pub(crate) fn get(&self, values: Values) -> Vec<f32> {
        let bytes = &self.buffers[(values.address / BUFFER_ADDRESSES) as usize - 1];
        match values.dtype {
            DType::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect(),
            DType::F16 => bytes.as_chunks().0.iter().map(|&bytes| f16::from_ne_bytes(bytes).to_f32()).collect(),
            DType::Bf16 => bytes.as_chunks().0.iter().map(|&bytes| bf16::from_ne_bytes(bytes).to_f32()).collect(),
            DType::U32 => unreachable!("no kernel writes these"),
        }
    }
}

/// A running shim. Dropping it closes its input, which ends it.
pub(crate) struct Shim {
    child: Child,
}

impl Shim {
    pub(crate) fn start(program: &Path, options: &[&str]) -> Self {
        let child = Command::new(program)
            .args(options)
            // Memory that a kernel leaks is the shim's own, until it ends.
            .env("ASAN_OPTIONS", "detect_leaks=0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Runs a launch, which changes the memory; or what the shim said when it ended instead.
    pub(crate) fn run(&mut self, launch: &Launch, memory: &mut Memory) -> Result<(), String> {
        if launch.is_empty() {
            return Ok(());
        }
        let (kernel, request) = (launch.kernel.to_string(), &mut Vec::new());
        self.exchange(&kernel, launch, memory, request).map_err(|_| {
            let mut said = String::new();
            self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
            said
        })
    }

    fn exchange(
        &mut self,
        kernel: &str,
        launch: &Launch,
        memory: &mut Memory,
        request: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let mut put = |value: u32| request.extend(value.to_ne_bytes());
        put(kernel.len() as u32);
        request.extend(kernel.as_bytes());
        let mut put = |value: u32| request.extend(value.to_ne_bytes());
        launch.grid.into_iter().for_each(&mut put);
        [launch.threads, 1, 1, launch.shared_bytes, memory.buffers.len() as u32].into_iter().for_each(put);
        for buffer in &memory.buffers {
            request.extend((buffer.len() as u64).to_ne_bytes());
            request.extend(buffer);
        }
        request.extend((launch.arguments.len() as u32).to_ne_bytes());
        for &argument in &launch.arguments {
            let (kind, buffer, value) = match argument {
                Argument::Address(Some(address)) => {
                    (0, (address / BUFFER_ADDRESSES) as u32 - 1, address % BUFFER_ADDRESSES)
                }
                Argument::Address(None) => (1, 0, 0),
                Argument::U32(value) => (1, 0, value.into()),
                Argument::U64(value) => (1, 0, value),
                Argument::F32(value) => (1, 0, value.to_bits().into()),
            };
            [kind, buffer].into_iter().for_each(|value: u32| request.extend(value.to_ne_bytes()));
            request.extend(value.to_ne_bytes());
        }
        let stdin = self.child.stdin.as_mut().expect("taken only when dropped");
        stdin.write_all(request)?;
        stdin.flush()?;
        let stdout = self.child.stdout.as_mut().expect("taken by nobody");
        for buffer in &mut memory.buffers {
            stdout.read_exact(buffer)?;
        }
        Ok(())
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}
