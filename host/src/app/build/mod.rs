//! Builds of guests: from a crate directory to a component, with the target added where it is missing.
//!
//! Not here: `describe` and the metadata section, which need a sandbox (`cli::target` joins both).

mod cargo;
mod cargo_output;
mod diagnosis;
mod error;
mod toolchain;

pub use self::cargo::{Build, Canceller, Profile, build};
pub use self::error::{BuildError, TARGET};
pub use self::toolchain::{Toolchain, has_linker, has_target};
