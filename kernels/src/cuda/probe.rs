//! The CUDA probe: driver, libraries and devices of a machine, and the reasons why a device cannot be used; it never
//! panics.
//!
//! `cudarc` panics at the first call of a function that the driver lacks, and takes a result's code for one that it
//! knows. So functions are looked up here by their names, and codes are numbers. For worker processes alone all the
//! same: a driver may end the process, or never return.
//!
//! A context is made on each device that looks usable, which takes some 100 ms: one that is broken, or taken by another
//! process alone, shows nowhere else, and the free memory neither.
#![expect(unsafe_code, reason = "calls into the driver")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs;

use cudarc::{cublaslt, driver};

use super::device::COMPUTE_CAPABILITY_MIN;

/// The oldest driver that takes the kernels' PTX (ISA 8.0), by the version of CUDA that it is for: 12.0, of driver 525.
pub const DRIVER_VERSION_MIN: u32 = 12_000;

/// Devices that are looked at; no machine has as many.
const DEVICES_MAX: c_int = 64;

/// Every function of the driver that `device` calls: a worker that met a missing one in the middle of its work would
/// end. Not here: `cuEventElapsedTime`, for which `device` knows both names.
const REQUIRED: [&CStr; 36] = [
    c"cuInit",
    c"cuDriverGetVersion",
    c"cuGetErrorName",
    c"cuDeviceGetCount",
    c"cuDeviceGet",
    c"cuDeviceGetName",
    c"cuDeviceGetAttribute",
    c"cuDeviceTotalMem_v2",
    c"cuDevicePrimaryCtxRetain",
    c"cuDevicePrimaryCtxRelease_v2",
    c"cuCtxSetCurrent",
    c"cuMemGetInfo_v2",
    c"cuMemAlloc_v2",
    c"cuMemFree_v2",
    c"cuMemHostAlloc",
    c"cuMemFreeHost",
    c"cuMemcpyHtoDAsync_v2",
    c"cuMemcpyDtoHAsync_v2",
    c"cuStreamCreate",
    c"cuStreamDestroy_v2",
    c"cuStreamSynchronize",
    c"cuStreamBeginCapture_v2",
    c"cuStreamEndCapture",
    c"cuEventCreate",
    c"cuEventRecord",
    c"cuEventSynchronize",
    c"cuEventDestroy_v2",
    c"cuModuleLoadData",
    c"cuModuleUnload",
    c"cuModuleGetFunction",
    c"cuLaunchKernel",
    c"cuGraphInstantiateWithFlags",
    c"cuGraphLaunch",
    c"cuGraphExecDestroy",
    c"cuGraphDestroy",
    c"cuGetErrorString",
];

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// The version of CUDA that the driver is for: 12040 is 12.4.
    pub driver: Option<u32>,
    /// Looked for only where a device can be used. Without it matrix products go to the kernels.
    pub cublaslt: Option<Library>,
    pub devices: Vec<ProbedDevice>,
    /// Reason why there are no devices.
    pub obstacle: Option<Obstacle>,
}

/// A library that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// 120902 is 12.9.2.
    pub version: usize,
    pub path: Option<String>,
}

/// One device, usable unless there is an obstacle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedDevice {
    pub ordinal: u32,
    pub name: String,
    /// As `nvidia-smi -L` prints it.
    pub uuid: Option<String>,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    pub memory_bytes: u64,
    pub memory_free_bytes: Option<u64>,
    pub obstacle: Option<Obstacle>,
}

/// Reason why a machine's devices, or one of them, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// No `libcuda.so.1` can be loaded.
    NoDriver,
    DriverTooOld {
        version: u32,
    },
    /// The driver lacks a function that is needed.
    MissingFunction {
        function: String,
    },
    /// There is a driver and nothing for it to drive, or `CUDA_VISIBLE_DEVICES` hides it.
    NoDevice,
    Capability {
        actual: (u32, u32),
    },
    /// A call failed.
    Refused {
        call: String,
        code: u32,
        name: Option<String>,
    },
}

/// Looks at the machine.
pub fn probe() -> Probe {
    let mut probe = Probe::default();
    if let Err(obstacle) = look(&mut probe) {
        probe.obstacle = Some(obstacle);
    }
    probe
}

