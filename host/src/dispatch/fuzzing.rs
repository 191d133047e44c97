//! Groups of inputs and a guest's answers to them, for the targets in `fuzz/`.

pub use super::batching::fuzzing::{answers, group};
