//! OpenAPI 3.1 document of the table of routes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, ReplaceBoolSchemas};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::operation::Operation;
use super::problem::Problem;
use super::route::{Content, Parameter, ParameterKind, ParameterPlace, Route};
use super::routes::ROUTES;
use crate::codes::Code;

/// Errors that each route may give: of the checks before it, its parameters, the store, and a bug of the host.
const COMMON: &[Code] = &[
    Code::BadHost,
    Code::BadPath,
    Code::BadQuery,
    Code::ForeignHost,
    Code::ForeignOrigin,
    Code::Io,
    Code::Store,
    Code::Unavailable,
];

/// The document as JSON text. The table never changes, so it is made once, at the first request for it.
pub(crate) static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// Returns the document.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        // Some generators of clients take objects only.
        settings.transforms.push(Box::new(ReplaceBoolSchemas::default()));
        settings.transforms.push(Box::new(RecursiveTransform(join_words)));
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let problem = json!({
        "description": "An error",
        "content": { "application/problem+json": { "schema": problem } },
    });
    let mut paths = Map::new();
    for route in ROUTES.iter() {
        let operation = operation(route, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bireme",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Control API, functions and models of a Bireme host. Times are milliseconds since 1970. \
                            `x-scope` is the permission that a request needs.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": { "Problem": problem },
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Token of the host, which `bireme token` prints",
            } },
        },
    })
}

/// Makes one `enum` of words that have a schema each, for their docs: generators make a type of each schema.
fn join_words(schema: &mut Schema) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let mut words = Vec::new();
    for choice in choices {
        match (choice.get("const"), choice.get("enum")) {
            (Some(word @ Value::String(_)), None) => words.push(word.clone()),
            (None, Some(Value::Array(several))) if several.iter().all(Value::is_string) => {
                words.extend(several.iter().cloned());
            }
            _ => return,
        }
    }
    schema.remove("oneOf");
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), words.into());
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag(route)],
        "x-scope": route.scope.as_str(),
        "responses": responses(route, generator),
    });
    if route.needs_token() {
        operation["security"] = json!([{ "token": [] }]);
    }
    if !route.parameters.is_empty() {
        operation["parameters"] = route.parameters.iter().map(parameter).collect();
    }
    if let Some(request) = route.request {
        // A map may be created without inputs.
        let is_required = !matches!(request, Content::JsonLines(_) | Content::Payload);
        let content = match request {
            // Bytes of another media type are taken as well; of several, generators of clients use one.
            Content::Payload => json!({ "application/json": { "schema": {} } }),
            other => content(other, generator),
        };
        operation["requestBody"] = json!({ "required": is_required, "content": content });
    }
    operation
}

/// Returns the name of the operation: unique, and the same in each version of the host.
fn operation_id(route: &Route) -> String {
    let mut id = String::new();
    for letter in format!("{:?}", route.operation).chars() {
        if letter.is_uppercase() && !id.is_empty() {
            id.push('_');
        }
        id.push(letter.to_ascii_lowercase());
    }
    // The same operation stands at two paths.
    id + if route.path.contains("{version}") { "_of_version" } else { "" }
}

/// Returns the group of a route: its first path segment behind the version of the API.
fn tag(route: &Route) -> &'static str {
    let path = route.path.strip_prefix("/api/v1/").unwrap_or(route.path);
    match path.trim_start_matches('/').split('/').next().unwrap_or_default() {
        "v1" | "v2" => "models",
        name @ ("apps" | "calls" | "maps" | "schedules" | "logs" | "events" | "batches" | "devices") => {
            match route.operation {
                Operation::SpawnCall => "calls",
                Operation::CreateMap => "maps",
                _ => name,
            }
        }
        "{app}" => "functions",
        _ => "host",
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        ParameterKind::Text | ParameterKind::Id => json!({ "type": "string" }),
        ParameterKind::Number => json!({ "type": "integer", "minimum": 0 }),
        ParameterKind::Seconds => json!({ "type": "number", "minimum": 0 }),
        ParameterKind::Flag => json!({ "type": "boolean" }),
        ParameterKind::Word(words) => json!({ "type": "string", "enum": words }),
    };
    let (place, schema) = match parameter.place {
        ParameterPlace::Path => ("path", schema),
        ParameterPlace::Query => ("query", schema),
        ParameterPlace::QueryList => ("query", json!({ "type": "array", "items": schema })),
        ParameterPlace::Header => ("header", schema),
    };
    json!({
        "name": parameter.name,
        "in": place,
        "description": parameter.doc,
        "required": parameter.place == ParameterPlace::Path,
        "schema": schema,
    })
}

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for response in &route.responses {
        let status = response.status.to_string();
        let doc = if response.doc.is_empty() { route.summary } else { response.doc };
        let entry = responses.entry(status).or_insert_with(|| json!({ "description": doc, "content": {} }));
        if let (Some(known), Value::Object(new)) =
            (entry["content"].as_object_mut(), content(response.content, generator))
        {
            known.extend(new);
        }
    }
    let mut codes: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    let unauthorized = route.needs_token().then_some(&Code::Unauthorized);
    for code in COMMON.iter().chain(unauthorized).chain(&route.problems) {
        let Some(status) = code.http_status() else { continue };
        let of_status = codes.entry(status).or_default();
        if !of_status.contains(code) {
            of_status.push(*code);
        }
    }
    for (status, codes) in codes {
        let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let description = format!("{}: {}", title.unwrap_or("Error"), names.join(", "));
        let response = match route.operation.is_foreign() {
            true => json!({ "description": description, "content": { "application/json": { "schema": {} } } }),
            false => json!({ "$ref": "#/components/responses/Problem", "description": description }),
        };
        responses.insert(status.to_string(), response);
    }
    Value::Object(responses)
}

fn content(content: Content, generator: &mut SchemaGenerator) -> Value {
    let schema = |schema: Schema| match schema.as_bool() {
        Some(true) => json!({ "schema": {} }),
        _ => json!({ "schema": schema }),
    };
    match content {
        Content::Json(of) => json!({ content.media_type(): schema(of(generator)) }),
        // Each line is of the schema `x-line`; the whole is text.
        Content::JsonLines(of) | Content::Events(of) => {
            let line = of(generator);
            json!({ content.media_type(): { "schema": { "type": "string" }, "x-line": line } })
        }
        Content::Text(media_type) => json!({ media_type: { "schema": { "type": "string" } } }),
        Content::Bytes(media_type) => json!({ media_type: { "schema": { "type": "string", "format": "binary" } } }),
        Content::Payload => json!({
            "application/json": { "schema": {} },
            "application/octet-stream": { "schema": { "type": "string", "format": "binary" } },
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn operations_have_one_name_each_and_all_references_lead_somewhere() {
        let document = document();
        let mut names = BTreeSet::new();
        for operation in document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap()) {
            let name = operation.1["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name} twice");
        }
        assert_eq!(names.len(), ROUTES.len());
        let text = document.to_string();
        for (_, rest) in text.match_indices("\"$ref\":\"").map(|(at, found)| (at, &text[at + found.len()..])) {
            let target = rest.split('"').next().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(target).is_some(), "{target} leads nowhere");
        }
    }

    #[test]
    fn each_parameter_of_a_path_is_declared_once() {
        for route in ROUTES.iter() {
            let in_path: Vec<&str> =
                route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            let declared = route.parameters.iter().filter(|parameter| parameter.place == ParameterPlace::Path);
            let declared: Vec<&str> = declared.map(|parameter| parameter.name).collect();
            assert_eq!(in_path, declared, "{}", route.path);
        }
    }
}
