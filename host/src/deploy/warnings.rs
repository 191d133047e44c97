//! Warnings of a deployment: declarations that this host does not meet yet. The app is live all the same; calls that
//! need one of them fail.

use crate::inference::InferenceError;
use crate::sandbox::Program;

/// A declaration that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub kind: WarningKind,
    /// Name of the grant, model, secret or value.
    pub name: String,
    /// One sentence with the next step.
    pub message: String,
}

/// Kind of the declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarningKind {
    Grant,
    Model,
    Secret,
    Config,
}

/// Returns the warnings of a program, each once. `is_installed` looks a model up.
pub(super) fn of(program: &Program, is_installed: impl Fn(&str) -> bool) -> Vec<Warning> {
    let app = program.name();
    let mut warnings: Vec<Warning> = Vec::new();
    let mut warn = |kind, name: &str, message: String| {
        if !warnings.iter().any(|warning| warning.kind == kind && warning.name == name) {
            warnings.push(Warning { kind, name: name.to_owned(), message });
        }
    };
    for function in program.functions() {
        for name in function.outbound.ungranted() {
            let message = format!("declared but not granted: `${name}`; give `--grant {name}=ORIGIN`");
            warn(WarningKind::Grant, name, message);
        }
        for model in function.models.iter().filter(|model| !is_installed(model)) {
            let message = InferenceError::UnknownModel { model: model.clone() }.to_string();
            warn(WarningKind::Model, model, message);
        }
        for secret in &function.missing_secrets {
            let message = format!(
                "the host has no secret `{secret}`, so `{app}::{}` cannot be called; start the host with `--secret \
                 {secret}` (from its environment) or `--secrets FILE`",
                function.name
            );
            warn(WarningKind::Secret, secret, message);
        }
    }
    let declared = program.metadata().functions.iter().flat_map(|function| &function.attributes.config);
    for key in declared.filter(|key| !program.values().contains_key(*key)) {
        let message =
            format!("the host has no configuration value `{key}`; start the host with `--config {app}:{key}=VALUE`");
        warn(WarningKind::Config, key, message);
    }
    warnings
}
