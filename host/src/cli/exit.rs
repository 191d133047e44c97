//! Failure of a command: one message, one code, one exit status.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use console::{StyledObject, style};

use super::output;
use crate::call::Failure;
use crate::codes::Code;
use crate::config::ConfigError;
use crate::inference::InferenceError;
use crate::inference::catalogue::CatalogueError;
use crate::inference::pull::PullError;
use crate::logs::printable;
use crate::sandbox::SandboxError;

/// Error that ends a command.
#[derive(Debug)]
pub(crate) struct Exit {
    pub code: Code,
    pub message: String,
    pub causes: Vec<String>,
    /// Next step for the user.
    pub hint: Option<String>,
    /// `--json` was typed behind the target, where only the command sees it.
    pub is_json: bool,
    /// Records are on stdout already, so the error goes to stderr in JSON too.
    pub is_after_records: bool,
    /// Another member of the JSON object beside `error`.
    pub beside: Option<Box<(&'static str, serde_json::Value)>>,
}

impl Exit {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            is_json: false,
            is_after_records: false,
            beside: None,
        }
    }

    /// Error in the command line or its input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints the error and returns the process's exit status.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        let status = ExitCode::from(self.code.exit_status());
        if !json && !self.is_json {
            self.print();
        } else if self.is_after_records {
            output::note(&self.into_document());
        } else {
            output::line(&self.into_document());
        }
        status
    }

    /// Prints the error to stderr while the command goes on.
    pub(crate) fn note(self, json: bool) {
        if json { output::note(&self.into_document()) } else { self.print() }
    }

    fn into_document(self) -> String {
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
        document.to_string()
    }

    /// Prints the error to stderr as text.
    pub(crate) fn print(&self) {
        // Guests and files wrote parts of these texts: escape control characters for the terminal.
        let note = |label: StyledObject<String>, text: &str| {
            let mut lines = text.lines();
            output::note(format!("{label} {}", printable(lines.next().unwrap_or_default())).trim_end());
            lines.for_each(|line| output::note(&printable(line)));
        };
        let plain = |label: &str| style(label.to_owned()).for_stderr();
        note(plain(&format!("error[{}]:", self.code)).red().bold(), &self.message);
        self.causes.iter().for_each(|cause| note(plain("  caused by:"), cause));
        self.hint.iter().for_each(|hint| note(plain("  hint:").cyan(), hint));
        if self.code.has_more_to_say() {
            note(plain("  more:").dim(), &format!("bireme explain {}", self.code));
        }
    }

    /// Prefixes the message with the app, unless it names the app already.
    pub(crate) fn about(mut self, app: &str) -> Self {
        if !self.message.contains(&format!("`{app}`")) {
            self.message = format!("`{app}`: {}", self.message);
        }
        self
    }

    /// Adds a hint unless there is one.
    pub(crate) fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    fn of_error(code: Code, error: &dyn std::error::Error) -> Self {
        let mut exit = Self::new(code, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // `transparent` and `{0}` errors repeat their source's text.
            if !exit.message.contains(&text) {
                exit.causes.push(text);
            }
            source = cause.source();
        }
        exit
    }
}

/// Prints the outcome of a failed parse: help, or clap's error with our code in it.
pub(crate) fn report_usage(mut error: clap::Error) -> ExitCode {
    hide_variables(&mut error);
    let text = error.render();
    if !error.use_stderr() {
        let text = if console::colors_enabled() { text.ansi().to_string() } else { text.to_string() };
        output::line(text.trim_end());
        return ExitCode::SUCCESS;
    }
    // The command line did not parse, so look for the flag itself.
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = text.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let message = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let exit = Exit { causes: lines.map(str::to_owned).collect(), ..Exit::usage(message) };
        return exit.report(true);
    }
    let text = if console::colors_enabled_stderr() { text.ansi().to_string() } else { text.to_string() };
    output::note(text.replacen("error:", &format!("error[{}]:", Code::Usage), 1).trim_end());
    ExitCode::from(Code::Usage.exit_status())
}

/// Takes options out of the usage that came from a variable (`BIREME_DATA`): clap shows them as if they were required.
fn hide_variables(error: &mut clap::Error) {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return };
    let (usage, text) = (usage.to_string(), error.to_string());
    let is_wanted = |option: &str| {
        let is_typed = |argument: String| argument == option || argument.starts_with(&format!("{option}="));
        std::env::args().any(is_typed) || text.matches(option).count() > usage.matches(option).count()
    };
    let shown = without_options(&usage, is_wanted);
    if shown != usage {
        error.insert(ContextKind::Usage, ContextValue::StyledStr(shown.into()));
    }
}

