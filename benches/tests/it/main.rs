//! The tools of this crate, run for a moment.

mod survive;
