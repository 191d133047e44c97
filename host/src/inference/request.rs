//! Who asks for what.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::call::Priority;
use crate::ids::AppName;

/// Whose share of a device a request is charged to: an app, or a way in from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// A way in that is no app; `@` keeps its name apart from theirs.
    pub fn way_in(name: &str) -> Self {
        Self(format!("@{name}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&AppName> for Tenant {
    fn from(name: &AppName) -> Self {
        Self(name.as_str().into())
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// On whose behalf a request is made.
#[derive(Clone, Debug)]
pub struct Caller {
    pub tenant: Tenant,
    /// Which of the tenant's own requests go first. Between tenants it changes nothing.
    pub priority: Priority,
    /// What cannot be answered by then is not begun.
    pub deadline: Instant,
    /// Requests that will follow at once, where that is known: of a map, the calls that have not ended.
    pub following: Option<usize>,
}

impl Caller {
    /// A caller that nothing is known of but its name.
    pub fn new(tenant: Tenant, deadline: Instant) -> Self {
        Self { tenant, deadline, priority: Priority::default(), following: None }
    }
}

/// Inputs of an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    Texts(Vec<String>),
    /// Texts as the model's own tokens, without the special ones.
    Tokens(Vec<Vec<u32>>),
}

impl Inputs {
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(texts) => texts.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
