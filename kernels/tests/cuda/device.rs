//! Runs cases on a CUDA device instead of the shim.

use std::cell::OnceCell;

use bireme_kernels::cuda::device::{Device, DeviceError, DeviceOptions, Tensor};
use bireme_kernels::cuda::{Argument, DType, Launch};

use crate::shim::{BUFFER_ADDRESSES, Memory};

/// The device that the environment asks for.
pub(crate) fn wanted() -> Option<u32> {
    let wanted = std::env::var("BIREME_CUDA_DEVICE").ok()?;
    Some(wanted.parse().expect("`BIREME_CUDA_DEVICE` is the number of a device"))
}

thread_local! {
    /// Opened once for each thread, as a context is bound to one.
    static DEVICE: OnceCell<Device> = const { OnceCell::new() };
}

/// Calls `work` with the device.
pub(crate) fn with<R>(ordinal: u32, work: impl FnOnce(&Device) -> R) -> R {
    DEVICE.with(|device| {
        work(device.get_or_init(|| {
            Device::open(DeviceOptions { ordinal, budget: None, use_cublaslt: false })
                .unwrap_or_else(|error| panic!("CUDA device {ordinal}: {error}"))
        }))
    })
}

/// Runs a launch, which changes the memory.
pub(crate) fn run(device: &Device, launch: &Launch, memory: &mut Memory) -> Result<(), String> {
    run_on(device, launch, memory).map_err(|error| error.to_string())
}

#[expect(unsafe_code, reason = "launches name addresses; see `Device::launch_at`")]
fn run_on(device: &Device, launch: &Launch, memory: &mut Memory) -> Result<(), DeviceError> {
    let mut tensors: Vec<(Tensor, usize)> = Vec::new();
    for buffer in &memory.buffers {
        // Whole words: what is beyond the buffer's end is never looked at.
        let words = buffer.len().div_ceil(4);
        let tensor = device.tensor(DType::U32, words)?;
        let mut pinned = device.pin(words * 4)?;
        pinned.write::<u8>(buffer.len()).copy_from_slice(buffer);
        device.copy_in(&pinned, &tensor, words)?;
        device.synchronize()?;
        tensors.push((tensor, words));
    }
    let mut launch = launch.clone();
    for argument in &mut launch.arguments {
        if let Argument::Address(Some(address)) = argument {
            let (tensor, _) = &tensors[(*address / BUFFER_ADDRESSES) as usize - 1];
            *address = tensor.address() + *address % BUFFER_ADDRESSES;
        }
    }
    // SAFETY: every address is that of a tensor that lives until the queue is empty, as large as the case's own buffer.
    unsafe { device.launch_at(&launch)? };
    for (buffer, (tensor, words)) in memory.buffers.iter_mut().zip(&tensors) {
        let mut pinned = device.pin(words * 4)?;
        device.copy_out(tensor, &mut pinned, *words)?;
        device.synchronize()?;
        let len = buffer.len();
        buffer.copy_from_slice(pinned.read(len));
    }
    Ok(())
}
