//! Apps on disk: a component, the metadata inside it, and the builds that make both.
//!
//! Not here: running anything (`sandbox`).

pub mod artifact;
pub mod build;
pub mod capabilities;
mod component;
pub mod footprint;
pub mod metadata;
pub mod route;
mod schedule;
pub mod timetable;

pub use self::component::{ComponentBytes, ComponentError, DescribedApp};
