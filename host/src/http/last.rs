//! The last call of a function that came in, for whoever wants to make it again.

use std::sync::{Mutex, PoisonError};

use crate::call::Payload;
use crate::ids::FunctionName;

/// Keeps one call's function and input. The input's bytes are shared with the call, not copied.
#[derive(Debug, Default)]
pub struct LastCall(Mutex<Option<(FunctionName, Payload)>>);

impl LastCall {
    /// Keeps this one in the place of the one before.
    pub fn keep(&self, function: FunctionName, input: Payload) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((function, input));
    }

    /// Returns the one that is kept.
    pub fn get(&self) -> Option<(FunctionName, Payload)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
