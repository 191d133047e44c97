//! Apps on a running host.

mod loader;

pub use loader::{LoadError, Loader};
