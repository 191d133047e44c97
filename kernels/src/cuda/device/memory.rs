//! Device memory, pinned memory of the host, and the copies between them.
#![expect(unsafe_code, reason = "calls into the driver; slices of memory that it gave")]

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use bytemuck::Pod;
use cudarc::driver::result;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::DeviceError;
use super::context::{Device, Inner};
use super::error::OUT_OF_MEMORY;
use super::event::Event;
use super::size_class_allocator::{Placement, SizeClassAllocator};
use crate::ShapeError;
use crate::cuda::{DType, LaunchError, Values};

/// The memory of one device: the driver's own calls cost tens of microseconds and wait for the device, so pieces are
/// kept.
pub(super) struct Memory {
    allocator: RefCell<SizeClassAllocator>,
}

impl Memory {
    pub(crate) fn new(budget: usize) -> Self {
        Self { allocator: RefCell::new(SizeClassAllocator::new(budget)) }
    }

    /// Returns a piece of at least `bytes`: its address and size.
    pub(crate) fn take(&self, bytes: usize) -> Result<(u64, usize), DeviceError> {
        let mut allocator = self.allocator.borrow_mut();
        let full = |allocator: &SizeClassAllocator| DeviceError::OutOfMemory {
            bytes,
            in_use: allocator.in_use(),
            budget: allocator.budget(),
        };
        let (piece, release) = match allocator.take(bytes) {
            Placement::Reuse { address, bytes } => return Ok((address, bytes)),
            Placement::Full => return Err(full(&allocator)),
            Placement::Allocate { bytes, release } => (bytes, release),
        };
        free_all(allocator.release(release))?;
        // SAFETY: the piece is freed once, by `release` or on drop.
        let mut allocated = unsafe { result::malloc_sync(piece) };
        if allocated.as_ref().is_err_and(|error| error.0 == OUT_OF_MEMORY) {
            // Other processes took memory that the budget counted on: releasing free pieces may make room.
            free_all(allocator.release(usize::MAX))?;
            // SAFETY: as above.
            allocated = unsafe { result::malloc_sync(piece) };
        }
        let address = match allocated {
            Ok(address) => address,
            Err(error) if error.0 == OUT_OF_MEMORY => return Err(full(&allocator)),
            Err(error) => return Err(DeviceError::driver("cuMemAlloc")(error)),
        };
        allocator.add(piece);
        Ok((address, piece))
    }

    pub(crate) fn give(&self, address: u64, bytes: usize) {
        self.allocator.borrow_mut().give(address, bytes);
    }

    pub(crate) fn usage(&self) -> (usize, usize) {
        let allocator = self.allocator.borrow();
        (allocator.in_use(), allocator.free_bytes())
    }

    pub(crate) fn trim(&self) -> Result<(), DeviceError> {
        free_all(self.allocator.borrow_mut().release(usize::MAX))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A lost context has nothing left to free.
        let _ = self.trim();
    }
}

fn free_all(addresses: Vec<u64>) -> Result<(), DeviceError> {
    for address in addresses {
        // SAFETY: the allocator names a piece once, and no value has it any more; the driver waits for work that does.
        unsafe { result::free_sync(address) }.map_err(DeviceError::driver("cuMemFree"))?;
    }
    Ok(())
}

/// A piece of device memory. Dropping it gives the memory back for later work of the same device.
pub(super) struct Piece {
    device: Rc<Inner>,
    address: u64,
    bytes: usize,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.device.memory.give(self.address, self.bytes);
    }
}

/// Values in device memory, which lives as long as the tensor and every graph that names it.
pub struct Tensor {
    piece: Rc<Piece>,
    dtype: DType,
    len: usize,
}

impl Tensor {
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the address of the values, for launches whose caller keeps the tensor alive.
    pub fn address(&self) -> u64 {
        self.piece.address
    }
}

impl Device {
    /// The first `len` values of a tensor of this device.
    pub fn values(&self, tensor: &Tensor, len: usize) -> Result<Values, DeviceError> {
        self.part(tensor, 0, len)
    }

    /// All values of a tensor of this device.
    pub fn all(&self, tensor: &Tensor) -> Result<Values, DeviceError> {
        self.part(tensor, 0, tensor.len)
    }

