//! JSON Schema as one line of text: `{"url": string, "depth"?: integer}`.

use serde_json::{Map, Value};

use crate::app::metadata::FunctionInfo;

/// Deepest nesting shown; deeper parts are `…`.
const DEPTH_MAX: u32 = 4;

/// Returns the input schema of a function.
pub(crate) fn of_input(function: &FunctionInfo) -> String {
    of(&function.input, &function.input, 0)
}

/// Returns the output schema of a function.
pub(crate) fn of_output(function: &FunctionInfo) -> String {
    of(&function.output, &function.output, 0)
}

fn of(schema: &Value, root: &Value, depth: u32) -> String {
    let schema = resolve(schema, root);
    if depth > DEPTH_MAX {
        return "…".to_owned();
    }
    if schema.get("format").is_some_and(|format| format == "binary") {
        return "bytes".to_owned();
    }
    if let Some(options) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array()) {
        return options.iter().map(|option| of(option, root, depth + 1)).collect::<Vec<_>>().join(" | ");
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    let types = types(schema);
    if types.is_empty() {
        return "any".to_owned();
    }
    types.iter().map(|kind| of_type(kind, schema, root, depth)).collect::<Vec<_>>().join(" | ")
}

fn of_type(kind: &str, schema: &Value, root: &Value, depth: u32) -> String {
    match kind {
        "object" => match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => of_object(properties, schema, root, depth),
            None => "object".to_owned(),
        },
        "array" => match schema.get("items") {
            Some(items) => format!("[{}, …]", of(items, root, depth + 1)),
            None => "array".to_owned(),
        },
        other => other.to_owned(),
    }
}

fn of_object(properties: &Map<String, Value>, schema: &Value, root: &Value, depth: u32) -> String {
    let required: Vec<&str> = required(schema);
    let fields = properties.iter().map(|(name, property)| {
        let optional = if required.contains(&name.as_str()) { "" } else { "?" };
        format!("{name:?}{optional}: {}", of(property, root, depth + 1))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// Returns the types that the schema names.
pub(crate) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns the required properties of an object schema.
pub(crate) fn required(schema: &Value) -> Vec<&str> {
    let names = schema.get("required").and_then(Value::as_array);
    names.map(|names| names.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Follows `$ref` within the document, at most 8 times.
pub(crate) fn resolve<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..8 {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        match target.and_then(|path| root.pointer(path)) {
            Some(found) => schema = found,
            None => break,
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_read_like_examples() {
        let check = |schema: Value| of(&schema, &schema, 0);
        assert_eq!(
            check(json!({
                "type": "object",
                "properties": {
                    "url": { "type": "string" },
                    "depth": { "type": ["integer", "null"] },
                    "page": { "$ref": "#/$defs/Page" },
                },
                "required": ["url", "page"],
                "$defs": { "Page": { "type": "object", "properties": { "links": { "type": "array", "items": { "type": "string" } } } } },
            })),
            r#"{"depth"?: integer | null, "page": {"links"?: [string, …]}, "url": string}"#
        );
        assert_eq!(check(json!({ "enum": ["a", "b"] })), r#""a" | "b""#);
        assert_eq!(check(json!(true)), "any");
        assert_eq!(check(json!({ "type": "string", "format": "binary" })), "bytes");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({ "type": "array", "items": { "$ref": "#" } });
        assert!(of(&schema, &schema, 0).contains('…'));
        let circle = json!({ "$ref": "#" });
        assert_eq!(of(&circle, &circle, 0), "any");
    }
}
