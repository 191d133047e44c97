//! One thing that was looked at, and what to do about it.

use serde::Serialize;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// Everything else works without it, or works with less.
    Warning,
    /// Functions cannot be built or run without it.
    Missing,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// One row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// Stable; programs match on it.
    pub name: &'static str,
    pub status: Status,
    pub detail: String,
    /// The command that fixes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), fix: None }
    }

    pub(crate) fn warning(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    pub(crate) fn missing(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Missing, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// Returns it as rows of a table: the fix stands below the problem.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let row = vec![self.status.as_str().to_owned(), self.name.to_owned(), self.detail.clone()];
        let fix = self.fix.iter().map(|fix| vec![String::new(), String::new(), format!("fix: {fix}")]);
        std::iter::once(row).chain(fix).collect()
    }
}
