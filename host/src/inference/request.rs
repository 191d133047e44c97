//! Requests: the caller, its tenant, and the inputs.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::call::Priority;
use crate::ids::AppName;

/// A tenant, whose share of a device a request is charged to: an app, or an API for outside clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Returns the tenant of an API; `@` keeps its name apart from those of apps.
    pub fn way_in(name: &str) -> Self {
        Self(format!("@{name}").into())
    }

    pub(crate) fn as_str(&self) -> &str {
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

/// The caller of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Tenant that is charged for the request.
    pub tenant: Tenant,
    /// Order among the tenant's own requests. Between tenants it changes nothing.
    pub priority: Priority,
    /// A request that cannot be answered by then is not begun.
    pub deadline: Instant,
    /// Number of requests that will follow at once, if known: of a map, its open calls.
    pub following: Option<usize>,
}

impl Caller {
    /// Returns a caller with defaults for all but its tenant and deadline.
    pub fn new(tenant: Tenant, deadline: Instant) -> Self {
        Self { tenant, deadline, priority: Priority::default(), following: None }
    }
}

/// Inputs of an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Texts in UTF-8, tokenised by the host.
    Texts(Vec<String>),
    /// Texts as the model's own tokens, without the special ones.
    Tokens(Vec<Vec<u32>>),
}

impl Inputs {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(texts) => texts.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
