//! Apps in Python: from source files to a component, without a toolchain. The base component, an interpreter with the
//! SDK, imports the app's modules once; its memory then is the app (`sandbox::preload`).
//!
//! Not here: running the app (`sandbox`), its metadata (the component's `describe`), the SDK (`python/` of the
//! repository).

mod base;
mod builder;
mod error;
mod project;
mod requirements;
mod source;

pub(crate) use self::base::Base;
pub(crate) use self::builder::Builder;
pub(crate) use self::error::PythonError;
pub(crate) use self::project::{Project, ProjectError};
