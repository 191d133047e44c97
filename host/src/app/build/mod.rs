//! Builds of guests: from a crate directory to a component, with the target added where it is missing.
//!
//! Not here: `describe` and the metadata section, which need a sandbox (`cli::target` joins both).

mod cargo;
mod cargo_output;
mod diagnosis;
mod error;
mod package;
mod shared_dir;
mod toolchain;

pub use self::cargo::build;
pub(crate) use self::cargo::{Build, Canceller, Profile, TestProgram, build_in};
pub(crate) use self::error::{BuildError, TARGET};
pub(crate) use self::package::{BuildDirs, Package};
pub(crate) use self::toolchain::{has_linker, has_target};
