//! Work that is queued as a whole: a small batch costs the device less than its launches cost the processor.
#![expect(unsafe_code, reason = "calls into the driver")]

use std::rc::Rc;

use cudarc::driver::result;
use cudarc::driver::sys;

use super::DeviceError;
use super::context::{Device, Inner};

/// Captured work with its addresses and sizes. Whoever keeps it keeps what it names alive.
pub struct Graph {
    device: Rc<Inner>,
    raw: sys::CUgraphExec,
}

impl Device {
    /// Captures what `work` queues, without running it. `work` may neither wait nor take memory from the driver: all that
    /// it needs is there beforehand, kernels and products too, which an earlier run of the same work sees to.
    pub fn capture(&self, work: impl FnOnce() -> Result<(), DeviceError>) -> Result<Graph, DeviceError> {
        let stream = self.inner.stream.raw;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives; the capture is ended below on every way out.
        unsafe { result::stream::begin_capture(stream, mode) }.map_err(DeviceError::driver("cuStreamBeginCapture"))?;
        let was_idle = self.inner.is_idle.get();
        let done = work();
        // What is captured is not queued.
        self.inner.is_idle.set(was_idle);
        // SAFETY: begun above. A capture that was spoiled gives a null graph and an error.
        let captured =
            unsafe { result::stream::end_capture(stream) }.map_err(DeviceError::driver("cuStreamEndCapture"));
        let graph = match (done, captured) {
            (Ok(()), Ok(graph)) => graph,
            (Err(error), captured) => {
                if let Ok(graph) = captured {
                    destroy(graph);
                }
                return Err(error);
            }
            (Ok(()), Err(error)) => return Err(error),
        };
        // SAFETY: the graph is what the driver just gave.
        let raw = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) }
            .map_err(DeviceError::driver("cuGraphInstantiate"));
        destroy(graph);
        Ok(Graph { device: self.inner.clone(), raw: raw? })
    }
}

fn destroy(graph: sys::CUgraph) {
    if !graph.is_null() {
        // SAFETY: given by the driver, destroyed once; what was made of it stands by itself.
        let _ = unsafe { result::graph::destroy(graph) };
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
