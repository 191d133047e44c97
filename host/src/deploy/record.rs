//! What the database keeps of each change to an app: one record for each deployment, rollback and stop.
//!
//! The last record of an app says what is live; nothing else has to be kept in step with it.

use serde::{Deserialize, Serialize};

use crate::app::capabilities::Capability;
use crate::ids::{AppName, FunctionName, Version};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Deploy,
    Rollback,
    Stop,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Deploy => "deploy",
            Action::Rollback => "rollback",
            Action::Stop => "stop",
        }
    }
}

/// One change to an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 1 for an app's first.
    pub number: u64,
    pub action: Action,
    /// The version that is live from then on, or that was until then (`Stop`).
    pub version: Version,
    /// SHA-256 of the component file, in hex.
    pub digest: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Of the component file.
    pub bytes: u64,
    pub functions: Vec<FunctionName>,
    /// What the operator permitted this app beyond the host's own grants.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Everything that the app declares.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Those of them that the version before did not declare, and that were accepted.
    #[serde(default)]
    pub added: Vec<Capability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Record {
    /// Returns whether the app runs after this record.
    pub fn is_live(&self) -> bool {
        self.action != Action::Stop
    }
}

/// Returns the key of an app's record; records of one app are in order and next to each other.
pub fn key(app: &AppName, number: u64) -> Vec<u8> {
    // Names hold no NUL, so no app's keys begin with another's.
    [prefix(app).as_slice(), &number.to_be_bytes()].concat()
}

/// Returns what the keys of an app's records begin with.
pub fn prefix(app: &AppName) -> Vec<u8> {
    [app.as_str().as_bytes(), b"\0"].concat()
}

/// Returns the app that a key belongs to.
pub fn app_of(key: &[u8]) -> Option<AppName> {
    let name = key.split(|byte| *byte == 0).next()?;
    AppName::new(std::str::from_utf8(name).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_app_are_in_order_and_apart_from_others() {
        let (a, ab) = (AppName::new("a").unwrap(), AppName::new("ab").unwrap());
        let mut keys = [key(&ab, 1), key(&a, 256), key(&a, 255), key(&a, 1)];
        keys.sort();
        assert_eq!(keys, [key(&a, 1), key(&a, 255), key(&a, 256), key(&ab, 1)]);
        assert_eq!(app_of(&key(&ab, 7)), Some(ab));
        assert_eq!(app_of(b"../x\0"), None);
    }
}