/// Returns a usage without each `--NAME <VALUE>` that is not wanted.
fn without_options(usage: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let mut words: Vec<&str> = usage.split(' ').collect();
    let mut at = 0;
    while at + 1 < words.len() {
        let (option, value) = (words[at], words[at + 1]);
        if option.starts_with("--") && value.starts_with('<') && !is_wanted(option) {
            words.drain(at..at + 2);
        } else {
            at += 1;
        }
    }
    words.join(" ")
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Self {
        let mut exit = Self::new(failure.code.code(), failure.message);
        exit.causes = failure.causes;
        exit
    }
}

macro_rules! from_error {
    ($($type:ty => $code:ident),+ $(,)?) => {
        $(impl From<$type> for Exit {
            fn from(error: $type) -> Self {
                Self::of_error(Code::$code, &error)
            }
        })+
    };
}

from_error! {
    std::io::Error => Io,
    ConfigError => Config,
    crate::app::ComponentError => BadComponent,
    crate::app::manifest::ManifestError => BadManifest,
    crate::app::metadata::MetadataError => BadMetadata,
    SandboxError => Sandbox,
    crate::settings::TokenError => Config,
    crate::worker::WorkerError => DeviceLost,
}

impl From<crate::storage::StorageError> for Exit {
    fn from(error: crate::storage::StorageError) -> Self {
        Self::of_error(error.code(), &error)
    }
}

impl From<crate::app::build::BuildError> for Exit {
    fn from(error: crate::app::build::BuildError) -> Self {
        Self::of_error(error.code(), &error)
    }
}

impl From<crate::python::PythonError> for Exit {
    fn from(error: crate::python::PythonError) -> Self {
        let exit = Self::of_error(error.code(), &error);
        match error.hint() {
            Some(hint) => exit.hint(hint),
            None => exit,
        }
    }
}

impl From<crate::python::ProjectError> for Exit {
    fn from(error: crate::python::ProjectError) -> Self {
        crate::python::PythonError::from(error).into()
    }
}

impl From<crate::app::sdk::SdkError> for Exit {
    fn from(error: crate::app::sdk::SdkError) -> Self {
        Self::of_error(Code::Io, &error).hint("give a directory that can be written with --data DIR")
    }
}

impl From<crate::server::ServerError> for Exit {
    fn from(error: crate::server::ServerError) -> Self {
        use crate::server::ServerError as E;
        match &error {
            E::Sandbox(_) => Self::of_error(Code::Sandbox, &error),
            E::Artifact(_) => {
                Self::of_error(Code::Io, &error).hint("give a directory that can be written with --data DIR")
            }
        }
    }
}

impl From<crate::server::OpenError> for Exit {
    fn from(error: crate::server::OpenError) -> Self {
        use crate::server::OpenError as E;
        match error {
            E::Device(refused) => refused.into(),
            E::Storage(error) | E::InUse(error) => error.into(),
            E::Token(error) => error.into(),
            E::Io(error) => error.into(),
        }
    }
}

impl From<crate::server::ConfineError> for Exit {
    fn from(error: crate::server::ConfineError) -> Self {
        use crate::server::ConfineError as E;
        match error {
            E::Build(error) => error.into(),
            E::Open(error) => error.into(),
            E::Threads { .. } => Self::of_error(Code::Sandbox, &error),
        }
    }
}

impl From<crate::server::StartError> for Exit {
    fn from(error: crate::server::StartError) -> Self {
        use crate::server::StartError as E;
        match error {
            E::Journal(error) => error.into(),
        }
    }
}

impl From<crate::deploy::LoadError> for Exit {
    fn from(error: crate::deploy::LoadError) -> Self {
        let code = error.code();
        let exit = Self::of_error(code, &error);
        if code == Code::Io { exit.hint("give a directory that can be written with --data DIR") } else { exit }
    }
}

impl From<CatalogueError> for Exit {
    fn from(error: CatalogueError) -> Self {
        let code = match &error {
            CatalogueError::UnknownModel { .. } => Code::UnknownModel,
            CatalogueError::Name { .. } => Code::Usage,
            CatalogueError::Staging(_) => Code::Io,
            _ => Code::BadModel,
        };
        Self::of_error(code, &error)
    }
}

impl From<PullError> for Exit {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Catalogue(error) => error.into(),
            PullError::NoSource { .. } => Self::of_error(Code::NoModelSource, &error),
            _ => Self::of_error(Code::Io, &error),
        }
    }
}

impl From<crate::devices::DeviceRefused> for Exit {
    fn from(refused: crate::devices::DeviceRefused) -> Self {
        Self::of_error(Code::NoDevice, &refused).hint(refused.obstacle.next_step())
    }
}

impl From<InferenceError> for Exit {
    fn from(error: InferenceError) -> Self {
        Self::of_error(error.code(), &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_leaves_out_options_that_nobody_typed() {
        let usage = "Usage: bireme new --data <DIR> --name <NAME> <DIR>";
        assert_eq!(without_options(usage, |option| option == "--name"), "Usage: bireme new --name <NAME> <DIR>");
        assert_eq!(without_options("Usage: bireme [OPTIONS]", |_| false), "Usage: bireme [OPTIONS]");
    }
}
