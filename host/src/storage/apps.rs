//! Apps: the record of each change to an app, one for each deployment, rollback and stop.
//!
//! The last record of an app alone says what is live; nothing else has to agree with it.

use serde::{Deserialize, Serialize};

use super::Answer;
use crate::app::capabilities::Capability;
use crate::ids::{AppName, FunctionName, Version};
/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Deploy,
    Rollback,
    Stop,
}

/// One change to an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppRecord {
    /// Counted from 1 for each app.
    pub number: u64,
    pub action: Action,
    /// The version that is live from then on; for `Stop`, the one that was live until then.
    pub version: Version,
    /// SHA-256 of the component file, in hex.
    pub digest: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes of the component file.
    pub bytes: u64,
    pub functions: Vec<FunctionName>,
    /// The app's own grants, beyond those of the host.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Capabilities that the app declares.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Capabilities among them that were new, and accepted.
    #[serde(default)]
    pub added: Vec<Capability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl AppRecord {
    /// Returns true if the app is live after this record.
    pub(crate) fn is_live(&self) -> bool {
        self.action != Action::Stop
    }
}

/// Result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Kept,
    /// The app has another last record by now; nothing was kept.
    Conflict {
        last: u64,
    },
}

/// Records of the apps of an engine.
pub(crate) trait Apps: Send + Sync {
    /// Returns the records of all apps, those of one app oldest first. One that cannot be read is passed over.
    fn records(&self) -> Answer<'_, Vec<(AppName, AppRecord)>>;

    /// Keeps a record if the last one of its app has the number before it (0 where there is none), and deletes the
    /// records with the numbers in `displaced`.
    fn push<'a>(&'a self, app: &'a AppName, record: &'a AppRecord, displaced: &'a [u64]) -> Answer<'a, Pushed>;
}