fn look(probe: &mut Probe) -> Result<(), Obstacle> {
    let driver = Driver::load()?;
    let version = driver.version()?;
    probe.driver = Some(version);
    // Not started: the results of an old driver do not matter.
    if version < DRIVER_VERSION_MIN {
        return Err(Obstacle::DriverTooOld { version });
    }
    REQUIRED.iter().try_for_each(|name| driver.find::<Plain>(name).map(drop))?;
    driver.start()?;
    for ordinal in 0..driver.count()?.clamp(0, DEVICES_MAX) {
        probe.devices.push(driver.device(ordinal));
    }
    if probe.devices.is_empty() {
        return Err(Obstacle::NoDevice);
    }
    if probe.devices.iter().any(|device| device.obstacle.is_none()) {
        probe.cublaslt = cublaslt();
    }
    Ok(())
}

/// A function of which nothing is asked but whether it is there.
type Plain = unsafe extern "C" fn();

/// The driver's library, and calls into it by name. `CUresult` is a number here.
struct Driver;

impl Driver {
    fn load() -> Result<Self, Obstacle> {
        // SAFETY: it only looks for the library.
        if unsafe { driver::sys::is_culib_present() } { Ok(Self) } else { Err(Obstacle::NoDriver) }
    }

    fn find<F: Copy>(&self, name: &CStr) -> Result<F, Obstacle> {
        // SAFETY: the library was found; each caller gives the type that the driver's API has for the name.
        let found = unsafe { driver::sys::culib().get::<F>(name.to_bytes_with_nul()) };
        found.map(|function| *function).map_err(|_| Obstacle::MissingFunction { function: text(name) })
    }

    fn version(&self) -> Result<u32, Obstacle> {
        let name = c"cuDriverGetVersion";
        let function = self.find::<unsafe extern "C" fn(*mut c_int) -> c_uint>(name)?;
        let mut version = 0;
        // SAFETY: the pointer is to a number that lives; the call needs nothing before it.
        self.check(name, unsafe { function(&raw mut version) })?;
        Ok(u32::try_from(version).unwrap_or(0))
    }

    fn start(&self) -> Result<(), Obstacle> {
        const NO_DEVICE: u32 = 100;
        let function = self.find::<unsafe extern "C" fn(c_uint) -> c_uint>(c"cuInit")?;
        // SAFETY: 0 is the only value that there is.
        match unsafe { function(0) } {
            NO_DEVICE => Err(Obstacle::NoDevice),
            code => self.check(c"cuInit", code),
        }
    }

    fn count(&self) -> Result<c_int, Obstacle> {
        let name = c"cuDeviceGetCount";
        let function = self.find::<unsafe extern "C" fn(*mut c_int) -> c_uint>(name)?;
        let mut count = 0;
        // SAFETY: the pointer is to a number that lives, and the driver is started.
        self.check(name, unsafe { function(&raw mut count) })?;
        Ok(count)
    }

    /// One device that fails says nothing about the others.
    fn device(&self, ordinal: c_int) -> ProbedDevice {
        let mut found = ProbedDevice {
            ordinal: ordinal.unsigned_abs(),
            name: String::new(),
            uuid: None,
            compute_capability: (0, 0),
            memory_bytes: 0,
            memory_free_bytes: None,
            obstacle: None,
        };
        found.obstacle = self.look_at(ordinal, &mut found).err();
        found
    }

    fn look_at(&self, ordinal: c_int, found: &mut ProbedDevice) -> Result<(), Obstacle> {
        let get = self.find::<unsafe extern "C" fn(*mut c_int, c_int) -> c_uint>(c"cuDeviceGet")?;
        let mut device = 0;
        // SAFETY: the pointer is to a number that lives, and the driver is started.
        self.check(c"cuDeviceGet", unsafe { get(&raw mut device, ordinal) })?;

        found.name = self.name(device)?;
        found.uuid = self.uuid(device);
        found.compute_capability = self.compute_capability(device)?;
        found.memory_bytes = self.memory(device)?;
        if found.compute_capability < COMPUTE_CAPABILITY_MIN {
            return Err(Obstacle::Capability { actual: found.compute_capability });
        }
        found.memory_free_bytes = Some(self.memory_free(device)?);
        Ok(())
    }

    fn name(&self, device: c_int) -> Result<String, Obstacle> {
        const LEN: usize = 256;
        let name = c"cuDeviceGetName";
        let function = self.find::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_uint>(name)?;
        let mut buffer = [0u8; LEN];
        // SAFETY: the buffer is as long as the call is told.
        self.check(name, unsafe { function(buffer.as_mut_ptr().cast(), LEN as c_int, device) })?;
        let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(LEN);
        Ok(String::from_utf8_lossy(&buffer[..end]).trim().to_owned())
    }

