//! Settings of apps (grants, secrets, configuration values), as flags that several commands share.

use std::path::PathBuf;

use clap::Args;

use super::compile_max::CompileArgs;
use super::exit::Exit;
use super::global::Global;
use crate::config::{Config, ConfigError};
use crate::settings::{Settings, SettingsError};

#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppSettings {
    /// Grant an outbound address: NAME=ORIGIN sets the `$NAME` that a function declares; a bare ORIGIN permits a
    /// private address. model:NAME grants a model to components without metadata.
    #[arg(long = "grant", value_name = "GRANT")]
    pub grants: Vec<String>,
    /// Set a secret for the functions that declare it: NAME=VALUE, or NAME to read the value from this environment
    /// variable (other users of this machine can see command lines). APP:NAME sets it for one app only.
    #[arg(long = "secret", value_name = "SECRET")]
    pub secrets: Vec<String>,
    /// Read secrets from a file of NAME=VALUE lines (.env).
    #[arg(long = "secrets", value_name = "FILE")]
    pub secret_files: Vec<PathBuf>,
    /// Set a configuration value: KEY=VALUE for every app, APP:KEY=VALUE for one.
    #[arg(long = "config", value_name = "VALUE")]
    pub values: Vec<String>,
    #[command(flatten)]
    pub compile: CompileArgs,
}

impl AppSettings {
    /// Returns the host's configuration with these settings.
    pub(crate) fn config(&self, global: &Global) -> Result<Config, Exit> {
        let mut config = global.config(&self.grants)?;
        config.settings = self.settings().map_err(ConfigError::from)?;
        self.compile.apply(&mut config);
        Ok(config)
    }

    /// Returns these settings followed by `more`.
    pub(crate) fn and(&self, more: &Self) -> Self {
        Self {
            grants: [&*self.grants, &more.grants].concat(),
            secrets: [&*self.secrets, &more.secrets].concat(),
            secret_files: [&*self.secret_files, &more.secret_files].concat(),
            values: [&*self.values, &more.values].concat(),
            compile: CompileArgs { compile_max: more.compile.compile_max.or(self.compile.compile_max) },
        }
    }

    /// Reads a flag behind the target; returns whether it is one of these settings.
    pub(crate) fn take(&mut self, name: &str, value: impl FnOnce() -> Result<String, Exit>) -> Result<bool, Exit> {
        match name {
            "grant" => self.grants.push(value()?),
            "secret" => self.secrets.push(value()?),
            "secrets" => self.secret_files.push(value()?.into()),
            "config" => self.values.push(value()?),
            "compile_max" => {
                let max = value()?.parse().map_err(|why| Exit::usage(format!("`--compile-max`: {why}")))?;
                self.compile.compile_max = Some(max);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads files first, so that flags win.
    fn settings(&self) -> Result<Settings, SettingsError> {
        let mut settings = Settings::default();
        self.secret_files.iter().try_for_each(|file| settings.add_secrets_file(file))?;
        self.secrets.iter().try_for_each(|secret| settings.add_secret(secret, |name| std::env::var_os(name)))?;
        self.values.iter().try_for_each(|value| settings.add_value(value))?;
        Ok(settings)
    }
}
