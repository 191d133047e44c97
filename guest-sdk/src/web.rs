//! Web functions: plain functions that answer HTTP requests.
//!
//! ```
//! use bireme_sdk::prelude::*;
//! use bireme_sdk::web::{self, Html, Json};
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Note {
//!     text: String,
//! }
//!
//! /// A page; `name` is an optional parameter of the query.
//! #[web(route = "GET /")]
//! fn home(name: Option<String>) -> Html<String> {
//!     Html(format!("<h1>hello, {}</h1>", web::escape(name.as_deref().unwrap_or("you"))))
//! }
//!
//! /// JSON in, JSON out; `id` is a part of the path.
//! #[web(route = "PUT /notes/{id}", timeout = "2s")]
//! fn put_note(id: u32, note: Json<Note>) -> Result<Json<Note>> {
//!     kv::open("notes")?.set_json(&id.to_string(), &note.0)?;
//!     Ok(note)
//! }
//!
//! fn main() {
//!     use bireme_sdk::testing;
//!
//!     let page = testing::web("GET", "/?name=%3CAda%3E").send();
//!     assert_eq!(page.text().unwrap(), "<h1>hello, &lt;Ada&gt;</h1>");
//!
//!     let _kv = testing::with_kv();
//!     let put = testing::web("PUT", "/notes/7").json(&Note { text: "oars".to_owned() }).send();
//!     assert_eq!(put.status, 200);
//!     assert_eq!(testing::web("PUT", "/notes/x").send().status, 400);
//! }
//! ```
//!
//! A parameter named in the route comes from the path. Of the others, [`Json`], [`Form`], [`Bytes`] and
//! [`Body`] take the body, [`Request`] takes everything, and any other type is a parameter of the query by its name: a
//! number, a text, a `bool`, an enum of plain variants, an `Option` of one (nothing or an empty text is none) or a
//! `Vec` of them (repeated values). A misfit is answered with status 400, and names the parameter, the expected type
//! and the found value.
//!
//! Whatever implements [`Respond`] can be returned, and a `Result` of it: an error becomes a [`Problem`], a document
//! that programs can read (RFC 9457).
//!
//! On a host the app's routes lie below `/{app}`. Handlers see the path without it; [`Request::url`] puts it back, and
//! links relative to the page work as they are.

mod body;
mod entry;
mod escape;
mod form;
mod parameter;
mod problem;
mod request;
mod respond;
mod response;
mod route;
mod server;
mod stream;
mod value;

pub use self::body::{BODY_BYTES_MAX, Body};
pub use self::escape::escape;
pub use self::parameter::{Form, Json, Parameter};
pub use self::problem::Problem;
pub use self::request::Request;
pub use self::respond::{Html, Redirect, Respond};
pub use self::response::Response;
pub use self::stream::Stream;
pub use crate::Bytes;

pub(crate) use self::entry::{Entry, all};
#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
pub(crate) use self::response::Content;
pub(crate) use self::server::answer;

/// Support for the macros' code.
#[doc(hidden)]
pub mod private {
    pub use super::entry::{Entry, SERVER};
    pub use super::parameter::{Parameter, Source, check_body, check_path, check_reads};
    pub use super::respond::Respond;
    pub use crate::schemas::SchemasBuilder;
}
