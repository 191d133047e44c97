//! A secret's value, and taking values out of texts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Shorter values are not taken out of texts: they would take ordinary words along.
const REDACTED_BYTES_MIN: usize = 4;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the one who may have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The secrets that one function declares and the operator gave.
#[derive(Clone)]
pub struct DeclaredSecrets {
    /// Names and values.
    variables: Vec<(String, Secret)>,
    /// What is taken out of texts, the longest first: one value may begin another.
    redacted: Vec<Box<str>>,
}

impl fmt::Debug for DeclaredSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.variables.iter().map(|(name, value)| (name, value))).finish()
    }
}

impl DeclaredSecrets {
    pub fn new(variables: Vec<(String, Secret)>) -> Self {
        // A log is written by lines, so a value of several is met in parts.
        let lines = variables.iter().flat_map(|(_, secret)| secret.expose().lines()).map(str::trim);
        let mut redacted: Vec<Box<str>> =
            lines.filter(|line| line.len() >= REDACTED_BYTES_MIN).map(Into::into).collect();
        redacted.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        redacted.dedup();
        Self { variables, redacted }
    }

    /// Returns names and values.
    pub fn variables(&self) -> &[(String, Secret)] {
        &self.variables
    }

    /// Returns `text` with `***` for every value as it stands. One that the function encoded, cut or shortened is not found.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in &self.redacted {
            if text.contains(&**value) {
                text = Cow::Owned(text.replace(&**value, "***"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_out_and_words_are_left() {
        let secrets = DeclaredSecrets::new(vec![
            ("A".into(), Secret::new("abcd".into())),
            ("B".into(), Secret::new("abcdefgh".into())),
            ("C".into(), Secret::new("of".into())),
            ("D".into(), Secret::new("-----BEGIN-----\nMIIEvQIBADAN\n-----END-----".into())),
        ]);
        assert_eq!(secrets.redact("key=abcdefgh and abcd of"), "key=*** and *** of");
        assert_eq!(secrets.redact("  MIIEvQIBADAN"), "  ***");
        assert!(matches!(secrets.redact("nothing"), Cow::Borrowed("nothing")));
        assert_eq!(format!("{secrets:?}"), r#"{"A": ***, "B": ***, "C": ***, "D": ***}"#);
    }
}
