//! Input of a call from the command line: JSON, or one `--name value` for each parameter, converted by the schema.

mod file;
mod invalid;

use serde_json::{Map, Value};

pub(crate) use self::file::InputFile;
pub(crate) use self::invalid::schema_hint;
use super::app_settings::AppSettings;
use super::exit::Exit;
use super::schema_text;
use crate::app::metadata::FunctionInfo;
use crate::call::Payload;
use crate::devices::DeviceChoice;
use crate::suggest::did_you_mean;

/// Option that keeps a call as a case; with a file only as `--save-case=FILE`.
pub(crate) const SAVE_CASE: &str = "save_case";

/// Flags of the command itself that were typed behind the target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TrailingFlags {
    pub receipt: bool,
    pub json: bool,
    pub verbose: bool,
    pub settings: AppSettings,
    pub file: InputFile,
    pub device: Option<DeviceChoice>,
    /// Other options that take a value, by their names.
    values: Vec<(String, String)>,
}

impl TrailingFlags {
    /// Returns the last value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Parses the words behind `APP::FUNCTION`; `front` has the file flags in front of it. A parameter's name wins over an
/// option of the command, which can still be given in front. `own` are the options with a value that this command has
/// beside those of all.
pub(crate) fn read(
    function: &FunctionInfo,
    front: &InputFile,
    words: &[String],
    own: &[&str],
) -> Result<(Payload, TrailingFlags), Exit> {
    let mut trailing = TrailingFlags { file: front.clone(), ..TrailingFlags::default() };
    let mut json = None;
    let mut fields = Map::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            if word == "--" {
                continue;
            }
            if word == "-v" {
                trailing.verbose = true;
                continue;
            }
            // JSON never starts with `@`.
            if let Some(path) = word.strip_prefix('@') {
                trailing.file.path = Some(path.to_owned());
                continue;
            }
            if json.replace(word).is_some() {
                return Err(invalid::error(function, format!("a second input `{word}`; a call takes one JSON value")));
            }
            continue;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let name = name.replace('-', "_");
        if let Some(field) = field(function, &name) {
            let schema = schema_text::resolve(field, &function.input);
            let value = match inline {
                Some(value) => value,
                // `--flag` alone is true.
                None if schema_text::types(schema) == ["boolean"] => "true".to_owned(),
                None => words
                    .next()
                    .cloned()
                    .ok_or_else(|| invalid::error(function, format!("`--{name}` needs a value")))?,
            };
            if fields.insert(name.clone(), convert(function, &name, schema, &value)?).is_some() {
                return Err(invalid::error(function, format!("`--{name}` is given twice")));
            }
            continue;
        }
        match (name.as_str(), &inline) {
            // The only one whose value is optional.
            (SAVE_CASE, file) if own.contains(&SAVE_CASE) => {
                trailing.values.push((name.clone(), file.clone().unwrap_or_default()));
            }
            ("receipt", None) => trailing.receipt = true,
            ("json", None) => trailing.json = true,
            ("verbose", None) => trailing.verbose = true,
            _ => {
                let value = || inline.or_else(|| words.next().cloned());
                let value = || value().ok_or_else(|| invalid::error(function, format!("`--{name}` needs a value")));
                let is_ours = match name.as_str() {
                    known if known == "data" || own.contains(&known) => {
                        trailing.values.push((name.clone(), value()?));
                        true
                    }
                    "device" => {
                        trailing.device = Some(value()?.parse().map_err(|error| Exit::usage(format!("{error}")))?);
                        true
                    }
                    "input" | "content_type" => trailing.file.take(&name, value)?,
                    _ => trailing.settings.take(&name, value)?,
                };
                if !is_ours {
                    return Err(unknown(function, &name));
                }
            }
        }
    }
    if let Some(path) = &trailing.file.path {
        if json.is_some() || !fields.is_empty() {
            return Err(invalid::error(function, "give the input as a file or as arguments, not both"));
        }
        let payload = file::read(function, path, trailing.file.content_type.clone())?;
        return Ok((payload, trailing));
    }
    if function.takes_bytes() {
        let ways = "give a file with `@FILE` or `--input FILE`, or `--input -` for standard input";
        return Err(invalid::error(function, format!("`{}` takes bytes: {ways}", function.name)));
    }
    let input = match (json, fields.is_empty()) {
        (Some(text), true) => invalid::parse_json(function, text)?,
        (Some(_), false) => {
            return Err(invalid::error(function, "give the input as JSON or as `--name value`, not both"));
        }
        (None, true) if !required(function).is_empty() => {
            return Err(invalid::error(function, format!("`{}` needs an input", function.name)));
        }
        (None, _) => {
            if let Some(missing) = required(function).into_iter().find(|name| !fields.contains_key(*name)) {
                return Err(invalid::error(function, format!("`--{missing}` is missing")));
            }
            Value::Object(fields)
        }
    };
    Ok((Payload::json(input.to_string()), trailing))
}

