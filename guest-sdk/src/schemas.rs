//! JSON Schemas (draft 2020-12) of a function's input and result.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::arguments::Absent;

/// Both schemas of one function.
#[derive(Debug)]
pub struct Schemas {
    /// An object with one property for each parameter.
    pub input: Value,
    /// Schema of the result.
    pub output: Value,
}

/// Builds the schemas of one function, parameter by parameter.
#[derive(Debug)]
pub struct SchemasBuilder {
    generator: SchemaGenerator,
    properties: Map<String, Value>,
    required: Vec<Value>,
    whole: Option<Value>,
}

impl SchemasBuilder {
    /// Starts without parameters.
    #[expect(clippy::new_without_default, reason = "only the macro's code begins one")]
    pub fn new() -> Self {
        Self { generator: settings().into_generator(), properties: Map::new(), required: Vec::new(), whole: None }
    }

    /// Adds a parameter, required unless its type is an `Option`.
    pub fn parameter<T: JsonSchema + DeserializeOwned>(&mut self, name: &str) {
        self.parameter_unless::<T>(name, T::deserialize(Absent).is_ok());
    }

    /// Adds a parameter, required unless it is optional.
    pub fn parameter_unless<T: JsonSchema>(&mut self, name: &str, is_optional: bool) {
        self.properties.insert(name.to_owned(), self.generator.subschema_for::<T>().to_value());
        if !is_optional {
            self.required.push(name.into());
        }
    }

    /// Sets the schema of the whole input.
    pub fn whole(&mut self, schema: Value) {
        self.whole = Some(schema);
    }

    /// Adds the result.
    pub fn finish(mut self, output: Value) -> Schemas {
        if let Some(input) = self.whole {
            return Schemas { input, output };
        }
        let mut input = Map::new();
        input.insert("type".to_owned(), "object".into());
        input.insert("properties".to_owned(), Value::Object(self.properties));
        input.insert("required".to_owned(), Value::Array(self.required));
        input.insert("additionalProperties".to_owned(), false.into());
        let definitions = self.generator.take_definitions(true);
        if !definitions.is_empty() {
            input.insert("$defs".to_owned(), Value::Object(definitions));
        }
        Schemas { input: Value::Object(input), output }
    }
}

/// Returns the schema of a result.
pub(crate) fn of_output<T: JsonSchema>() -> Value {
    settings().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// Without `$schema`: one draft holds for the whole document.
fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Page {
        url: String,
        #[serde(default)]
        links: Vec<String>,
    }

    #[test]
    fn only_an_option_is_not_required_and_shared_types_stand_under_defs() {
        let mut builder = SchemasBuilder::new();
        builder.parameter::<Page>("page");
        builder.parameter::<Option<u32>>("limit");
        let schemas = builder.finish(of_output::<Vec<Page>>());
        assert_eq!(schemas.input["required"], json!(["page"]));
        assert_eq!(schemas.input["properties"]["page"], json!({ "$ref": "#/$defs/Page" }));
        assert_eq!(schemas.input["$defs"]["Page"]["required"], json!(["url"]));
        assert_eq!(schemas.output["items"], json!({ "$ref": "#/$defs/Page" }));
        assert_eq!(schemas.output["$defs"]["Page"]["required"], json!(["url", "links"]));
    }
}
