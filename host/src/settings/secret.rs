//! Secret values, and their redaction from texts.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Bytes of the shortest value that is redacted: shorter ones would match ordinary words.
const REDACTED_BYTES_MIN: usize = 4;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    /// Makes a secret of a value.
    pub(crate) fn new(value: String) -> Self {
        Self(value.into())
    }

    /// Returns the value itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The secrets that one function declares, with the operator's values.
#[derive(Clone)]
pub struct DeclaredSecrets {
    /// Names and values.
    variables: Vec<(String, Secret)>,
    /// Texts to redact, longest first, because one value may begin another.
    redacted: Vec<Box<str>>,
}

impl fmt::Debug for DeclaredSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.variables.iter().map(|(name, value)| (name, value))).finish()
    }
}

impl DeclaredSecrets {
    /// Makes the secrets of a function, from names and values.
    pub(crate) fn new(variables: Vec<(String, Secret)>) -> Self {
        // Logs are written line by line, so a multi-line value is redacted by line.
        let lines = variables.iter().flat_map(|(_, secret)| secret.expose().lines()).map(str::trim);
        let mut redacted: Vec<Box<str>> =
            lines.filter(|line| line.len() >= REDACTED_BYTES_MIN).map(Into::into).collect();
        redacted.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        redacted.dedup();
        Self { variables, redacted }
    }

    /// Returns names and values.
    pub(crate) fn variables(&self) -> &[(String, Secret)] {
        &self.variables
    }

    /// Returns `text` with `***` in place of every verbatim value. A value that was encoded, cut or shortened is not
    /// found.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
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
