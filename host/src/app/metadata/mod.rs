//! The metadata document of an app: the result of `describe` and the contents of the section `bireme:metadata`.
//!
//! Its shape is public (`docs/metadata.md`). A document is hostile until `Metadata::parse` has checked it.
//!
//! Invariants: function names are unique and valid; every attribute is one that this host honours and lies within its
//! ceilings; a document of a newer format is refused.

mod attributes;
mod document;
mod error;
mod function;

pub(crate) use self::attributes::Attributes;
#[cfg(test)]
pub(crate) use self::attributes::{Batching, Retries, SpacedRetries};
#[cfg(test)]
pub(crate) use self::document::AppInfo;
pub use self::document::Metadata;
#[cfg(test)]
pub(crate) use self::error::FORMAT;
pub(crate) use self::error::MetadataError;
pub(crate) use self::function::FunctionInfo;
pub use super::schedule::{CronSchedule, PeriodSchedule, Schedule};
pub(crate) use super::schedule::{Missed, Overlap};
