//! Metadata document of an app, written without running it. `docs/metadata.md` fixes its shape.
//!
//! `describe` runs in a sandbox whose imports all trap, so nothing here may touch a clock, the environment or a
//! randomly seeded map: entries are sorted and every map is ordered.

use serde::Serialize;
use serde_json::Value;

use crate::entry::{self, App, Attributes, Entry};
use crate::schemas::Schemas;
use crate::web;

/// Version of the document.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Document {
    format: u32,
    app: Option<App>,
    functions: Vec<Function>,
    /// Mistakes that make the app unfit for deployment. A document with errors lists no functions.
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
/// Repeated function names, and functions of several crates, are listed in `errors`, which a host refuses.
///
/// ```standalone_crate
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
    let document = document(&entry::all(), &web::all());
    serde_json::to_string(&document).expect("the document holds only strings, numbers and maps keyed by strings")
}

/// Fields that both kinds of functions share.
struct Described {
    app: App,
    source: &'static str,
    name: &'static str,
    doc: &'static str,
    parameters: &'static [&'static str],
    attributes: Attributes,
    schemas: fn() -> Schemas,
}

/// Copies the common fields of an entry of either kind.
macro_rules! described {
    ($entry:expr) => {
        Described {
            app: $entry.app,
            source: $entry.source,
            name: $entry.name,
            doc: $entry.doc,
            parameters: $entry.parameters,
            attributes: $entry.attributes,
            schemas: $entry.schemas,
        }
    };
}

fn document(functions: &[&'static Entry], web_functions: &[&'static web::Entry]) -> Document {
    let mut all: Vec<Described> = functions.iter().map(|entry| described!(entry)).collect();
    all.extend(web_functions.iter().map(|entry| described!(entry)));
    all.sort_by_key(|entry| (entry.name, entry.source));
    let twice = all.windows(2).filter(|pair| pair[0].name == pair[1].name);
    let mut errors: Vec<String> =
        twice.map(|pair| entry::duplicate(pair[0].name, pair[0].source, pair[1].source)).collect();
    errors.extend(web_functions.first().into_iter().flat_map(|first| (first.server.conflicts)(web_functions)));
    let app = all.first().map(|entry| entry.app);
    let functions = if errors.is_empty() { all.into_iter().map(function).collect() } else { Vec::new() };
    Document { format: FORMAT, app, functions, errors }
}

fn function(entry: Described) -> Function {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prelude::*;

    /// Weighs two things.
    ///
    /// The second may be left out.
    #[function(timeout = "1500ms", memory = "8MiB", retries = 1, outbound = ["$site"], models = ["m"])]
    fn weigh(one: f64, r#type: Option<String>) -> Result<f64> {
        drop(r#type);
        Ok(one)
    }

    mod elsewhere {
        use crate::prelude::*;

        #[function]
        pub(super) fn plain() {}
    }

    fn entry(name: &str) -> &'static Entry {
        entry::find(name).expect("the function is of this test")
    }

    #[test]
    fn the_document_has_the_fixed_shape() {
        let document = serde_json::to_value(document(&[entry("weigh")], &[])).expect("it is JSON");
        assert_eq!(
            document,
            json!({
                "format": 1,
                "app": { "name": "bireme-sdk", "version": env!("CARGO_PKG_VERSION"), "description": env!("CARGO_PKG_DESCRIPTION") },
                "functions": [{
                    "name": "weigh",
                    "doc": "Weighs two things.\n\nThe second may be left out.",
                    "parameters": ["one", "type"],
                    "input": {
                        "type": "object",
                        "properties": { "one": { "type": "number", "format": "double" }, "type": { "type": ["string", "null"] } },
                        "required": ["one"],
                        "additionalProperties": false,
                    },
                    "output": { "title": "double", "type": "number", "format": "double" },
                    "attributes": { "timeout_ms": 1500, "memory_bytes": 8_388_608, "retries": 1, "outbound": ["$site"], "models": ["m"] },
                }],
            })
        );
    }

    #[test]
    fn what_is_not_declared_is_left_to_the_host() {
        let document = serde_json::to_value(document(&[entry("plain")], &[])).expect("it is JSON");
        assert_eq!(document["functions"][0]["attributes"], json!({ "outbound": [], "models": [] }));
        assert_eq!(elsewhere::plain::call(), Ok(()));
    }

    #[test]
    fn two_functions_of_one_name_are_an_error_that_names_both() {
        let document = document(&[entry("weigh"), entry("weigh")], &[]);
        assert!(document.functions.is_empty());
        assert!(
            document.errors[0].starts_with("two functions are named `weigh`: at guest-sdk/src/metadata.rs:"),
            "{}",
            document.errors[0]
        );
    }

    #[test]
    fn a_raw_parameter_is_called_by_its_plain_name() {
        assert_eq!(weigh::call(1.0, None), Ok(1.0));
        let weight: Result<f64> = crate::call_by_name("weigh", &json!({ "one": 2, "type": "g" }));
        assert_eq!(weight, Ok(2.0));
    }
}
