//! Last call of a function over HTTP, which `bireme dev` repeats after a rebuild.

use parking_lot::Mutex;

use crate::call::Payload;
use crate::ids::FunctionName;

/// Function and input of the last call. The input's bytes are shared with the call, not copied.
#[derive(Debug, Default)]
pub struct LastCall(Mutex<Option<(FunctionName, Payload)>>);

impl LastCall {
    /// Replaces the recorded call.
    pub(crate) fn record(&self, function: FunctionName, input: Payload) {
        *self.0.lock() = Some((function, input));
    }

    /// Returns the recorded call.
    pub(crate) fn get(&self) -> Option<(FunctionName, Payload)> {
        self.0.lock().clone()
    }
}
