//! SDK for authors of Bireme functions. This page is a tutorial; each item's own page has the details.
//!
//! # A first function
//!
//! `bireme new words` writes a crate; this is all that a function is:
//!
//! ```standalone_crate
//! use bireme_sdk::prelude::*;
//!
//! /// Counts the words of a text.
//! #[function(timeout = "1s", memory = "16MiB")]
//! fn words(text: String) -> usize {
//!     text.split_whitespace().count()
//! }
//!
//! fn main() -> Result<()> {
//!     assert_eq!(words("a ship".to_owned()), 2); // a plain call
//!     assert_eq!(words::call("with two decks".to_owned())?, 3); // through the host, in a sandbox of its own
//!     Ok(())
//! }
//! ```
//!
//! ```sh
//! bireme run words::words --text "a ship with two decks"     # one call
//! bireme dev words                                           # served, and rebuilt at every save
//! cargo test                                                 # the crate's own tests, natively
//! ```
//!
//! An app is a crate of type `cdylib` with this SDK, and `serde` and `schemars` for its own types (their derives name
//! those crates). Functions are found when the app is linked; nothing is listed. [`function`] has every attribute:
//! limits, retries, permissions, schedules.
//!
//! # Inputs, results, failures
//!
//! Parameters and results are any types of serde with a schema; they travel as JSON. [`Bytes`] travel as they are. An
//! error of any kind becomes a [`Failure`] through `?`; [`Context`] adds a sentence to it, and [`Failure::terminal`]
//! makes one that is never retried.
//!
//! ```
//! use bireme_sdk::prelude::*;
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Order {
//!     item: String,
//!     count: u32,
//! }
//!
//! #[function(retries = 2)]
//! fn price(order: Order) -> Result<u64> {
//!     if order.count == 0 {
//!         return Err(Failure::terminal(format!("no {} was ordered", order.item)));
//!     }
//!     let each: u64 = "250".parse().context("the price list is broken")?;
//!     Ok(each * u64::from(order.count))
//! }
//!
//! assert_eq!(price(Order { item: "oars".to_owned(), count: 2 })?, 500);
//! let failure = price(Order { item: "oars".to_owned(), count: 0 }).unwrap_err();
//! assert!(failure.is_terminal());
//! # Ok::<(), Failure>(())
//! ```
//!
//! A call whose input does not fit is answered with the place: `$.order.count: expected an integer, found "y"`.
//!
//! # Many calls
//!
//! `map` calls a function once for each input, many at a time, in bounded memory: the inputs may be an iterator without
//! end. Results come in the order of the inputs, or as they are ready ([`Map::unordered`]); a failure ends the map, or
//! is kept ([`Map::keep_going`]).
//!
//! ```
//! use bireme_sdk::prelude::*;
//!
//! #[function]
//! fn half(number: u32) -> Result<u32> {
//!     if number % 2 == 0 { Ok(number / 2) } else { Err(Failure::terminal("it is odd")) }
//! }
//!
//! let mut halves = half::map(0..5).keep_going();
//! assert_eq!(halves.by_ref().collect::<Vec<_>>(), [0, 1, 2]);
//! assert_eq!(halves.failures().len(), 2);
//! ```
//!
//! A function with `batched(max_size = 64, wait = "10ms")` is called with single inputs and runs on groups of them; see
//! [`function`].
//!
//! ```
//! use bireme_sdk::prelude::*;
//!
//! #[function(batched(max_size = 64, wait = "10ms"))]
//! fn lengths(texts: Vec<String>) -> Vec<usize> {
//!     texts.iter().map(String::len).collect()
//! }
//!
//! assert_eq!(lengths::call("oar".to_owned())?, 3); // one input; on a host it meets those of other calls
//! assert_eq!(lengths(vec!["a".to_owned(), "bc".to_owned()]), [1, 2]); // a plain call
//! # Ok::<(), Failure>(())
//! ```
//!
//! # Over HTTP, out and in
//!
//! [`http`] sends requests to the origins that a function declares; the operator sets the origin of a `$name`.
//! [`mod@web`] answers them.
//!
//! ```standalone_crate
//! use bireme_sdk::prelude::*;
//! use bireme_sdk::testing;
//! use bireme_sdk::web::{Html, escape};
//!
//! /// Fetches a page and returns its first line.
//! #[function(timeout = "10s", outbound = ["https://example.com", "$site"])]
//! fn first_line(url: String) -> Result<String> {
//!     let text = http::get(&url).retries(2).send()?.error_for_status()?.text()?;
//!     Ok(text.lines().next().unwrap_or_default().to_owned())
//! }
//!
//! /// The same as a page: GET /APP/first?url=…
//! #[web(route = "GET /first", outbound = ["https://example.com"])]
//! fn first(url: String) -> Result<Html<String>> {
//!     Ok(Html(format!("<h1>{}</h1>", escape(&first_line(url)?))))
//! }
//!
//! fn main() {
//!     let _site = testing::with_http(|_| Ok(http::Response::new(200, "<hello>\nworld")));
//!     let page = testing::web("GET", "/first?url=https://example.com/").send();
//!     assert_eq!(page.text().unwrap(), "<h1>&lt;hello&gt;</h1>");
//! }
//! ```
//!
//! # Models, data, settings, a log
//!
//! A model is named, never loaded: the host's workers have it, and requests of many calls share their batches. [`kv`]
//! stores values on disk and changes them atomically, [`vectors`] stores embeddings and finds the nearest, [`config`]
//! reads values that the operator sets, [`secret`] reads declared secrets, [`log`] writes lines with fields.
//!
//! ```
//! use bireme_sdk::prelude::*;
//! use bireme_sdk::testing;
//!
//! #[function(models = ["all-minilm-l6-v2"])]
//! fn nearest(query: String, texts: Vec<String>) -> Result<String> {
//!     let vectors = model("all-minilm-l6-v2").embed(&texts)?;
//!     let query = model("all-minilm-l6-v2").embed(&[query])?.remove(0);
//!     let scores = vectors.iter().map(|vector| vector.dot(&query));
//!     let best = scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).context("there are no texts")?.0;
//!     log::info!("found", best = best, texts = texts.len());
//!     kv::open("asked")?.set_json("last", &texts[best])?;
//!     Ok(texts[best].clone())
//! }
//!
//! let _kv = testing::with_kv();
//! let _model = testing::with_model("all-minilm-l6-v2", 1, |text| vec![text.len() as f32]);
//! assert_eq!(nearest("a".to_owned(), vec!["bb".to_owned(), "cccc".to_owned()])?, "cccc");
//! assert_eq!(kv::open("asked")?.get_json::<String>("last")?.as_deref(), Some("cccc"));
//! # Ok::<(), Failure>(())
//! ```
//!
//! # Tests
//!
//! The same crate is tested natively with `cargo test`: calls and maps run in process, and [`testing`] has stand-ins
//! for the rest of the host. `bireme test --wasm` runs the same tests in the sandbox.
//!
//! # On a host
//!
//! ```sh
//! bireme serve &                          # a host
//! bireme deploy words -m "first"          # shows new permissions, and asks
//! bireme call words::words --text "a ship"
//! bireme logs words -f
//! bireme rollback words
//! ```
#![cfg_attr(target_arch = "wasm32", doc = "", doc = "[`testing`]: https://docs.rs/bireme-sdk")]
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

// The macro's code says `::bireme_sdk`, in this crate's own tests too.
#[cfg(test)]
extern crate self as bireme_sdk;

mod arguments;
mod batched;
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
mod spawn;
mod spawn_map;
#[cfg(any(not(target_arch = "wasm32"), feature = "testing"))]
pub mod testing;
pub mod vectors;
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
pub use crate::model::{Classes, Embeddings, Ranked, Tensor, Tensors, Vector};
pub use crate::payload::{Input, Output};
pub use crate::secret::{SecretError, secret};
pub use crate::spawn::Spawned;
pub use crate::spawn_map::{Completed, MapHandle, Progress, Results};

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

/// Support for the macros' code; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::arguments::{Arguments, ArgumentsWriter};
    pub use crate::batched::run as batched;
    pub use crate::call::call;
    pub use crate::entry::{App, Attributes, Batched, Entry, Fallible, Retries, Schedule};
    pub use crate::map::map;
    pub use crate::payload::{Payload, json_of};
    pub use crate::schemas::{Schemas, SchemasBuilder};
    pub use crate::spawn::spawn;
    pub use crate::spawn_map::spawn_map;
    pub use crate::web::private as web;
}

/// The code on that page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from-modal.md")]
mod coming_from_modal {}
