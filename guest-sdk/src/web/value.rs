//! Deserialiser of texts in a path, a query or a form, to the types of a function's parameters.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

/// All values of one name, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'a>(pub &'a [String]);

/// A text that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misfit {
    /// No value was given.
    Missing,
    /// The expected type, and the text found instead.
    Unlike { expected: String, found: Option<String> },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::Unlike { expected, found: Some(found) } => write!(f, "expected {expected}, found `{found}`"),
            Self::Unlike { expected, found: None } => write!(f, "expected {expected}"),
        }
    }
}

impl std::error::Error for Misfit {}

impl Misfit {
    fn expected(expected: impl Into<String>) -> Self {
        Self::Unlike { expected: expected.into(), found: None }
    }

    /// Adds the found text to an error of the type's own code.
    pub(super) fn found(self, text: &str) -> Self {
        match self {
            Self::Unlike { expected, found: None } => {
                Self::Unlike { expected, found: Some(text.chars().take(FOUND_CHARS_MAX).collect()) }
            }
            other => other,
        }
    }
}

/// Characters of a misfit that are shown.
const FOUND_CHARS_MAX: usize = 80;

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::expected(format!("another value ({message})"))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::expected(expected.to_string())
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
        Self::expected(match names.as_slice() {
            [one] => one.clone(),
            names => format!("one of {}", names.join(", ")),
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::expected(format!("a field `{field}`"))
    }
}

impl<'a> Texts<'a> {
    fn one(self) -> Result<&'a str, Misfit> {
        self.0.first().map(String::as_str).ok_or(Misfit::Missing)
    }
}

/// One method for each whole number, with its range in the words of the error.
macro_rules! whole_numbers {
    ($($method:ident $visit:ident $of:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            let text = self.one()?;
            match text.parse::<$of>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Misfit::expected(format!("a whole number from {} to {}", <$of>::MIN, <$of>::MAX)).found(text)),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Texts<'_> {
    type Error = Misfit;

    whole_numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let text = self.one()?;
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => visitor.visit_f64(number),
            _ => Err(Misfit::expected("a number").found(text)),
        }
    }

    /// A name alone (`?all`) is yes, as is a ticked box of a form (`on`).
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.one()? {
            "" | "true" | "on" | "1" => visitor.visit_bool(true),
            "false" | "off" | "0" => visitor.visit_bool(false),
            text => Err(Misfit::expected("`true` or `false`").found(text)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let text = self.one()?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(one), None) => visitor.visit_char(one),
            _ => Err(Misfit::expected("one character").found(text)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let text = self.one()?;
        visitor.visit_str(text).map_err(|misfit: Misfit| misfit.found(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    /// A type that accepts anything gets the text.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    /// An empty form field is `None`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            [] => visitor.visit_none(),
            [text] if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let text = self.one()?;
        let variant: StrDeserializer<'_, Misfit> = text.into_deserializer();
        variant.deserialize_enum(name, variants, visitor).map_err(|misfit| misfit.found(text))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let each = self.0.iter().map(|text| Texts(std::slice::from_ref(text)));
        visitor.visit_seq(de::value::SeqDeserializer::new(each))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { bytes byte_buf unit unit_struct tuple tuple_struct map struct }
}

impl<'de> IntoDeserializer<'de, Misfit> for Texts<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    fn read<T: DeserializeOwned>(texts: &[&str]) -> Result<T, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        T::deserialize(Texts(&texts)).map_err(|misfit| misfit.to_string())
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Order {
        NewestFirst,
        OldestFirst,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Id(u64);

    #[test]
    fn a_text_is_read_as_the_type_says() {
        assert_eq!(read::<u8>(&["255"]), Ok(255));
        assert_eq!(read::<f64>(&["-1.5"]), Ok(-1.5));
        assert_eq!(read::<bool>(&[""]), Ok(true));
        assert_eq!(read::<Option<u8>>(&[""]), Ok(None));
        assert_eq!(read::<Option<u8>>(&[]), Ok(None));
        assert_eq!(read::<Vec<u8>>(&["1", "2"]), Ok(vec![1, 2]));
        assert_eq!(read::<Vec<u8>>(&[]), Ok(vec![]));
        assert_eq!(read::<Order>(&["newest-first"]), Ok(Order::NewestFirst));
        assert_eq!(read::<Id>(&["7"]), Ok(Id(7)));
        assert_eq!(read::<String>(&["a", "b"]), Ok("a".to_owned()));
    }

    #[test]
    fn what_does_not_fit_says_what_was_expected_and_found() {
        assert_eq!(read::<u8>(&["256"]).unwrap_err(), "expected a whole number from 0 to 255, found `256`");
        assert_eq!(read::<f32>(&["NaN"]).unwrap_err(), "expected a number, found `NaN`");
        assert_eq!(read::<bool>(&["yes"]).unwrap_err(), "expected `true` or `false`, found `yes`");
        assert_eq!(
            read::<Order>(&["newest"]).unwrap_err(),
            "expected one of `newest-first`, `oldest-first`, found `newest`"
        );
        assert_eq!(read::<u8>(&[]).unwrap_err(), "it is missing");
    }
}