    /// `len` values from `start` on. Memory that is named within a capture belongs to the graph from then on, too.
    pub(super) fn part(&self, tensor: &Tensor, start: usize, len: usize) -> Result<Values, DeviceError> {
        if !Rc::ptr_eq(&tensor.piece.device, &self.inner) {
            return Err(DeviceError::OtherDevice);
        }
        if start.checked_add(len).is_none_or(|end| end > tensor.len) {
            let expected = start.saturating_add(len);
            return Err(ShapeError::Length { operand: "tensor", actual: tensor.len, expected }.into());
        }
        if let Some(captured) = &mut *self.inner.captured.borrow_mut() {
            captured.push(Rc::clone(&tensor.piece));
        }
        let address = tensor.piece.address + (start * tensor.dtype.size()) as u64;
        Ok(Values { address, dtype: tensor.dtype, len })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} × {} at {:#x})", self.len, self.dtype, self.piece.address)
    }
}

/// Pinned memory of the host, which the device reads and writes while the processor runs.
pub struct Pinned {
    device: Rc<Inner>,
    start: *mut u8,
    bytes: usize,
}

impl Pinned {
    /// The first `len` values of it.
    ///
    /// # Panics
    /// If it has fewer, or if work is queued that was not waited for: a copy of this memory may be among it.
    pub fn read<T: Pod>(&self, len: usize) -> &[T] {
        assert!(self.device.is_idle.get(), "pinned memory is read after `synchronize`");
        // SAFETY: nothing is queued, so the device neither reads nor writes it while the slice lives: what would queue
        // a copy into it borrows it alone.
        unsafe { self.slice(len) }
    }

    /// The same, to be written; panics in the same cases.
    pub fn write<T: Pod>(&mut self, len: usize) -> &mut [T] {
        assert!(self.device.is_idle.get(), "pinned memory is written after `synchronize`");
        // SAFETY: as above.
        unsafe { self.slice_mut(len) }
    }

    /// # Safety
    /// The device writes none of it while the slice lives.
    unsafe fn slice<T: Pod>(&self, len: usize) -> &[T] {
        assert!(size_of::<T>().checked_mul(len).is_some_and(|bytes| bytes <= self.bytes), "within what was pinned");
        // SAFETY: the bytes are there, page-aligned and set to zero when they were pinned, and any bytes are a `Pod`.
        unsafe { std::slice::from_raw_parts(self.start.cast(), len) }
    }

