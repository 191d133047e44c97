//! Work that is queued as a whole: a small batch costs the device less than its launches cost the processor.
#![expect(unsafe_code, reason = "calls into the driver")]

use std::rc::Rc;

use cudarc::driver::result;
use cudarc::driver::sys;

use super::DeviceError;
use super::context::{Device, Inner};
use super::memory::Piece;

/// Captured work. It owns the memory that it names.
pub struct Graph {
    device: Rc<Inner>,
    raw: sys::CUgraphExec,
    _keeps: Vec<Rc<Piece>>,
}

impl Device {
    /// Captures what `work` queues, without running it. `work` may neither wait, nor copy, nor take memory from the
    /// driver: all that it needs is there beforehand, kernels and products too, which an earlier run of the same work
    /// sees to.
    pub fn capture(&self, work: impl FnOnce() -> Result<(), DeviceError>) -> Result<Graph, DeviceError> {
        if self.is_capturing() {
            return Err(DeviceError::InCapture);
        }
        let stream = self.inner.stream.raw;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives; `Capture` ends what begins here, however `work` leaves.
        unsafe { result::stream::begin_capture(stream, mode) }.map_err(DeviceError::driver("cuStreamBeginCapture"))?;
        *self.inner.captured.borrow_mut() = Some(Vec::new());
        let capture = Capture { device: self, was_idle: self.inner.is_idle.get() };
        let done = work();
        let (captured, keeps) = capture.end();
        done?;
        let graph = captured?;
        // SAFETY: the driver just returned the graph.
        let raw = unsafe { result::graph::instantiate(graph.0, sys::CUgraphInstantiate_flags(0)) }
            .map_err(DeviceError::driver("cuGraphInstantiate"))?;
        Ok(Graph { device: self.inner.clone(), raw, _keeps: keeps })
    }

    pub(super) fn is_capturing(&self) -> bool {
        self.inner.captured.borrow().is_some()
    }
}

/// A capture under way. If the captured code panics, dropping it ends and discards the capture.
struct Capture<'a> {
    device: &'a Device,
    was_idle: bool,
}

impl Capture<'_> {
    fn end(self) -> (Result<Captured, DeviceError>, Vec<Rc<Piece>>) {
        let keeps = self.device.inner.captured.borrow_mut().take().unwrap_or_default();
        let captured = self.stop();
        (captured, keeps)
    }

    fn stop(&self) -> Result<Captured, DeviceError> {
        // Captured work is not queued.
        self.device.inner.is_idle.set(self.was_idle);
        // SAFETY: begun by `capture`. A capture that was spoiled gives a null graph and an error.
        unsafe { result::stream::end_capture(self.device.inner.stream.raw) }
            .map(Captured)
            .map_err(DeviceError::driver("cuStreamEndCapture"))
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.device.inner.captured.borrow_mut().take().is_some() {
            let _ = self.stop();
        }
    }
}

/// A graph as captured, which is needed until an executable one is made of it.
struct Captured(sys::CUgraph);

impl Drop for Captured {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the driver returned it, it is destroyed once, and the executable graph does not need it.
            let _ = unsafe { result::graph::destroy(self.0) };
        }
    }
}

impl Graph {
    /// Queues all of it.
    pub fn launch(&self) -> Result<(), DeviceError> {
        self.device.is_idle.set(false);
        // SAFETY: graph and stream live.
        unsafe { result::graph::launch(self.raw, self.device.stream.raw) }.map_err(DeviceError::driver("cuGraphLaunch"))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: instantiated by this value; the driver lets a running one finish.
        let _ = unsafe { result::graph::exec_destroy(self.raw) };
    }
}
