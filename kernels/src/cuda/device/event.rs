//! Marks in a device's queue, and the time between two of them.
#![expect(unsafe_code, reason = "calls into the driver")]

use std::rc::Rc;
use std::sync::OnceLock;

use cudarc::driver::result;
use cudarc::driver::sys;

use super::DeviceError;
use super::context::{Device, Inner};

/// A mark that the device passes once all work queued before it is done.
pub struct Event {
    device: Rc<Inner>,
    raw: sys::CUevent,
}

impl Event {
    pub fn new(device: &Device) -> Result<Self, DeviceError> {
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let raw = result::event::create(flags).map_err(DeviceError::driver("cuEventCreate"))?;
        Ok(Self { device: device.inner.clone(), raw })
    }

    /// Puts the mark behind all that is queued now.
    pub fn record(&self) -> Result<(), DeviceError> {
        // SAFETY: event and stream live.
        unsafe { result::event::record(self.raw, self.device.stream.raw) }.map_err(DeviceError::driver("cuEventRecord"))
    }

    /// Waits until the device has passed it.
    pub fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the event lives.
        unsafe { result::event::synchronize(self.raw) }.map_err(DeviceError::driver("cuEventSynchronize"))
    }

    /// The time that the device took from `start` to this mark, in nanoseconds; both must have been passed. The driver
    /// counts in steps of about half a microsecond.
    pub fn nanoseconds_since(&self, start: &Event) -> Result<u64, DeviceError> {
        let mut milliseconds = 0.0;
        // SAFETY: both events live, and the function has this signature under either name.
        let status = unsafe { elapsed_time()(&raw mut milliseconds, start.raw, self.raw) };
        status.result().map_err(DeviceError::driver("cuEventElapsedTime"))?;
        Ok((f64::from(milliseconds.max(0.0)) * 1e6) as u64)
    }
}

type ElapsedTime = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;

/// The driver's function. The bindings of CUDA 13 know it by its second name alone, which drivers before 570 do not
/// have.
fn elapsed_time() -> ElapsedTime {
    static FOUND: OnceLock<ElapsedTime> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: the driver was loaded when the device was opened, and never goes; the signature is the manual's.
        unsafe {
            let driver = sys::culib();
            let found = driver.get::<ElapsedTime>(b"cuEventElapsedTime\0");
            *found.or_else(|_| driver.get(b"cuEventElapsedTime_v2\0")).expect("every driver has one of the two")
        }
    })
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by this value; the driver keeps it until the device has passed it.
        let _ = unsafe { result::event::destroy(self.raw) };
    }
}