    /// Nothing depends on it: a driver that cannot say is well.
    fn uuid(&self, device: c_int) -> Option<String> {
        let name = c"cuDeviceGetUuid_v2";
        let function = self.find::<unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_uint>(name).ok()?;
        let mut uuid = [0u8; 16];
        // SAFETY: a `CUuuid` is 16 bytes, which live.
        self.check(name, unsafe { function(&raw mut uuid, device) }).ok()?;
        let mut text = String::from("GPU");
        for (index, byte) in uuid.iter().enumerate() {
            let dash = if matches!(index, 0 | 4 | 6 | 8 | 10) { "-" } else { "" };
            text += &format!("{dash}{byte:02x}");
        }
        Some(text)
    }

    fn compute_capability(&self, device: c_int) -> Result<(u32, u32), Obstacle> {
        const MAJOR: c_int = 75;
        const MINOR: c_int = 76;
        let name = c"cuDeviceGetAttribute";
        let function = self.find::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_uint>(name)?;
        let get = |attribute| {
            let mut value = 0;
            // SAFETY: the pointer is to a number that lives.
            self.check(name, unsafe { function(&raw mut value, attribute, device) })?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        Ok((get(MAJOR)?, get(MINOR)?))
    }

    fn memory(&self, device: c_int) -> Result<u64, Obstacle> {
        let name = c"cuDeviceTotalMem_v2";
        let function = self.find::<unsafe extern "C" fn(*mut usize, c_int) -> c_uint>(name)?;
        let mut bytes = 0;
        // SAFETY: the pointer is to a number that lives.
        self.check(name, unsafe { function(&raw mut bytes, device) })?;
        Ok(bytes as u64)
    }

    /// Makes a context, asks it, and gives it back.
    fn memory_free(&self, device: c_int) -> Result<u64, Obstacle> {
        let retain =
            self.find::<unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_uint>(c"cuDevicePrimaryCtxRetain")?;
        let release = self.find::<unsafe extern "C" fn(c_int) -> c_uint>(c"cuDevicePrimaryCtxRelease_v2")?;
        let set = self.find::<unsafe extern "C" fn(*mut c_void) -> c_uint>(c"cuCtxSetCurrent")?;
        let get = self.find::<unsafe extern "C" fn(*mut usize, *mut usize) -> c_uint>(c"cuMemGetInfo_v2")?;
        let mut context = std::ptr::null_mut();
        // SAFETY: the pointer is to a handle that lives; the context is released below.
        self.check(c"cuDevicePrimaryCtxRetain", unsafe { retain(&raw mut context, device) })?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the context was retained, and is no thread's any more before it is released.
        let asked = unsafe {
            let asked = self
                .check(c"cuCtxSetCurrent", set(context))
                .and_then(|()| self.check(c"cuMemGetInfo", get(&raw mut free, &raw mut total)));
            set(std::ptr::null_mut());
            release(device);
            asked
        };
        asked.map(|()| free as u64)
    }

    fn check(&self, call: &CStr, code: c_uint) -> Result<(), Obstacle> {
        if code == 0 {
            return Ok(());
        }
        let name = self.find::<unsafe extern "C" fn(c_uint, *mut *const c_char) -> c_uint>(c"cuGetErrorName");
        let name = name.ok().and_then(|function| {
            let mut name = std::ptr::null();
            // SAFETY: the pointer is to a pointer that lives; the driver sets it to its own text, or null.
            unsafe {
                function(code, &raw mut name);
                if name.is_null() { None } else { Some(text(CStr::from_ptr(name))) }
            }
        });
        Err(Obstacle::Refused { call: text(call), code, name })
    }
}

/// cuBLASLt, if its library can be loaded and answers.
fn cublaslt() -> Option<Library> {
    // SAFETY: it looks for the library, and for a function of it that takes nothing.
    let version = unsafe {
        if !cublaslt::sys::is_culib_present() {
            return None;
        }
        let get = cublaslt::sys::culib().get::<unsafe extern "C" fn() -> usize>(b"cublasLtGetVersion\0").ok()?;
        get()
    };
    Some(Library { version, path: path_of("libcublasLt.so") })
}

/// Returns the path of a loaded library.
fn path_of(file: &str) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    let mut paths = paths.filter(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with(file)));
    paths.next().map(str::to_owned)
}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_asked_for_once() {
        let mut names = REQUIRED.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REQUIRED.len());
    }

    #[test]
    fn a_loaded_library_is_found_where_it_lies() {
        assert!(path_of("libc.so").is_some_and(|path| path.starts_with('/') && path.contains("/libc.so")));
        assert_eq!(path_of("libno-such-thing.so"), None);
    }
}
