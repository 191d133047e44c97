//! The arithmetic of Bireme's workers: the ops of transformer encoders over packed sequences.
//!
//! A batch has no padding. Its sequences stand one after another, `[tokens, width]` row by row, and [`Sequences`] holds
//! where each begins. [`cpu`] is the reference that every other device is compared with, and the default device.
//!
//! Not here: which ops make a model, reading weights, and batching (`worker` and `inference` in the host).
//!
//! Invariants: an op checks every shape before it writes anything, so an error leaves the outputs as they were. A row's
//! result does not depend on the rows beside it, nor on the number of threads.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod cpu;
pub mod cuda;
mod sequences;
mod shape;

pub use sequences::{Sequences, Vocabulary};
pub use shape::ShapeError;