/// Returns the schemas that flags can name: the parameters, or the fields of a single object parameter.
fn fields(function: &FunctionInfo) -> Option<(&Map<String, Value>, &Value)> {
    let input = &function.input;
    let properties = input.get("properties")?.as_object()?;
    if let [only] = function.parameters.as_slice() {
        let inner = schema_text::resolve(properties.get(only)?, input);
        if let Some(inner_properties) = inner.get("properties").and_then(Value::as_object) {
            return Some((inner_properties, inner));
        }
    }
    Some((properties, input))
}

/// Returns true if `--name` is a parameter of the function.
pub(crate) fn has_parameter(function: &FunctionInfo, name: &str) -> bool {
    field(function, name).is_some()
}

fn field<'a>(function: &'a FunctionInfo, name: &str) -> Option<&'a Value> {
    fields(function)?.0.get(name)
}

fn required(function: &FunctionInfo) -> Vec<&str> {
    fields(function).map(|(_, schema)| schema_text::required(schema)).unwrap_or_default()
}

fn convert(function: &FunctionInfo, name: &str, schema: &Value, text: &str) -> Result<Value, Exit> {
    let types: Vec<&str> = match schema.get("anyOf").and_then(Value::as_array) {
        Some(options) => options
            .iter()
            .flat_map(|option| schema_text::types(schema_text::resolve(option, &function.input)))
            .collect(),
        None => schema_text::types(schema),
    };
    let is_text = types.contains(&"string") || schema.get("enum").is_some();
    let parsed = serde_json::from_str::<Value>(text).ok();
    let fits = |value: &Value| {
        types.iter().any(|kind| match *kind {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            "null" => value.is_null(),
            _ => false,
        })
    };
    match parsed {
        Some(value) if fits(&value) => Ok(value),
        Some(value) if types.is_empty() && !is_text => Ok(value),
        _ if is_text || types.is_empty() => Ok(Value::String(text.to_owned())),
        _ => Err(invalid::error(function, format!("`--{name}`: expected {}, found `{text}`", types.join(" or ")))),
    }
}

