//! Names and ids: validated once, cheap to clone, never plain strings.
//!
//! Limits: names are 1 to 64 bytes of ASCII letters, digits, `-` and `_`, so that they are safe as path segments, store
//! keys and log fields.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name of an app or a function, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 64;

/// A string that cannot be a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// Name of zero bytes.
    #[error("a name cannot be empty")]
    Empty,
    /// Name of more than 64 bytes.
    #[error("the name `{name}` is {bytes} bytes long, over the limit of {NAME_LEN_MAX}")]
    TooLong {
        /// First 80 characters of the name.
        name: String,
        /// Length of the whole name.
        bytes: usize,
    },
    /// Name with a character other than ASCII letters, digits, `-` and `_`.
    #[error("the name `{name}` holds {found:?}; letters, digits, `-` and `_` are allowed")]
    Character {
        /// Whole name.
        name: String,
        /// First character that is not allowed.
        found: char,
    },
}

/// Checks what every name must fulfil.
fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong { name: name.chars().take(80).collect(), bytes: name.len() });
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
        Some(found) => Err(NameError::Character { name: name.to_owned(), found }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `name` and makes it one.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check_name(name)?;
                Ok(Self(name.into()))
            }

            /// Returns it as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                Self::new(&s)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of an app.
    AppName
}

name! {
    /// The name of a function within its app.
    FunctionName
}

name! {
    /// The name of an access token.
    TokenName
}

/// One function of one app, written `app::function`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FunctionId {
    /// App of the function, unique on the host.
    pub app: AppName,
    /// Name of the function, unique within the app.
    pub function: FunctionName,
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.app, self.function)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $type(#[schemars(with = "String")] Uuid);

        impl $type {
            /// Draws a new id.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Returns it as the bytes that it is stored as; they sort as ids do.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Returns the id of these bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError { text: text.chars().take(80).collect() })
            }
        }
    };
}

/// A text that is no id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no id; one looks like 0199c0de-0000-7000-8000-000000000000")]
pub struct IdError {
    text: String,
}

id! {
    /// One call: unique on this host and sortable by time (UUID version 7).
    CallId
}

id! {
    /// One durable map: unique on this host and sortable by time (UUID version 7).
    MapId
}

id! {
    /// One incarnation of a host, from its start to its end (UUID version 7).
    HostId
}

impl MapId {
    /// Returns the id of the call of one input: the same for every attempt, before a restart and after it.
    pub fn call(&self, index: u64) -> CallId {
        // The last 62 bits of an id are random; what is added to them stays among them.
        let (high, low) = self.0.as_u64_pair();
        const RANDOM: u64 = u64::MAX >> 2;
        let low = (low & !RANDOM) | (low.wrapping_add(index).wrapping_add(1) & RANDOM);
        CallId(Uuid::from_u64_pair(high, low))
    }
}

/// A version of an app: the first 12 hex digits of its component's SHA-256.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Version(Arc<str>);

/// Hex digits of a version.
const VERSION_LEN: usize = 12;

/// A text that is no version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no version; one has {VERSION_LEN} hex digits")]
pub struct VersionError {
    text: String,
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        let is_version = text.len() == VERSION_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_version { Ok(Self(text.into())) } else { Err(VersionError { text: text.chars().take(80).collect() }) }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0.as_ref().to_owned()
    }
}

impl Version {
    /// Returns the version of the component with this digest.
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        Self(hex::encode(&digest[..6]).into())
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_path_segments() {
        for good in ["a", "docs-search", "A_1", &"x".repeat(64)] {
            assert!(AppName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "%2e", &"x".repeat(65)] {
            assert!(AppName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_input_of_a_map_has_an_id_of_its_own() {
        let map = MapId::generate();
        let ids: std::collections::HashSet<_> = (0..1_000).map(|index| map.call(index)).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(!ids.contains(&CallId::from_bytes(*map.as_bytes())));
        assert_eq!(map.call(7), map.call(7));
        assert_eq!(map.call(7).to_string().parse(), Ok(map.call(7)));
        assert!("x".parse::<CallId>().is_err());
    }

    #[test]
    fn call_ids_sort_by_time() {
        let ids: Vec<String> = (0..100).map(|_| CallId::generate().to_string()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
