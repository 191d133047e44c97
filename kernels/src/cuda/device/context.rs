//! One device's context, stream and kernels.
//!
//! Everything goes to one stream, in order: freed memory may be reused at once, because work that still reads it runs
//! before work that writes it next. The types are bound to their thread (`Rc`), as a context is.
#![expect(unsafe_code, reason = "calls into the driver")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::rc::Rc;

use cudarc::driver::result::{self, stream::StreamKind};
use cudarc::driver::sys;

use super::DeviceError;
use super::blas::Blas;
use super::memory::{Memory, Piece};
use crate::cuda::{Argument, Kernel, Launch, LaunchError, Module};

/// An open device.
#[derive(Clone)]
pub struct Device {
    pub(super) inner: Rc<Inner>,
}

pub(super) struct Inner {
    // In the order in which they must go: each uses those below it.
    pub(super) blas: Option<Blas>,
    modules: RefCell<HashMap<Module, LoadedModule>>,
    pub(super) memory: Memory,
    pub(super) stream: Stream,
    _context: Context,
    pub(super) info: DeviceInfo,
    /// True if nothing was queued since the last `synchronize`.
    pub(super) is_idle: Cell<bool>,
    /// While something is captured: the memory that it names.
    pub(super) captured: RefCell<Option<Vec<Rc<Piece>>>>,
}

/// The properties of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    pub ordinal: u32,
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    /// Bytes of memory, of which the driver and others take their part.
    pub memory_bytes: usize,
    /// cuBLASLt's version, if the library was found and works: 120902 is 12.9.2.
    pub cublaslt: Option<usize>,
    /// Error of cuBLASLt that was found and is not used.
    pub cublaslt_error: Option<String>,
}

/// Options for opening a device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceOptions {
    pub ordinal: u32,
    /// The most memory to take. None: nine tenths of the free memory when it is opened.
    pub budget: Option<usize>,
    /// Permission of cuBLASLt for matrix products. Without it they go to the kernels.
    pub use_cublaslt: bool,
}

/// The lowest compute capability that the kernels are made for.
pub const COMPUTE_CAPABILITY_MIN: (u32, u32) = Module::Compute75.compute_capability();

impl Device {
    /// Opens a device. The first one of a process loads the driver, which takes some 100 ms and stays.
    ///
    /// The calling process must be one that may end: a driver that lacks a function makes `cudarc` panic.
    pub fn open(options: DeviceOptions) -> Result<Self, DeviceError> {
        // SAFETY: it only looks for the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::NoDriver);
        }
        let ordinal = options.ordinal;
        // A thread's calls go to one context, the one that was made current last.
        if let Some(opened) = OPENED.get().filter(|&opened| opened != ordinal) {
            return Err(DeviceError::OtherOrdinal { ordinal, opened });
        }
        result::init().map_err(DeviceError::driver("cuInit"))?;
        let device = result::device::get(ordinal as i32).map_err(DeviceError::driver("cuDeviceGet"))?;
        let attribute = |attribute| {
            // SAFETY: the driver just returned `device`.
            unsafe { result::device::get_attribute(device, attribute) }
                .map(|value| value as u32)
                .map_err(DeviceError::driver("cuDeviceGetAttribute"))
        };
        use sys::CUdevice_attribute as A;
        let compute_capability = (
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if compute_capability < COMPUTE_CAPABILITY_MIN {
            let required = COMPUTE_CAPABILITY_MIN;
            return Err(DeviceError::Capability { ordinal, actual: compute_capability, required });
        }
        let mut info = DeviceInfo {
            ordinal,
            name: result::device::get_name(device).map_err(DeviceError::driver("cuDeviceGetName"))?,
            compute_capability,
            // SAFETY: as above.
            memory_bytes: unsafe { result::device::total_mem(device) }
                .map_err(DeviceError::driver("cuDeviceTotalMem"))?,
            cublaslt: None,
            cublaslt_error: None,
        };

        let context = Context::retain(device)?;
        OPENED.set(Some(ordinal));
        let stream = Stream::new()?;
        let (free, _) = result::mem_get_info().map_err(DeviceError::driver("cuMemGetInfo"))?;
        let memory = Memory::new(options.budget.unwrap_or(free / 10 * 9));
        // A library of a newer CUDA than the driver's may not start; the products are then our own.
        let blas = match options.use_cublaslt.then(|| Blas::find(&memory)) {
            None => None,
            Some(Ok(blas)) => blas,
            Some(Err(error)) if error.is_sticky() => return Err(error),
            Some(Err(error)) => {
                info.cublaslt_error = Some(error.to_string());
                None
            }
        };
        info.cublaslt = blas.as_ref().map(Blas::version);
        let inner = Inner {
            blas,
            modules: RefCell::default(),
            memory,
            stream,
            _context: context,
            info,
            is_idle: Cell::new(true),
            captured: RefCell::default(),
        };
        Ok(Self { inner: Rc::new(inner) })
    }

    pub fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// Returns the bytes of device memory in use, and those kept for reuse.
    pub fn memory_use(&self) -> (usize, usize) {
        self.inner.memory.usage()
    }

