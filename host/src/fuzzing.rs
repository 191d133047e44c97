//! Readers of untrusted bytes as plain functions, for the targets in `fuzz/`.
//!
//! Not part of the library's interface: it exists with the feature `fuzzing` alone, and changes without notice.

pub use crate::app::fuzzing as app;
pub use crate::cli::fuzzing as cli;
pub use crate::compiler::fuzzing as compiler;
pub use crate::dispatch::fuzzing as dispatch;
pub use crate::http::fuzzing as http;
pub use crate::outbound::fuzzing as outbound;
pub use crate::store::fuzzing as store;
pub use crate::worker::fuzzing as worker;
