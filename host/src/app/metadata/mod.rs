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

pub use self::attributes::{Attributes, Batching, Retries, SpacedRetries};
pub use self::document::{AppInfo, Metadata};
pub use self::error::{FORMAT, MetadataError, SECTION};
pub use self::function::FunctionInfo;
pub use super::schedule::{CronSchedule, Missed, Overlap, PeriodSchedule, Schedule};