    /// Returns unused memory to the driver.
    pub fn trim(&self) -> Result<(), DeviceError> {
        self.inner.memory.trim()
    }

    /// Waits until all that was launched is done; says what of it failed.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.inner.stream.synchronize()?;
        self.inner.is_idle.set(true);
        Ok(())
    }

    /// Queues a kernel. A failure while it runs shows at a later call.
    ///
    /// Not public: the ops beside this file make launches only from tensors that are alive.
    pub(super) fn launch(&self, launch: Result<Launch, LaunchError>) -> Result<(), DeviceError> {
        // SAFETY: its addresses are those of tensors of this device (`Device::part`), whose memory is given only to
        // later work of the same stream, and what kernels follow in them was checked (`Inputs::load`).
        unsafe { self.launch_at(&launch?) }
    }

    /// Queues a launch that names addresses of its own, which is how tests run one case on many devices.
    ///
    /// # Safety
    /// Every address of it has as much memory of this device behind it as the op says, until the queue has passed it.
    pub unsafe fn launch_at(&self, launch: &Launch) -> Result<(), DeviceError> {
        if launch.is_empty() {
            return Ok(());
        }
        let function = self.function(launch.kernel)?;
        // The driver reads as many bytes of each as the kernel's parameter has: the low ones, on a little-endian
        // machine.
        let mut values: Vec<u64> = launch
            .arguments
            .iter()
            .map(|&argument| match argument {
                Argument::Address(address) => address.unwrap_or(0),
                Argument::U32(value) => value.into(),
                Argument::U64(value) => value,
                Argument::F32(value) => value.to_bits().into(),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let [x, y, z] = launch.grid;
        self.inner.is_idle.set(false);
        // SAFETY: the function is of a module that lives as long as the device; the arguments are as many and as wide
        // as its signature says (`launch` of each op, which the tests run against the kernels' own source), and are
        // copied before the call returns; the memory is the caller's promise.
        unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (launch.threads, 1, 1),
                launch.shared_bytes,
                self.inner.stream.raw,
                &mut pointers,
            )
        }
        .map_err(DeviceError::driver("cuLaunchKernel"))
    }

    /// Finds a kernel, loading its module if it is the first of it: the driver compiles it, or has it in its cache.
    fn function(&self, kernel: Kernel) -> Result<sys::CUfunction, DeviceError> {
        let mut modules = self.inner.modules.borrow_mut();
        let module = match modules.entry(kernel.module()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(LoadedModule::load(kernel.module())?),
        };
        module.function(kernel)
    }
}

thread_local! {
    /// The device that this thread's calls go to.
    static OPENED: Cell<Option<u32>> = const { Cell::new(None) };
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.info.fmt(f)
    }
}

/// The device's primary context, which libraries share.
struct Context {
    device: sys::CUdevice,
}

impl Context {
    fn retain(device: sys::CUdevice) -> Result<Self, DeviceError> {
        // SAFETY: the driver returned `device`; the context is released once, on drop.
        let raw =
            unsafe { result::primary_ctx::retain(device) }.map_err(DeviceError::driver("cuDevicePrimaryCtxRetain"))?;
        let context = Self { device };
        // SAFETY: it was retained above, and lives until everything that uses it is gone.
        unsafe { result::ctx::set_current(raw) }.map_err(DeviceError::driver("cuCtxSetCurrent"))?;
        Ok(context)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once by this value. A failure means that the driver is on its way out.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// The device's one queue of work.
pub(super) struct Stream {
    pub(super) raw: sys::CUstream,
}

impl Stream {
    fn new() -> Result<Self, DeviceError> {
        let raw = result::stream::create(StreamKind::NonBlocking).map_err(DeviceError::driver("cuStreamCreate"))?;
        Ok(Self { raw })
    }

    pub(crate) fn synchronize(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.raw) }.map_err(DeviceError::driver("cuStreamSynchronize"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by this value; the driver lets queued work finish first.
        let _ = unsafe { result::stream::destroy(self.raw) };
    }
}

struct LoadedModule {
    raw: sys::CUmodule,
    functions: HashMap<Kernel, sys::CUfunction>,
}

impl LoadedModule {
    fn load(module: Module) -> Result<Self, DeviceError> {
        let ptx = CString::new(module.ptx()).expect("PTX is text");
        // SAFETY: the image is PTX that ends with a zero, as the driver wants it, and is copied.
        let raw = unsafe { result::module::load_data(ptx.as_ptr().cast()) }
            .map_err(DeviceError::driver("cuModuleLoadData"))?;
        Ok(Self { raw, functions: HashMap::new() })
    }

    fn function(&mut self, kernel: Kernel) -> Result<sys::CUfunction, DeviceError> {
        if let Some(&function) = self.functions.get(&kernel) {
            return Ok(function);
        }
        let name = CString::new(kernel.to_string()).expect("a kernel's name is a word");
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(self.raw, name) }
            .map_err(DeviceError::driver("cuModuleGetFunction"))?;
        self.functions.insert(kernel, function);
        Ok(function)
    }
}

impl Drop for LoadedModule {
    fn drop(&mut self) {
        // SAFETY: loaded by this value, and its functions go with it.
        let _ = unsafe { result::module::unload(self.raw) };
    }
}
