//! A call's input, taken apart into the function's arguments.
//!
//! The input is one JSON object keyed by parameter. A function of one parameter also takes the bare value; an object
//! whose only key is the parameter's name is always the named form. `docs/metadata.md` is the contract.
//!
//! Each argument is read straight from its own slice of the input, so that nothing is held as a tree of values, and an
//! error says which parameter it is in, and where.

mod absent;
pub(crate) mod misfit;
mod writer;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) use self::absent::Absent;
pub use self::writer::ArgumentsWriter;
use crate::failure::{Code, Failure, Result};

/// Arguments of one call, not yet decoded.
#[derive(Debug)]
pub struct Arguments<'a> {
    parameters: &'static [&'static str],
    form: Form<'a>,
}

#[derive(Debug)]
enum Form<'a> {
    /// The whole input is the value of the only parameter.
    Bare(&'a RawValue),
    /// One value for each parameter, in the function's order.
    Named(Vec<Option<&'a RawValue>>),
}

impl<'a> Arguments<'a> {
    /// Splits the input by parameter.
    ///
    /// # Errors
    /// [`Code::InvalidInput`]: not JSON, not an object where one is needed, or with a key that is no parameter.
    pub fn read(input: &'a [u8], parameters: &'static [&'static str]) -> Result<Self> {
        if input.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { parameters, form: Form::Named(vec![None; parameters.len()]) });
        }
        let raw: &RawValue =
            serde_json::from_slice(input).map_err(|error| invalid(format!("the input is not JSON: {error}")))?;
        let form = if raw.get().starts_with('{') {
            let Keys(entries) =
                serde_json::from_str(raw.get()).map_err(|error| invalid(format!("the input is not JSON: {error}")))?;
            named(raw, entries, parameters)?
        } else {
            match parameters {
                [_] => Form::Bare(raw),
                [] if raw.get() == "null" => Form::Named(Vec::new()),
                [] => {
                    return Err(invalid(format!("the function takes no input, but found {}", kind(raw))));
                }
                _ => {
                    return Err(invalid(format!(
                        "expected an object with the keys {}, found {}",
                        list(parameters),
                        kind(raw)
                    )));
                }
            }
        };
        Ok(Self { parameters, form })
    }

    /// Decodes the argument at `position`.
    ///
    /// # Errors
    /// [`Code::InvalidInput`]: it is missing, or does not fit its type.
    pub fn take<T: DeserializeOwned>(&mut self, position: usize) -> Result<T> {
        let name = self.parameters[position];
        match &self.form {
            Form::Bare(raw) => match T::deserialize(Absent) {
                Ok(absent) if is_empty_object(raw) => Ok(absent),
                _ => decode(raw, name, false).map_err(|failure| self.hint(raw, failure)),
            },
            Form::Named(values) => match values[position] {
                Some(raw) => decode(raw, name, true),
                None => T::deserialize(Absent).map_err(|_| missing(name, self.parameters)),
            },
        }
    }

    /// An object that does not fit as the bare value was probably meant as the named form.
    fn hint(&self, raw: &RawValue, mut failure: Failure) -> Failure {
        let parameter = self.parameters[0];
        let Ok(Keys(entries)) = serde_json::from_str(raw.get()) else {
            return failure;
        };
        if failure.message.starts_with("$: ") && failure.message.ends_with(", found an object") {
            let others = entries.iter().map(|(key, _)| key.as_ref());
            let others: Vec<&str> = others.filter(|key| *key != parameter).collect();
            if others.is_empty() {
                return missing(parameter, self.parameters);
            }
            return invalid(unknown(&others, self.parameters)).because(failure.message);
        }
        failure.causes.push(format!("the input was read as the value itself; by name it is {{\"{parameter}\": …}}"));
        failure
    }
}

fn named<'a>(
    raw: &'a RawValue,
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
    parameters: &'static [&'static str],
) -> Result<Form<'a>> {
    if let [parameter] = parameters {
        return Ok(match entries.as_slice() {
            [(key, value)] if key == parameter => Form::Named(vec![Some(value)]),
            _ => Form::Bare(raw),
        });
    }
    let mut values = vec![None; parameters.len()];
    for (key, value) in entries {
        let Some(position) = parameters.iter().position(|parameter| *parameter == key) else {
            return Err(invalid(unknown(&[&key], parameters)));
        };
        if values[position].replace(value).is_some() {
            return Err(invalid(format!("parameter `{key}` is given twice")));
        }
    }
    Ok(Form::Named(values))
}

fn decode<T: DeserializeOwned>(raw: &RawValue, name: &str, is_named: bool) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let root = if is_named { format!("$.{name}") } else { "$".to_owned() };
        invalid(misfit::message(&root, &error))
    })
}

fn missing(name: &str, parameters: &[&str]) -> Failure {
    invalid(format!("missing parameter `{name}`; the function takes {}", list(parameters)))
}

/// Names the unknown keys, with a suggestion for a misspelt parameter.
fn unknown(names: &[&str], parameters: &[&str]) -> String {
    let meant = match names {
        [name] => misfit::meant(name, parameters),
        _ => String::new(),
    };
    format!("unknown parameter {}{meant}; the function takes {}", list(names), list(parameters))
}

fn invalid(message: String) -> Failure {
    Failure::new(Code::InvalidInput, message)
}

