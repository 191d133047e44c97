//! What the author of a Bireme function writes against.
//!
//! ```standalone_crate
//! use bireme_sdk::prelude::*;
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Words {
//!     count: usize,
//! }
//!
//! /// Counts the words of a text.
//! #[function(timeout = "1s", memory = "16MiB")]
//! fn words(text: String) -> Result<Words> {
//!     Ok(Words { count: text.split_whitespace().count() })
//! }
//!
//! fn main() -> Result<()> {
//!     assert_eq!(words("a ship".to_owned())?.count, 2); // a plain call
//!     assert_eq!(words::call("with two decks".to_owned())?.count, 3); // through the host
//!     let texts = ["of oars".to_owned(), "rows".to_owned()];
//!     let counts: Vec<usize> = words::map(texts).map(|words| Ok(words?.count)).collect::<Result<_>>()?; // one call for each
//!     assert_eq!(counts, [2, 1]);
//!     Ok(())
//! }
//! ```
//!
//! An app is a crate of type `cdylib` with this SDK, and `serde` and `schemars` for its own types (their derives name those
//! crates), built with `cargo build --target wasm32-wasip2`. Functions are found when the app is linked; nothing is listed.
//!
//! The same crate is tested natively with `cargo test`: see [`testing`] for what stands in for the host.
#![cfg_attr(target_arch = "wasm32", doc = "", doc = "[`testing`]: https://docs.rs/bireme-sdk")]

// The macro's code says `::bireme_sdk`, in this crate's own tests too.
extern crate self as bireme_sdk;

mod arguments;
mod bytes;
mod call;
pub mod config;
pub mod context;
mod entry;
mod failure;
mod host;
pub mod http;
pub mod kv;
pub mod log;
mod map;
mod metadata;
pub mod model;
mod payload;
mod schemas;
mod secret;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod web;

pub use bireme_sdk_macros::{function, web};
pub use schemars;
pub use serde;
pub use serde_json;

pub use crate::bytes::Bytes;
pub use crate::call::call_by_name;
pub use crate::failure::{Code, Context, Failure, Result};
pub use crate::map::{FAILURES_LEN_MAX, KeepGoing, Map, Unordered};
pub use crate::metadata::describe;
pub use crate::model::{Embeddings, Vector};
pub use crate::payload::{Input, Output};
pub use crate::secret::{SecretError, secret};

/// Everything that most functions need.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// #[function]
/// fn ping() -> String {
///     log::debug!("pinged");
///     "pong".to_owned()
/// }
///
/// fn main() {
///     assert_eq!(ping(), "pong");
/// }
/// ```
pub mod prelude {
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};

    pub use crate::model::model;
    pub use crate::{
        Bytes, Context, Failure, Result, Vector, bail, config, context, function, http, kv, log, secret, web,
    };
}

/// What the macro's code leans on; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::arguments::{Arguments, ArgumentsWriter};
    pub use crate::call::call;
    pub use crate::entry::{App, Attributes, Entry, Fallible, Retries, Schedule};
    pub use crate::map::map;
    pub use crate::payload::{Payload, json_of};
    pub use crate::schemas::{Schemas, SchemasBuilder};
    pub use crate::web::private as web;
}

/// The code on that page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from-modal.md")]
mod coming_from_modal {}
