//! The document that describes an app without running it. `docs/metadata.md` fixes its shape.
//!
//! It is written in a sandbox whose imports all trap, so nothing here may touch a clock, the environment or a randomly seeded
//! map: entries are sorted and every map is ordered.

use serde::Serialize;
use serde_json::Value;

use crate::entry::{self, App, Attributes, Entry};

/// Version of the document.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Document {
    format: u32,
    app: Option<App>,
    functions: Vec<Function>,
    /// What makes the app unfit to be deployed. A document with errors lists no functions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

#[derive(Serialize)]
struct Function {
    name: &'static str,
    doc: &'static str,
    parameters: &'static [&'static str],
    input: Value,
    output: Value,
    attributes: Attributes,
}

/// Writes the document of the app that is linked with this SDK.
///
/// Two functions of one name, or functions of several crates, are told in `errors`, which a host refuses.
///
/// ```
/// use bireme_sdk::prelude::*;
///
/// /// Greets.
/// #[function(timeout = "1s")]
/// fn greet(name: String) -> String {
///     format!("hello, {name}")
/// }
///
/// fn main() {
///     let document = bireme_sdk::describe();
///     assert!(document.contains(r#""name":"greet","doc":"Greets.","parameters":["name"]"#));
///     assert!(document.contains(r#""timeout_ms":1000"#));
/// }
/// ```
pub fn describe() -> String {
    let document = document(&entry::all());
    serde_json::to_string(&document)
        .expect("the document holds only strings, numbers and maps keyed by strings")
}

fn document(entries: &[&'static Entry]) -> Document {
    let errors: Vec<String> = entries
        .windows(2)
        .filter(|pair| pair[0].name == pair[1].name)
        .map(|pair| entry::duplicate(pair[0], pair[1]))
        .collect();
    let functions = if errors.is_empty() {
        entries.iter().map(|entry| function(entry)).collect()
    } else {
        Vec::new()
    };
    Document {
        format: FORMAT,
        app: entries.first().map(|entry| entry.app),
        functions,
        errors,
    }
}

fn function(entry: &Entry) -> Function {
    let schemas = (entry.schemas)();
    Function {
        name: entry.name,
        doc: entry.doc,
        parameters: entry.parameters,
        input: schemas.input,
        output: schemas.output,
        attributes: entry.attributes,
    }
}