fn list(parameters: &[&str]) -> String {
    match parameters {
        [] => "no parameters".to_owned(),
        parameters => parameters.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

fn is_empty_object(raw: &RawValue) -> bool {
    raw.get()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|inner| inner.trim_ascii().is_empty())
}

fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes()[0] {
        b'{' => "an object",
        b'[' => "an array",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}

/// Entries of an object, values unread.
struct Keys<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Keys<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Keys<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    entries.push((entry.0.0, entry.1));
                }
                Ok(Keys(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A key, borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Page {
        url: String,
        links: Vec<String>,
    }

    fn one<T: DeserializeOwned>(input: &str) -> Result<T, String> {
        Arguments::read(input.as_bytes(), &["page"]).and_then(|mut arguments| arguments.take(0)).map_err(|failure| {
            assert_eq!(failure.code, Code::InvalidInput);
            failure.to_string()
        })
    }

    fn two(input: &str) -> Result<(u8, Option<String>), String> {
        Arguments::read(input.as_bytes(), &["count", "name"])
            .and_then(|mut arguments| Ok((arguments.take(0)?, arguments.take(1)?)))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn one_parameter_takes_the_bare_value_or_the_named_form() {
        assert_eq!(one::<String>(r#""a""#), Ok("a".to_owned()));
        assert_eq!(one::<String>(r#" {"page": "a"} "#), Ok("a".to_owned()));
        let page = Page { url: "u".to_owned(), links: vec![] };
        assert_eq!(one::<Page>(r#"{"url": "u", "links": []}"#).as_ref(), Ok(&page));
        assert_eq!(one::<Page>(r#"{"page": {"url": "u", "links": []}}"#).as_ref(), Ok(&page));
        assert_eq!(one::<Vec<u8>>("[1, 2]"), Ok(vec![1, 2]));
    }

    #[test]
    fn an_error_names_the_parameter_and_the_path() {
        assert_eq!(
            one::<Page>(r#"{"page": {"url": "u", "links": ["a", "b", 3]}}"#).unwrap_err(),
            "$.page.links[2]: expected a string, found 3"
        );
        assert_eq!(one::<Vec<String>>("[null]").unwrap_err(), "$[0]: expected a string, found null");
        assert_eq!(one::<u8>("300").unwrap_err(), "$: expected an integer (`u8`), found 300");
    }

    #[test]
    fn an_object_that_does_not_fit_bare_was_meant_by_name() {
        let error = one::<String>(r#"{"pgae": "a"}"#).unwrap_err();
        assert_eq!(
            error,
            "unknown parameter `pgae`, did you mean `page`; the function takes `page`: $: expected a string, found an object"
        );
        let error = one::<String>(r#"{"page": "a", "size": 1}"#).unwrap_err();
        assert!(error.starts_with("unknown parameter `size`;"), "{error}");
        assert_eq!(one::<String>("{}").unwrap_err(), "missing parameter `page`; the function takes `page`");
        let error = one::<Page>(r#"{"url": "u"}"#).unwrap_err();
        assert_eq!(
            error,
            "$: missing field `links`: \
             the input was read as the value itself; by name it is {\"page\": …}"
        );
    }

    #[test]
    fn several_parameters_are_named_and_checked() {
        assert_eq!(two(r#"{"count": 1, "name": "n"}"#), Ok((1, Some("n".to_owned()))));
        assert_eq!(two(r#"{"count": 1}"#), Ok((1, None)));
        assert_eq!(
            two(r#"{"cuont": 1}"#).unwrap_err(),
            "unknown parameter `cuont`, did you mean `count`; the function takes `count`, `name`"
        );
        assert_eq!(
            two(r#"{"name": "n"}"#).unwrap_err(),
            "missing parameter `count`; the function takes `count`, `name`"
        );
        assert_eq!(two(r#"{"count": 1, "count": 2}"#).unwrap_err(), "parameter `count` is given twice");
        assert_eq!(two("[1]").unwrap_err(), "expected an object with the keys `count`, `name`, found an array");
        assert!(two("{").unwrap_err().starts_with("the input is not JSON: EOF while parsing"));
    }

    #[test]
    fn nothing_is_the_input_of_a_function_without_parameters() {
        for input in ["", "  ", "null", "{}"] {
            assert!(Arguments::read(input.as_bytes(), &[]).is_ok(), "{input:?}");
        }
        assert_eq!(Arguments::read(b"1", &[]).unwrap_err().message, "the function takes no input, but found a number");
        assert!(
            Arguments::read(br#"{"a": 1}"#, &[])
                .unwrap_err()
                .message
                .contains("unknown parameter `a`; the function takes no parameters")
        );
    }

    #[test]
    fn an_optional_parameter_may_be_absent() {
        assert_eq!(one::<Option<u8>>(""), Ok(None));
        assert_eq!(one::<Option<u8>>("null"), Ok(None));
        assert_eq!(one::<Option<u8>>("{ }"), Ok(None));
        assert_eq!(one::<Option<u8>>(r#"{"page": 3}"#), Ok(Some(3)));
        assert_eq!(one::<u8>("").unwrap_err(), "missing parameter `page`; the function takes `page`");
    }

    #[test]
    fn what_the_writer_writes_is_read_back() {
        let mut writer = ArgumentsWriter::new();
        writer.put("count", &7).expect("a number is JSON");
        writer.put("name", "a\"b").expect("a string is JSON");
        assert_eq!(
            two(std::str::from_utf8(&writer.finish().data).expect("JSON is UTF-8")),
            Ok((7, Some("a\"b".to_owned())))
        );
    }
}
