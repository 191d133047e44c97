//! How a command ends when it does not end well: one message, one code, one exit status.

use std::process::ExitCode;

use super::output;
use crate::call::{Failure, FailureCode};
use crate::config::ConfigError;
use crate::inference::InferenceError;
use crate::inference::catalogue::CatalogueError;
use crate::inference::pull::PullError;
use crate::sandbox::SandboxError;
use crate::sandbox::log::printable;

/// The end of a command that failed.
#[derive(Debug)]
pub struct Exit {
    pub status: u8,
    /// Stable; programs match on it.
    pub code: &'static str,
    pub message: String,
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether the command itself was asked for JSON, besides the flag in front of it.
    pub is_json: bool,
    /// Whether records went to stdout before: the error is none of them and goes to stderr, in JSON too.
    pub is_after_records: bool,
    /// What stands beside `error` in the JSON.
    pub beside: Option<Box<(&'static str, serde_json::Value)>>,
}

impl Exit {
    pub fn new(status: u8, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            is_json: false,
            is_after_records: false,
            beside: None,
        }
    }

    /// A command, or its input, that is not as it should be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(2, "usage", message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what happened and returns the process's status.
    pub fn report(self, json: bool) -> ExitCode {
        if json || self.is_json {
            let mut error = serde_json::json!({ "code": self.code, "message": self.message });
            if !self.causes.is_empty() {
                error["causes"] = serde_json::json!(self.causes);
            }
            if let Some(hint) = &self.hint {
                error["hint"] = serde_json::json!(hint);
            }
            let mut document = serde_json::json!({ "error": error });
            if let Some((key, value)) = self.beside.map(|beside| *beside) {
                document[key] = value;
            }
            let print = if self.is_after_records { output::note } else { output::line };
            print(&document.to_string());
        } else {
            // Guests and files have a part in these texts; a terminal must not obey it.
            let note = |text: String| text.lines().for_each(|line| output::note(&printable(line)));
            note(format!("error[{}]: {}", self.code, self.message));
            self.causes.iter().for_each(|cause| note(format!("  caused by: {cause}")));
            self.hint.iter().for_each(|hint| note(format!("  hint: {hint}")));
        }
        ExitCode::from(self.status)
    }

    fn of_error(status: u8, code: &'static str, error: &dyn std::error::Error) -> Self {
        let mut exit = Self::new(status, code, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // `transparent` and `{0}` errors repeat what was said.
            if !exit.message.contains(&text) {
                exit.causes.push(text);
            }
            source = cause.source();
        }
        exit
    }
}

/// Returns the exit status of a call's failure.
pub fn status_of(code: FailureCode) -> u8 {
    match code {
        FailureCode::InvalidInput | FailureCode::InputTooLarge => 2,
        FailureCode::UnknownFunction => 4,
        FailureCode::Timeout => 5,
        FailureCode::Overloaded | FailureCode::Cancelled | FailureCode::Unavailable => 69,
        FailureCode::Failed
        | FailureCode::Terminal
        | FailureCode::MemoryLimit
        | FailureCode::Crashed
        | FailureCode::OutputTooLarge
        | FailureCode::DepthExceeded => 1,
    }
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Self {
        let mut exit = Self::new(status_of(failure.code), failure.code.as_str(), failure.message);
        exit.causes = failure.causes;
        exit
    }
}

macro_rules! from_error {
    ($($type:ty => $status:literal $code:literal),+ $(,)?) => {
        $(impl From<$type> for Exit {
            fn from(error: $type) -> Self {
                Self::of_error($status, $code, &error)
            }
        })+
    };
}

from_error! {
    std::io::Error => 1 "io",
    ConfigError => 2 "config",
    crate::app::build::BuildError => 1 "build-failed",
    crate::app::ComponentError => 2 "bad-component",
    crate::app::metadata::MetadataError => 2 "bad-metadata",
    SandboxError => 1 "sandbox",
    crate::store::StoreError => 1 "store",
}

impl From<super::sdk::SdkError> for Exit {
    fn from(error: super::sdk::SdkError) -> Self {
        Self::of_error(1, "io", &error).hint("give a directory that can be written with --data DIR")
    }
}

impl From<crate::server::ServerError> for Exit {
    fn from(error: crate::server::ServerError) -> Self {
        use crate::server::ServerError as E;
        match &error {
            E::Sandbox(_) => Self::of_error(1, "sandbox", &error),
            E::Artifact(_) => {
                Self::of_error(1, "io", &error).hint("give a directory that can be written with --data DIR")
            }
        }
    }
}

impl From<crate::deploy::LoadError> for Exit {
    fn from(error: crate::deploy::LoadError) -> Self {
        use crate::deploy::LoadError as E;
        let (status, code) = match &error {
            E::Artifact(crate::app::artifact::ArtifactError::Compile(_)) => (2, "bad-component"),
            E::Sandbox(SandboxError::Engine(_)) => (1, "sandbox"),
            E::Metadata(_) | E::Program(_) | E::Sandbox(_) | E::ReservedName { .. } => (2, "bad-app"),
            E::Artifact(_) => (1, "io"),
        };
        let exit = Self::of_error(status, code, &error);
        if code == "io" { exit.hint("give a directory that can be written with --data DIR") } else { exit }
    }
}

impl From<CatalogueError> for Exit {
    fn from(error: CatalogueError) -> Self {
        let (status, code) = match &error {
            CatalogueError::UnknownModel { .. } => (4, "unknown-model"),
            CatalogueError::Name { .. } => (2, "usage"),
            CatalogueError::Staging(_) => (1, "io"),
            _ => (1, "bad-model"),
        };
        Self::of_error(status, code, &error)
    }
}

impl From<PullError> for Exit {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Catalogue(error) => error.into(),
            PullError::NoSource { .. } => Self::of_error(69, "no-model-source", &error),
            _ => Self::of_error(1, "io", &error),
        }
    }
}

impl From<InferenceError> for Exit {
    fn from(error: InferenceError) -> Self {
        let (status, code) = match &error {
            InferenceError::UnknownModel { .. } => (4, "unknown-model"),
            InferenceError::BadInput { .. } => (2, "invalid-input"),
            InferenceError::Deadline => (5, "timeout"),
            InferenceError::Overloaded { .. } => (69, "overloaded"),
            InferenceError::DeviceLost { .. } => (1, "device-lost"),
            InferenceError::Unavailable { .. } => (69, "unavailable"),
        };
        Self::of_error(status, code, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_documented_status() {
        for code in FailureCode::ALL {
            assert!([1, 2, 4, 5, 69].contains(&status_of(code)), "{code}");
        }
    }
}
