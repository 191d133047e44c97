//! One route: method and path, scope, parameters, bodies and errors.

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::operation::Operation;
use crate::codes::Code;

/// Route of the host.
pub(crate) struct Route {
    pub operation: Operation,
    /// `GET` routes answer `HEAD` as well.
    pub method: Method,
    /// Path with its parameters: `/api/v1/calls/{id}`.
    pub path: &'static str,
    /// One clause.
    pub summary: &'static str,
    pub scope: Scope,
    /// Parameters of path, query and headers.
    pub parameters: Vec<Parameter>,
    pub request: Option<Content>,
    pub responses: Vec<Response>,
    /// Codes of the errors that this route gives, besides those that every route may give.
    pub problems: Vec<Code>,
}

/// Permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Nothing of the operator's is shown: health.
    None,
    /// Call functions, and read the calls and maps of its own.
    Invoke,
    /// Change which versions of apps are live.
    Deploy,
    /// Read everything.
    Read,
    /// Change everything.
    Admin,
}

impl Scope {
    /// Returns the name in documents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Invoke => "invoke",
            Self::Deploy => "deploy",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// Parameter of a route.
#[derive(Clone, Copy)]
pub(crate) struct Parameter {
    pub name: &'static str,
    pub place: ParameterPlace,
    pub kind: ParameterKind,
    /// One clause.
    pub doc: &'static str,
}

/// Place of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterPlace {
    Path,
    Query,
    /// May be repeated.
    QueryList,
    Header,
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    Text,
    /// UUID, or in a path its first digits.
    Id,
    /// Whole number from 0.
    Number,
    /// Number of seconds, with fractions.
    Seconds,
    /// Set unless its value is `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// Body of a request or response.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// JSON document of a type.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// JSON Lines (`application/x-ndjson`), each line of a type.
    JsonLines(fn(&mut SchemaGenerator) -> Schema),
    /// Server-sent events, the data of each of a type.
    Events(fn(&mut SchemaGenerator) -> Schema),
    /// Text of this media type.
    Text(&'static str),
    /// Bytes of this media type.
    Bytes(&'static str),
    /// Input or output of a function: JSON, or bytes of any media type.
    Payload,
}

impl Content {
    /// Returns the content of a JSON document.
    pub(crate) fn json<T: JsonSchema>() -> Self {
        Self::Json(SchemaGenerator::subschema_for::<T>)
    }

    /// Returns the content of JSON Lines.
    pub(crate) fn json_lines<T: JsonSchema>() -> Self {
        Self::JsonLines(SchemaGenerator::subschema_for::<T>)
    }

    /// Returns the content of server-sent events.
    pub(crate) fn events<T: JsonSchema>() -> Self {
        Self::Events(SchemaGenerator::subschema_for::<T>)
    }

    /// Returns the media type; of a payload, any.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::JsonLines(_) => "application/x-ndjson",
            Self::Events(_) => "text/event-stream",
            Self::Text(media_type) | Self::Bytes(media_type) => media_type,
            Self::Payload => "*/*",
        }
    }
}

/// Response that is no error.
#[derive(Clone, Copy)]
pub(crate) struct Response {
    pub status: u16,
    /// One clause.
    pub doc: &'static str,
    pub content: Content,
}

/// Returns the first segment of a path.
pub(crate) fn first_segment(path: &str) -> &str {
    path.trim_matches('/').split('/').next().unwrap_or_default()
}

impl Route {
    /// Whether a request needs the operator's token. Functions and models are open to every program of the machine.
    pub(crate) fn needs_token(&self) -> bool {
        let is_open = matches!(first_segment(self.path), "v1" | "v2" | "{app}");
        self.scope != Scope::None && !is_open
    }

    /// Returns the names of the query parameters.
    pub(crate) fn query(&self) -> impl Iterator<Item = &'static str> {
        let is_query = |place| matches!(place, ParameterPlace::Query | ParameterPlace::QueryList);
        self.parameters.iter().filter(move |parameter| is_query(parameter.place)).map(|parameter| parameter.name)
    }
}
