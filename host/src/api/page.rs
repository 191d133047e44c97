//! Table of the routes in `docs/api.md`, as a test writes and checks it.

use std::fmt::Write;

use expect_test::expect_file;

use super::openapi::document;
use super::route::{Content, Parameter, ParameterKind, ParameterPlace, Response};
use super::routes::ROUTES;

const BEGIN: &str =
    "<!-- Written by `UPDATE_EXPECT=1 cargo test -p bireme --lib api::page` from `host/src/api/routes.rs`. -->\n";
const END: &str = "<!-- End of the table. -->\n";

#[test]
fn the_page_has_each_route_of_the_table() {
    let page = include_str!("../../../docs/api.md");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the table's beginning");
    let (_, after) = rest.split_once(END).expect("the page has the table's end");
    expect_file!["../../../docs/api.md"].assert_eq(&format!("{before}{BEGIN}{}{END}{after}", table()));
}

/// A change of the API shows here: of a route, a parameter, a status, a field or its type.
#[test]
fn the_openapi_document_is_the_one_on_record() {
    let text = serde_json::to_string_pretty(&document()).unwrap();
    expect_file!["../../../docs/openapi.json"].assert_eq(&(text + "\n"));
}

fn table() -> String {
    let mut text = "\n| request | does | scope | parameters | answers |\n|---|---|---|---|---|\n".to_owned();
    for route in ROUTES.iter() {
        let parameters: Vec<String> = route.parameters.iter().filter_map(parameter).collect();
        let answers: Vec<String> = route.responses.iter().map(answer).collect();
        let row = [
            format!("`{} {}`", route.method, route.path),
            route.summary.to_owned(),
            route.scope.as_str().to_owned(),
            parameters.join(" "),
            answers.join(", "),
        ];
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
    text
}

fn parameter(parameter: &Parameter) -> Option<String> {
    let value = match parameter.kind {
        ParameterKind::Text => "TEXT".to_owned(),
        ParameterKind::Id => "ID".to_owned(),
        ParameterKind::Number => "N".to_owned(),
        ParameterKind::Seconds => "SECONDS".to_owned(),
        ParameterKind::Flag => "true".to_owned(),
        ParameterKind::Word(words) => words.join("/"),
    };
    match parameter.place {
        ParameterPlace::Path => None,
        ParameterPlace::Query => Some(format!("`?{}={value}`", parameter.name)),
        ParameterPlace::QueryList => Some(format!("`?{}={value}…`", parameter.name)),
        ParameterPlace::Header => Some(format!("`{}:`", parameter.name)),
    }
}

fn answer(response: &Response) -> String {
    let mut generator = schemars::SchemaGenerator::default();
    let name = |schema: schemars::Schema| {
        let reference = schema.get("$ref").and_then(serde_json::Value::as_str).unwrap_or("JSON").to_owned();
        reference.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let content = match response.content {
        Content::Json(of) => name(of(&mut generator)),
        Content::JsonLines(of) => format!("lines of {}", name(of(&mut generator))),
        Content::Events(of) => format!("events of {}", name(of(&mut generator))),
        Content::Text(_) => "text".to_owned(),
        Content::Bytes(media_type) => media_type.to_owned(),
        Content::Payload => "payload".to_owned(),
    };
    format!("{} {content}", response.status)
}