fn unknown(function: &FunctionInfo, name: &str) -> Exit {
    let names: Vec<&str> =
        fields(function).map(|(map, _)| map.keys().map(String::as_str).collect()).unwrap_or_default();
    let near = did_you_mean(name, names.iter().copied()).map(|near| format!("; {near}")).unwrap_or_default();
    invalid::error(function, format!("`{}` has no parameter `{name}`{near}", function.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function() -> FunctionInfo {
        serde_json::from_value(json!({
            "name": "crawl",
            "parameters": ["url", "depth", "deep", "tags"],
            "input": {
                "type": "object",
                "properties": {
                    "url": { "type": "string" },
                    "depth": { "type": ["integer", "null"] },
                    "deep": { "type": "boolean" },
                    "tags": { "type": "array", "items": { "type": "string" } },
                },
                "required": ["url"],
            },
            "output": {},
        }))
        .unwrap()
    }

    fn check(words: &[&str]) -> Result<Value, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let read = read(&function(), &InputFile::default(), &words, &[]);
        read.map(|(input, _)| serde_json::from_slice(&input.data).unwrap()).map_err(|exit| exit.message)
    }

    #[test]
    fn json_and_flags_both_make_an_input() {
        assert_eq!(check(&[r#"{"url":"x"}"#]).unwrap(), json!({ "url": "x" }));
        assert_eq!(
            check(&["--url", "http://x", "--depth", "2", "--deep", "--tags", r#"["a"]"#]).unwrap(),
            json!({ "url": "http://x", "depth": 2, "deep": true, "tags": ["a"] })
        );
        // A string parameter takes what looks like a number as it is.
        assert_eq!(check(&["--url=42", "--depth=null"]).unwrap(), json!({ "url": "42", "depth": null }));
    }

    #[test]
    fn a_wrong_input_names_its_field() {
        assert_eq!(check(&["--ulr", "x"]).unwrap_err(), "`crawl` has no parameter `ulr`; did you mean `url`?");
        assert_eq!(
            check(&["--url", "x", "--depth", "two"]).unwrap_err(),
            "`--depth`: expected integer or null, found `two`"
        );
        assert_eq!(check(&["--depth", "2"]).unwrap_err(), "`--url` is missing");
        assert_eq!(check(&["--url"]).unwrap_err(), "`--url` needs a value");
        assert_eq!(check(&[]).unwrap_err(), "`crawl` needs an input");
        assert!(check(&["{"]).unwrap_err().starts_with("the input is not JSON"));
        assert!(check(&["1", "2"]).unwrap_err().contains("second input"));
    }

    #[test]
    fn the_commands_own_flags_may_follow() {
        let words: Vec<String> = ["--url", "x", "--receipt", "--grant", "site=http://127.0.0.1:1", "--device", "cpu"]
            .map(String::from)
            .to_vec();
        let (_, trailing) = read(&function(), &InputFile::default(), &words, &[]).unwrap();
        let settings = AppSettings { grants: vec!["site=http://127.0.0.1:1".into()], ..AppSettings::default() };
        let device = Some("cpu".parse().unwrap());
        assert_eq!(trailing, TrailingFlags { receipt: true, settings, device, ..TrailingFlags::default() });
    }

    #[test]
    fn an_option_of_the_command_follows_unless_a_parameter_has_its_name() {
        let read = |words: &[&str], own: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            read(&function(), &InputFile::default(), &words, own).map_err(|exit| exit.message)
        };
        let words = ["--url", "x", "--host", "http://h", "--idempotency-key=k", "-v", "--data", "/d", "--host", "h2"];
        let (input, trailing) = read(&words, &["host", "idempotency_key"]).unwrap();
        assert_eq!(&*input.data, br#"{"url":"x"}"#);
        assert_eq!((trailing.value("host"), trailing.value("idempotency_key")), (Some("h2"), Some("k")));
        assert_eq!((trailing.value("data"), trailing.verbose), (Some("/d"), true));
        assert_eq!(read(&words, &[]).unwrap_err(), "`crawl` has no parameter `host`");
        // Its value is optional, so it takes no word.
        let case = |words: &[&str]| read(words, &[SAVE_CASE]).unwrap().1.value(SAVE_CASE).map(str::to_owned);
        assert_eq!(case(&["--save-case", "{\"url\": \"x\"}"]).as_deref(), Some(""));
        assert_eq!(case(&["--url", "x", "--save-case=a.json"]).as_deref(), Some("a.json"));
        let (input, trailing) = read(&["--url", "x", "--depth", "2"], &["depth"]).unwrap();
        assert_eq!((&*input.data, trailing.value("depth")), (&br#"{"depth":2,"url":"x"}"#[..], None));
    }
}
