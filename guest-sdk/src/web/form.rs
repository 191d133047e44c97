//! Form encoding: names and values, as in queries and forms.

use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;

use super::value::{Misfit, Texts};

/// Returns every value of one name.
pub(super) fn values_of(text: &str, name: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}

/// Decodes a form; the error names the field.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(text) {
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.into_owned()),
            None => fields.push((name.into_owned(), vec![value.into_owned()])),
        }
    }
    let pairs = fields.iter().map(|(name, values)| (name.as_str(), Texts(values)));
    serde_path_to_error::deserialize(MapDeserializer::<_, Misfit>::new(pairs)).map_err(|error| {
        match error.path().to_string().as_str() {
            "." => error.inner().to_string(),
            field => format!("field `{field}`: {}", error.inner()),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        name: String,
        count: u8,
        #[serde(default)]
        tags: Vec<String>,
        gift: Option<bool>,
    }

    #[test]
    fn a_form_fills_a_struct() {
        let order = read::<Order>(b"name=two+oars%21&count=2&tags=a&tags=b&gift=on&other=1").expect("it fits");
        let tags = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(order, Order { name: "two oars!".to_owned(), count: 2, tags, gift: Some(true) });
    }

    #[test]
    fn a_field_that_does_not_fit_is_named() {
        let error = read::<Order>(b"name=a&count=many").unwrap_err();
        assert_eq!(error, "field `count`: expected a whole number from 0 to 255, found `many`");
        assert_eq!(read::<Order>(b"name=a").unwrap_err(), "expected a field `count`");
    }
}
