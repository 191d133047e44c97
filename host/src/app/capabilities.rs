//! Capabilities of an app beyond computing, as its functions declare them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metadata::Metadata;

/// Kind of a declared capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An origin to reach over HTTP, or a `$name` for one.
    Outbound,
    /// A model for inference.
    Model,
    /// A secret to read.
    Secret,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Outbound, Kind::Model, Kind::Secret];

    fn as_str(self) -> &'static str {
        match self {
            Kind::Outbound => "outbound",
            Kind::Model => "model",
            Kind::Secret => "secret",
        }
    }
}

/// One capability. As text: `outbound:https://api.example.com`, `model:all-minilm-l6-v2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Capability {
    pub kind: Kind,
    pub name: String,
}

/// Text that is not a capability.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no capability; one is `outbound:ORIGIN`, `model:NAME` or `secret:NAME`")]
pub struct CapabilityError {
    text: String,
}

/// Returns the capabilities of all functions together: they call each other, so one's reach is another's.
pub(crate) fn of(metadata: &Metadata) -> BTreeSet<Capability> {
    let mut all = BTreeSet::new();
    for function in &metadata.functions {
        let attributes = &function.attributes;
        let declared = [
            (Kind::Outbound, &attributes.outbound),
            (Kind::Model, &attributes.models),
            (Kind::Secret, &attributes.secrets),
        ];
        for (kind, names) in declared {
            all.extend(names.iter().map(|name| Capability { kind, name: name.clone() }));
        }
    }
    all
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.name)
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once(':')
            .filter(|(_, name)| !name.is_empty())
            .and_then(|(kind, name)| {
                let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
                Some(Self { kind, name: name.to_owned() })
            })
            .ok_or_else(|| CapabilityError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Capability {
    type Error = CapabilityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> String {
        capability.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_taken_together_and_text_reads_back() {
        let metadata = Metadata::parse(
            br#"{"format":1,"app":{"name":"a"},"functions":[
                {"name":"f","input":{},"output":{},"attributes":{"outbound":["$site","https://a.example"],"models":["m"],"secrets":["KEY"]}},
                {"name":"g","input":{},"output":{},"attributes":{"outbound":["$site"]}}]}"#,
        )
        .unwrap();
        let texts: Vec<String> = of(&metadata).iter().map(Capability::to_string).collect();
        assert_eq!(texts, ["outbound:$site", "outbound:https://a.example", "model:m", "secret:KEY"]);
        for text in texts {
            assert_eq!(text.parse::<Capability>().unwrap().to_string(), text);
        }
        for bad in ["", "outbound", "outbound:", "root:x"] {
            assert!(bad.parse::<Capability>().is_err(), "{bad}");
        }
    }
}
