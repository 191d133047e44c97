//! Apps on disk: a component, the metadata inside it, and the builds that make both.
//!
//! Not here: running anything (`sandbox`).

pub(crate) mod artifact;
pub mod build;
pub(crate) mod capabilities;
pub(crate) mod compiled;
mod component;
pub(crate) mod footprint;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub(crate) mod kind;
pub(crate) mod manifest;
pub mod metadata;
pub(crate) mod parts;
pub(crate) mod route;
mod schedule;
pub(crate) mod sdk;
mod sections;
pub(crate) mod timetable;

pub(crate) use self::component::ComponentError;
pub use self::component::{ComponentBytes, DescribedApp};
