//! Configuration values that the operator sets: `--config depth=2`, or `--config app:depth=2` for one app of several.
//!
//! A value is text, decoded as the requested type: text as it stands (a `String`, the variant of an enum), anything
//! else as JSON (`2`, `true`, `["a"]`).

use serde::de::value::{Error as TextError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::arguments::misfit;
use crate::host;

/// Reason why a value cannot be had.
///
/// ```
/// use bireme_sdk::config;
///
/// let missing = config::get::<u32>("depth").unwrap_err();
/// assert_eq!(missing, config::Error::Missing { key: "depth".to_owned() });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operator set no such value.
    #[error("no configuration value `{key}`; the operator gives it with `--config {key}=VALUE`")]
    Missing {
        /// Name of the value.
        key: String,
    },
    /// The value is not of the requested type.
    #[error("the configuration value `{key}` does not fit: {reason}")]
    Misfit {
        /// Name of the value.
        key: String,
        /// Place and reason of the misfit.
        reason: String,
    },
    /// The host could not look the value up.
    #[error("the host cannot look up the configuration value `{key}`: {reason}")]
    Unavailable {
        /// Name of the value.
        key: String,
        /// Message of the host.
        reason: String,
    },
}

impl Error {
    /// Returns true if a retry cannot help.
    pub fn is_terminal(&self) -> bool {
        !matches!(self, Self::Unavailable { .. })
    }
}

/// Returns a required value.
///
/// ```
/// use bireme_sdk::{config, testing};
///
/// let _config = testing::with_config([("depth", "2"), ("title", "2"), ("tags", r#"["a", "b"]"#)]);
/// assert_eq!(config::get::<u32>("depth")?, 2);
/// assert_eq!(config::get::<String>("title")?, "2");
/// assert_eq!(config::get::<Vec<String>>("tags")?, ["a", "b"]);
/// assert_eq!(
///     config::get::<u32>("width").unwrap_err().to_string(),
///     "no configuration value `width`; the operator gives it with `--config width=VALUE`"
/// );
/// # Ok::<(), config::Error>(())
/// ```
///
/// # Errors
/// See [`Error`].
pub fn get<T: DeserializeOwned>(key: &str) -> Result<T, Error> {
    find(key)?.ok_or_else(|| Error::Missing { key: key.to_owned() })
}

/// Returns an optional value.
///
/// ```
/// use bireme_sdk::{config, testing};
///
/// let _config = testing::with_config([("depth", "two")]);
/// assert_eq!(config::find::<u32>("width")?.unwrap_or(80), 80);
/// assert!(config::find::<u32>("depth").is_err());
/// # Ok::<(), config::Error>(())
/// ```
///
/// # Errors
/// [`Error::Misfit`], [`Error::Unavailable`].
pub fn find<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let found = host::config(key).map_err(|reason| Error::Unavailable { key: key.to_owned(), reason })?;
    let Some(text) = found else { return Ok(None) };
    let of_text: StrDeserializer<'_, TextError> = text.as_str().into_deserializer();
    let error = match T::deserialize(of_text) {
        Ok(value) => return Ok(Some(value)),
        Err(error) => error,
    };
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut deserializer).map(Some).map_err(|json| {
        // Text that is not JSON at all was meant as text.
        let reason = if json.inner().is_data() { misfit::message("$", &json) } else { error.to_string() };
        Error::Misfit { key: key.to_owned(), reason }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::testing;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        Fast,
        Careful,
    }

    #[test]
    fn text_is_read_as_the_type_that_is_asked_for() {
        let _config = testing::with_config([("mode", "careful"), ("on", "true"), ("rate", "1.5"), ("quoted", "\"a\"")]);
        assert_eq!(get("mode"), Ok(Mode::Careful));
        assert_eq!(get("on"), Ok(true));
        assert_eq!(get("rate"), Ok(1.5));
        assert_eq!(get("quoted"), Ok("\"a\"".to_owned()));
        assert_eq!(find::<Mode>("none"), Ok(None));
    }

    #[test]
    fn what_does_not_fit_says_why() {
        let _config = testing::with_config([("depth", "deep"), ("list", "[1, \"a\"]"), ("mode", "slow")]);
        let reason = |error: Error| error.to_string();
        assert!(
            get::<u32>("depth").map_err(reason).unwrap_err().contains("`depth` does not fit: invalid type: string")
        );
        assert!(get::<Vec<u8>>("list").map_err(reason).unwrap_err().contains("$[1]: expected an integer (`u8`)"));
        assert!(get::<Mode>("mode").map_err(reason).unwrap_err().contains("unknown variant `slow`"));
    }
}
