//! Options that every command takes.

use std::path::{Path, PathBuf};

use clap::Args;

use super::compile_max;
use super::exit::Exit;
use crate::config::{Config, Directories};
use crate::settings::OperatorToken;

/// Data directory of the service that the packages install.
pub(crate) const SERVICE_DATA: &str = "/var/lib/bireme";
const HEADING: &str = "Global options";

#[derive(Args, Clone)]
pub(crate) struct Global {
    /// Data directory for database, models and compiled code. Default: in the home directory.
    #[arg(long, global = true, value_name = "DIR", env = "BIREME_DATA", help_heading = HEADING)]
    data: Option<PathBuf>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true, help_heading = HEADING)]
    pub json: bool,
    /// Print more of the host's own log.
    #[arg(long, short, global = true, help_heading = HEADING)]
    pub verbose: bool,
}

impl Global {
    /// Returns these options with those that were typed behind a target.
    pub(crate) fn with(&self, data: Option<&str>, json: bool, verbose: bool) -> Self {
        Self {
            data: data.map(PathBuf::from).or_else(|| self.data.clone()),
            json: self.json || json,
            verbose: self.verbose || verbose,
        }
    }

    /// Returns the directories of this install.
    pub(crate) fn directories(&self) -> Result<Directories, Exit> {
        Ok(Directories::resolve(self.data.as_deref())?)
    }

    /// Returns the token of the environment, else of the host in this data directory, else of the packages' service.
    pub(crate) fn token(&self) -> Result<Option<OperatorToken>, Exit> {
        if let Some(token) = OperatorToken::of_environment()? {
            return Ok(Some(token));
        }
        let own = OperatorToken::read(&self.directories()?.token).map_err(|error| match error.is_denied() {
            true => Exit::from(error).hint("run the command as the user of that host, or as root with `sudo`"),
            false => error.into(),
        })?;
        if let Some(token) = own {
            return Ok(Some(token));
        }
        // Of no interest to those who may not read it.
        Ok(OperatorToken::read(&service()?.token).unwrap_or_default())
    }

    /// Returns the control sockets to try, in order: of this data directory, and of the packages' service unless a
    /// directory was named.
    pub(crate) fn control_sockets(&self) -> Result<Vec<PathBuf>, Exit> {
        let mut sockets = vec![self.directories()?.control_socket()];
        if self.data.is_none() {
            sockets.push(service()?.control_socket());
        }
        Ok(sockets)
    }

    /// Returns the default configuration with these outbound grants.
    pub(crate) fn config(&self, grants: &[String]) -> Result<Config, Exit> {
        let mut config = Config::new(self.directories()?, grants)?;
        config.compiler.progress = compile_max::print_progress;
        Ok(config)
    }
}

fn service() -> Result<Directories, Exit> {
    Ok(Directories::resolve(Some(Path::new(SERVICE_DATA)))?)
}