    /// # Safety
    /// The device neither reads nor writes it while the slice lives.
    unsafe fn slice_mut<T: Pod>(&mut self, len: usize) -> &mut [T] {
        assert!(size_of::<T>().checked_mul(len).is_some_and(|bytes| bytes <= self.bytes), "within what was pinned");
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if !self.device.is_idle.get() {
            let _ = self.device.stream.synchronize();
        }
        // SAFETY: pinned by this value, and no queued copy names it any more.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

/// Bytes that an upload copies at a time; two of these are pinned while it runs.
const UPLOAD_BYTES: usize = 4 << 20;

impl Device {
    /// Returns memory for `len` uninitialised values.
    pub fn tensor(&self, dtype: DType, len: usize) -> Result<Tensor, DeviceError> {
        let too_large = DeviceError::OutOfMemory { bytes: usize::MAX, in_use: 0, budget: self.inner.info.memory_bytes };
        let bytes = len.checked_mul(dtype.size()).ok_or(too_large)?;
        let (address, bytes) = self.inner.memory.take(bytes)?;
        let piece = Rc::new(Piece { device: self.inner.clone(), address, bytes });
        Ok(Tensor { piece, dtype, len })
    }

    /// Pins memory of the host.
    pub fn pin(&self, bytes: usize) -> Result<Pinned, DeviceError> {
        let bytes = bytes.max(1);
        // SAFETY: freed once, on drop.
        let start =
            unsafe { result::malloc_host(bytes, 0) }.map_err(DeviceError::driver("cuMemHostAlloc"))?.cast::<u8>();
        // SAFETY: these bytes were just allocated.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Pinned { device: self.inner.clone(), start, bytes })
    }

    /// Queues a copy of the first `len` values. The pinned memory is free again after the next `synchronize`.
    pub fn copy_in(&self, from: &Pinned, to: &Tensor, len: usize) -> Result<(), DeviceError> {
        let to = self.values(to, len)?;
        let bytes = len * to.dtype.size();
        self.check_copy(from)?;
        self.inner.is_idle.set(false);
        // SAFETY: both hold these bytes. Pinned memory is neither written nor freed before the queue is empty, and the
        // tensor's is reused only by later work of the queue.
        unsafe { result::memcpy_htod_async(to.address, from.slice::<u8>(bytes), self.inner.stream.raw) }
            .map_err(DeviceError::driver("cuMemcpyHtoDAsync"))
    }

    /// Queues a copy of the first `len` values, which are there after the next `synchronize`.
    pub fn copy_out(&self, from: &Tensor, to: &mut Pinned, len: usize) -> Result<(), DeviceError> {
        let from = self.values(from, len)?;
        let bytes = len * from.dtype.size();
        self.check_copy(to)?;
        self.inner.is_idle.set(false);
        // SAFETY: as for `copy_in`.
        unsafe { result::memcpy_dtoh_async(to.slice_mut::<u8>(bytes), from.address, self.inner.stream.raw) }
            .map_err(DeviceError::driver("cuMemcpyDtoHAsync"))
    }

    /// Pinned memory of another device is waited for by that one, and a graph would copy long after it is gone.
    fn check_copy(&self, pinned: &Pinned) -> Result<(), DeviceError> {
        if !Rc::ptr_eq(&pinned.device, &self.inner) {
            return Err(DeviceError::OtherDevice);
        }
        if self.is_capturing() { Err(DeviceError::InCapture) } else { Ok(()) }
    }

    /// Copies values into a tensor of their own, rounded to its type. Returns when they are there.
    pub fn upload(&self, dtype: DType, values: &[f32]) -> Result<Tensor, DeviceError> {
        // Before anything is taken, which would spoil a capture.
        if self.is_capturing() {
            return Err(DeviceError::InCapture);
        }
        if dtype == DType::F16
            && let Some(index) = values.iter().position(|value| value.abs() > f16::MAX.to_f32())
        {
            return Err(DeviceError::Range { index, value: values[index], dtype });
        }
        let tensor = self.tensor(dtype, values.len())?;
        let chunk = UPLOAD_BYTES / dtype.size();
        let pin = || self.pin(UPLOAD_BYTES.min(values.len() * dtype.size()));
        let mut halves = vec![(pin()?, Event::new(self)?)];
        if values.len() > chunk {
            halves.push((pin()?, Event::new(self)?));
        }
        for (index, part) in values.chunks(chunk).enumerate() {
            let half = index % halves.len();
            let (pinned, copied) = &mut halves[half];
            if index > 1 {
                copied.wait()?;
            }
            self.inner.is_idle.set(false);
            // SAFETY: the device has passed the event behind the last copy of this half; the next one is queued below.
            unsafe {
                match dtype {
                    DType::F32 => pinned.slice_mut(part.len()).copy_from_slice(part),
                    DType::F16 => pinned.slice_mut::<f16>(part.len()).convert_from_f32_slice(part),
                    DType::Bf16 => pinned.slice_mut::<bf16>(part.len()).convert_from_f32_slice(part),
                    DType::U32 => return Err(LaunchError::Storage { operand: "upload", actual: dtype }.into()),
                }
            }
            let bytes = part.len() * dtype.size();
            let offset = (index * chunk * dtype.size()) as u64;
            // SAFETY: the tensor holds all chunks; a half is written again only after its event, and freed after the
            // queue is empty.
            unsafe {
                result::memcpy_htod_async(
                    tensor.piece.address + offset,
                    pinned.slice::<u8>(bytes),
                    self.inner.stream.raw,
                )
            }
            .map_err(DeviceError::driver("cuMemcpyHtoDAsync"))?;
            copied.record()?;
        }
        self.synchronize()?;
        Ok(tensor)
    }

    /// Copies values out as f32. Returns when they are there.
    pub fn download(&self, tensor: &Tensor) -> Result<Vec<f32>, DeviceError> {
        let mut pinned = self.pin(tensor.len * tensor.dtype.size())?;
        self.copy_out(tensor, &mut pinned, tensor.len)?;
        self.synchronize()?;
        Ok(match tensor.dtype {
            DType::F32 => pinned.read::<f32>(tensor.len).to_vec(),
            DType::F16 => pinned.read::<f16>(tensor.len).to_f32_vec(),
            DType::Bf16 => pinned.read::<bf16>(tensor.len).to_f32_vec(),
            DType::U32 => pinned.read::<u32>(tensor.len).iter().map(|&value| value as f32).collect(),
        })
    }

    /// Returns the driver's counts of the device's memory: free bytes, and all.
    pub fn driver_memory(&self) -> Result<(usize, usize), DeviceError> {
        result::mem_get_info().map_err(DeviceError::driver("cuMemGetInfo"))
    }
}
