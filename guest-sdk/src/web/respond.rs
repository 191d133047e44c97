//! Result types of web functions.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Json, Problem, Response, Stream};
use crate::{Bytes, schemas};

/// Result type of a web function: those of this module, or a type of the app.
///
/// ```
/// use bireme_sdk::web::{Respond, Response};
///
/// struct Csv(Vec<String>);
///
/// impl Respond for Csv {
///     fn respond(self) -> Response {
///         Response::new(200).header("content-type", "text/csv").body(self.0.join("\n"))
///     }
/// }
///
/// assert_eq!(Csv(vec!["a,b".to_owned(), "1,2".to_owned()]).respond().status(), 200);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the answer of a web function",
    note = "return `web::Html<String>`, `web::Json<T>`, `String`, `web::Bytes`, `web::Response`, `web::Redirect`, \
        `web::Stream`, or a `Result` of one"
)]
pub trait Respond {
    /// Returns the response.
    fn respond(self) -> Response;

    /// Describes the response's body as JSON Schema; a body of another type by its media type.
    #[doc(hidden)]
    fn schema() -> Value {
        Value::Bool(true)
    }
}

fn of_type(media_type: &str) -> Value {
    json!({ "type": "string", "contentMediaType": media_type })
}

/// An HTML page.
///
/// ```
/// use bireme_sdk::web::{Html, Respond};
///
/// assert_eq!(Html("<p>hello</p>").respond().status(), 200);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Html<T>(pub T);

impl<T: Into<String>> Respond for Html<T> {
    fn respond(self) -> Response {
        let text: String = self.0.into();
        Response::new(200).header("content-type", "text/html; charset=utf-8").body(text)
    }

    fn schema() -> Value {
        of_type("text/html")
    }
}

impl<T: Serialize + JsonSchema> Respond for Json<T> {
    fn respond(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => Response::new(200).header("content-type", "application/json").body(body),
            Err(error) => Problem::new(500, format!("the answer cannot be written as JSON: {error}")).into_response(),
        }
    }

    fn schema() -> Value {
        schemas::of_output::<T>()
    }
}

impl Respond for String {
    fn respond(self) -> Response {
        Response::new(200).header("content-type", "text/plain; charset=utf-8").body(self)
    }

    fn schema() -> Value {
        of_type("text/plain")
    }
}

impl Respond for Bytes {
    fn respond(self) -> Response {
        Response::new(200).header("content-type", self.content_type()).body(self.into_vec())
    }

    fn schema() -> Value {
        of_type("application/octet-stream")
    }
}

impl Respond for Vec<u8> {
    fn respond(self) -> Response {
        Bytes::from(self).respond()
    }

    fn schema() -> Value {
        Bytes::schema()
    }
}

/// Status 204.
impl Respond for () {
    fn respond(self) -> Response {
        Response::new(204)
    }

    fn schema() -> Value {
        Value::Bool(false)
    }
}

impl Respond for Response {
    fn respond(self) -> Response {
        self
    }
}

impl Respond for Stream {
    fn respond(self) -> Response {
        let content_type = self.content_type.clone();
        Response::new(200).header("content-type", content_type).stream(self)
    }
}

impl Respond for Problem {
    fn respond(self) -> Response {
        self.into_response()
    }
}

impl<T: Respond, E: Into<Problem>> Respond for Result<T, E> {
    fn respond(self) -> Response {
        match self {
            Ok(value) => value.respond(),
            Err(error) => error.into().into_response(),
        }
    }

    fn schema() -> Value {
        T::schema()
    }
}

/// Redirects the client. A path that begins with `/` is one of this app, wherever its host mounts it.
///
/// ```
/// use bireme_sdk::web::{Redirect, Respond};
///
/// assert_eq!(Redirect::to("/done").respond().status(), 303);
/// assert_eq!(Redirect::permanent("https://example.com/").respond().status(), 308);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    status: u16,
    location: String,
}

impl Redirect {
    /// Redirects to a page to request with `GET`, as after a posted form (303).
    pub fn to(location: impl Into<String>) -> Self {
        Self { status: 303, location: location.into() }
    }

    /// Redirects the same request, this time only (307).
    pub fn temporary(location: impl Into<String>) -> Self {
        Self { status: 307, location: location.into() }
    }

    /// Redirects the same request, permanently (308).
    pub fn permanent(location: impl Into<String>) -> Self {
        Self { status: 308, location: location.into() }
    }
}

impl Respond for Redirect {
    fn respond(self) -> Response {
        Response::new(self.status).header("location", self.location)
    }

    fn schema() -> Value {
        Value::Bool(false)
    }
}
