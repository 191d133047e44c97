//! Parameters of web functions, by their source in the request.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::value::{Misfit, Texts};
use super::{Body, Problem, Request, form};
use crate::Bytes;
use crate::schemas::SchemasBuilder;

/// Parameter type of a web function: any that serde reads from one text, and [`Json`], [`Form`], [`Bytes`], [`Body`]
/// and [`Request`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a web function",
    note = "a parameter of the path or the query implements `Deserialize` and `JsonSchema`; the body is taken as \
        `web::Json<T>`, `web::Form<T>`, `web::Bytes` or `web::Body`, and everything as `web::Request`"
)]
pub trait Parameter: Sized {
    /// Part of the request that holds the parameter.
    #[doc(hidden)]
    const SOURCE: Source;

    /// Decodes the parameter from the request.
    #[doc(hidden)]
    fn take(name: &str, request: &mut Request) -> Result<Self, Problem>;

    /// Adds the schema of the parameter.
    #[doc(hidden)]
    fn describe(name: &str, schemas: &mut SchemasBuilder);
}

/// Source of a parameter in a request.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The path or the query.
    Text,
    /// The body.
    Body,
    /// The whole request.
    Whole,
}

/// For the macro: a path parameter must be a text.
#[doc(hidden)]
pub const fn check_path(source: Source) {
    assert!(matches!(source, Source::Text), "the route gives this name a part of the path, which is no body");
}

/// For the macro: a `GET` has no body.
#[doc(hidden)]
pub const fn check_body(source: Source) {
    assert!(!matches!(source, Source::Body), "a `GET` has no body; use another method, or take `web::Request`");
}

/// For the macro: the body can be read once.
#[doc(hidden)]
pub const fn check_reads(sources: &[Source]) {
    let (mut i, mut reads) = (0, 0);
    while i < sources.len() {
        reads += !matches!(sources[i], Source::Text) as usize;
        i += 1;
    }
    assert!(reads <= 1, "only one parameter can take the body: `Json`, `Form`, `Bytes`, `Body` or `Request`");
}

impl<T: DeserializeOwned + JsonSchema> Parameter for T {
    const SOURCE: Source = Source::Text;

    fn take(name: &str, request: &mut Request) -> Result<Self, Problem> {
        let (of, texts) = match request.path_value(name) {
            Some(text) => ("path", vec![text.to_owned()]),
            None => ("query", form::values_of(request.query(), name)),
        };
        T::deserialize(Texts(&texts)).map_err(|misfit| invalid(of, name, &misfit))
    }

    fn describe(name: &str, schemas: &mut SchemasBuilder) {
        schemas.parameter_unless::<T>(name, T::deserialize(Texts(&[])).is_ok());
    }
}

fn invalid(of: &str, name: &str, misfit: &Misfit) -> Problem {
    Problem::of_request(400, "invalid-input", format!("parameter `{name}` of the {of}: {misfit}"))
}

/// A JSON body, of a request or of a response.
///
/// ```
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::web::Json;
///
/// #[web(route = "POST /sum")]
/// fn sum(numbers: Json<Vec<f64>>) -> Json<f64> {
///     Json(numbers.0.iter().sum())
/// }
///
/// fn main() {
///     let sum = bireme_sdk::testing::web("POST", "/sum").json(&[1.5, 2.0]).send();
///     assert_eq!(sum.json::<f64>().unwrap(), 3.5);
///     let refused = bireme_sdk::testing::web("POST", "/sum").json(&["x"]).send();
///     assert_eq!(refused.status, 400);
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + JsonSchema> Parameter for Json<T> {
    const SOURCE: Source = Source::Body;

    fn take(name: &str, request: &mut Request) -> Result<Self, Problem> {
        let body = whole_of(request, &["application/json", "+json"])?;
        let mut deserializer = serde_json::Deserializer::from_slice(&body);
        let misfit = |path: String, error: serde_json::Error| {
            let path = if path == "." { String::new() } else { format!(" at `{path}`") };
            Problem::of_request(400, "invalid-input", format!("the body, `{name}`,{path}: {error}"))
        };
        let value = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| misfit(error.path().to_string(), error.into_inner()))?;
        deserializer.end().map_err(|error| misfit(".".to_owned(), error))?;
        Ok(Self(value))
    }

    fn describe(name: &str, schemas: &mut SchemasBuilder) {
        schemas.parameter_unless::<T>(name, false);
    }
}

/// Fields of a posted form, as browsers encode them.
///
/// ```
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::web::{Form, Redirect};
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Entry {
///     name: String,
///     stars: Option<u8>,
/// }
///
/// #[web(route = "POST /guestbook")]
/// fn sign(entry: Form<Entry>) -> Result<Redirect> {
///     kv::open("guests")?.set_json(&entry.0.name, &entry.0.stars)?;
///     Ok(Redirect::to("/guestbook"))
/// }
///
/// fn main() {
///     let _kv = bireme_sdk::testing::with_kv();
///     let signed = bireme_sdk::testing::web("POST", "/guestbook").form("name=Ada&stars=5").send();
///     assert_eq!((signed.status, signed.headers.get("location")), (303, Some("/guestbook")));
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned + JsonSchema> Parameter for Form<T> {
    const SOURCE: Source = Source::Body;

    fn take(_: &str, request: &mut Request) -> Result<Self, Problem> {
        let body = whole_of(request, &["application/x-www-form-urlencoded"])?;
        form::read(&body).map(Self).map_err(|reason| Problem::of_request(400, "invalid-input", reason))
    }

    fn describe(name: &str, schemas: &mut SchemasBuilder) {
        schemas.parameter_unless::<T>(name, false);
    }
}

impl Parameter for Bytes {
    const SOURCE: Source = Source::Body;

    fn take(_: &str, request: &mut Request) -> Result<Self, Problem> {
        let content_type = request.header("content-type").unwrap_or_default().to_owned();
        Ok(Self::new(content_type, whole_of(request, &[])?))
    }

    fn describe(_: &str, _: &mut SchemasBuilder) {}
}

impl Parameter for Body {
    const SOURCE: Source = Source::Body;

    fn take(_: &str, request: &mut Request) -> Result<Self, Problem> {
        Ok(request.body.take().unwrap_or_else(|| Self::of(Vec::new())))
    }

    fn describe(_: &str, _: &mut SchemasBuilder) {}
}

impl Parameter for Request {
    const SOURCE: Source = Source::Whole;

    fn take(_: &str, request: &mut Self) -> Result<Self, Problem> {
        Ok(Self { head: request.head.clone(), body: request.body.take() })
    }

    fn describe(_: &str, _: &mut SchemasBuilder) {}
}

/// Reads the body, if it is of one of these media types. A body without a type is accepted as any.
fn whole_of(request: &mut Request, media_types: &[&str]) -> Result<Vec<u8>, Problem> {
    let said = request.header("content-type").unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fits = |known: &&str| essence == **known || (known.starts_with('+') && essence.ends_with(*known));
    if !media_types.is_empty() && !essence.is_empty() && !media_types.iter().any(fits) {
        let message = format!("the body is `{essence}`, and `{}` is expected", media_types[0]);
        return Err(Problem::of_request(415, "unsupported-media-type", message));
    }
    request.body.take().map_or(Ok(Vec::new()), Body::read_whole)
}
