//! Settings of the operator: secrets and configuration values for apps, and the token of the control API.
//!
//! Each is for all apps, or for one with `APP:` in front of its name. An app's own setting wins over one for all apps,
//! a later one over an earlier one.
//!
//! Not here: access to them. A secret goes to the functions that declare it (`sandbox::Program`), a value to the whole
//! app.
//!
//! Invariant: no error and no `Debug` output of this module holds a secret's value.

mod dotenv;
mod operator_token;
mod secret;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use self::operator_token::{OperatorToken, TokenError};
pub(crate) use self::secret::{DeclaredSecrets, Secret};
use crate::ids::AppName;
use crate::limits::{CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, SECRET_BYTES_MAX, SECRETS_FILE_BYTES_MAX};

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    // The argument may be the secret itself, so the message does not repeat it.
    #[error(
        "a `--secret` is NAME=VALUE or NAME, perhaps with `APP:` in front; names are letters, digits and `_`, no \
         digit first"
    )]
    SecretShape,
    #[error(
        "`--secret {name}` takes its value from the host's environment, which has no variable `{name}`; set it, or \
         give `--secret {name}=VALUE`"
    )]
    NoVariable { name: String },
    #[error("the value of secret `{name}` is not UTF-8")]
    NotText { name: String },
    #[error("the value of secret `{name}` is {bytes} bytes, over the limit of {SECRET_BYTES_MAX}")]
    SecretTooLarge { name: String, bytes: usize },
    #[error("cannot read the secrets in `{}`", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the secrets in `{}` are over {SECRETS_FILE_BYTES_MAX} bytes", path.display())]
    FileTooLarge { path: PathBuf },
    #[error("`{}`, line {line}: {reason}; a line is NAME=VALUE", path.display())]
    Line { path: PathBuf, line: usize, reason: &'static str },
    #[error("`--config {given}`: {reason}; it is KEY=VALUE, or APP:KEY=VALUE for one app")]
    Config { given: String, reason: &'static str },
}

/// Settings by app and name.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    secrets: ScopedMap<Secret>,
    values: ScopedMap<Arc<str>>,
}

impl Settings {
    /// Adds the value of a `--secret` flag; `variable` reads the host's environment.
    pub(crate) fn add_secret(
        &mut self,
        given: &str,
        variable: impl FnOnce(&str) -> Option<std::ffi::OsString>,
    ) -> Result<(), SettingsError> {
        let (name, value) = match given.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (given, None),
        };
        let (app, name) = scope(name).filter(|(_, name)| is_secret_name(name)).ok_or(SettingsError::SecretShape)?;
        let value = match value {
            Some(value) => value,
            None => variable(name)
                .ok_or_else(|| SettingsError::NoVariable { name: name.to_owned() })?
                .into_string()
                .map_err(|_| SettingsError::NotText { name: name.to_owned() })?,
        };
        self.put_secret(app, name, value)
    }

    /// Adds every secret of a file in `.env` format.
    pub(crate) fn add_secrets_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let read = |source| SettingsError::File { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(read)?;
        file.take(SECRETS_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(read)?;
        if text.len() as u64 > SECRETS_FILE_BYTES_MAX {
            return Err(SettingsError::FileTooLarge { path: path.to_owned() });
        }
        let wrong = |line, reason| SettingsError::Line { path: path.to_owned(), line, reason };
        for entry in dotenv::parse(&text) {
            let (line, name, value) = entry.map_err(|error| wrong(error.line, error.reason))?;
            let (app, name) = scope(name)
                .filter(|(_, name)| is_secret_name(name))
                .ok_or_else(|| wrong(line, "the name is not letters, digits and `_`, no digit first"))?;
            self.put_secret(app, name, value)?;
        }
        Ok(())
    }

    /// Adds the value of a `--config` flag.
    pub(crate) fn add_value(&mut self, given: &str) -> Result<(), SettingsError> {
        let wrong = |reason| SettingsError::Config { given: given.chars().take(80).collect(), reason };
        let (key, value) = given.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
        let (app, key) = scope(key).ok_or_else(|| wrong("what stands before `:` is no app's name"))?;
        if key.is_empty() || key.len() > CONFIG_KEY_BYTES_MAX {
            return Err(wrong("a key has 1 to 256 bytes"));
        }
        if value.len() > CONFIG_VALUE_BYTES_MAX {
            return Err(wrong("a value has at most 64 KiB"));
        }
        self.values.put(app, key, value.into());
        Ok(())
    }

    /// Returns the secret `name` of an app.
    pub(crate) fn secret(&self, app: &AppName, name: &str) -> Option<&Secret> {
        self.secrets.get(app, name)
    }

    /// Returns the configuration values of an app.
    pub(crate) fn values(&self, app: &AppName) -> BTreeMap<String, Arc<str>> {
        self.values.of(app).map(|(key, value)| (key.to_owned(), value.clone())).collect()
    }

    fn put_secret(&mut self, app: Option<AppName>, name: &str, value: String) -> Result<(), SettingsError> {
        if value.len() > SECRET_BYTES_MAX {
            return Err(SettingsError::SecretTooLarge { name: name.to_owned(), bytes: value.len() });
        }
        self.secrets.put(app, name, Secret::new(value));
        Ok(())
    }
}

/// Splits `APP:NAME` into scope and name; `None` if `APP` is not an app's name.
fn scope(name: &str) -> Option<(Option<AppName>, &str)> {
    match name.split_once(':') {
        Some((app, name)) => Some((Some(AppName::new(app).ok()?), name)),
        None => Some((None, name)),
    }
}

/// Whether `name` can name a secret, and so an environment variable.
pub(crate) fn is_secret_name(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Values by name, for all apps or for one.
#[derive(Clone, Debug)]
struct ScopedMap<T>(BTreeMap<(Option<AppName>, String), T>);

impl<T> Default for ScopedMap<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ScopedMap<T> {
    fn put(&mut self, app: Option<AppName>, name: &str, value: T) {
        self.0.insert((app, name.to_owned()), value);
    }

    fn get(&self, app: &AppName, name: &str) -> Option<&T> {
        let own = self.0.get(&(Some(app.clone()), name.to_owned()));
        own.or_else(|| self.0.get(&(None, name.to_owned())))
    }

    /// Yields values for all apps first, so that collecting into a map keeps the app's own.
    fn of<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = (&'a str, &'a T)> {
        let is_for = move |scope: &Option<AppName>| scope.as_ref().is_none_or(|scope| scope == app);
        self.0.iter().filter(move |((scope, _), _)| is_for(scope)).map(|((_, name), value)| (name.as_str(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    fn secret(settings: &mut Settings, given: &str) -> Result<(), SettingsError> {
        settings.add_secret(given, |name| (name == "IN_ENV").then(|| "from the environment".into()))
    }

    #[test]
    fn a_secret_comes_from_its_flag_or_from_the_environment() {
        let mut settings = Settings::default();
        for given in ["KEY=a=b", "IN_ENV", "shop:KEY=own"] {
            secret(&mut settings, given).unwrap();
        }
        let value = |name, key| settings.secret(&app(name), key).map(|secret| secret.expose().to_owned());
        assert_eq!(value("blog", "KEY").as_deref(), Some("a=b"));
        assert_eq!(value("shop", "KEY").as_deref(), Some("own"));
        assert_eq!(value("shop", "IN_ENV").as_deref(), Some("from the environment"));
        assert_eq!(value("shop", "NONE"), None);
        assert_eq!(format!("{:?}", settings.secret(&app("shop"), "KEY")), "Some(***)");
    }

    #[test]
    fn what_may_be_a_secret_is_not_repeated() {
        let mut settings = Settings::default();
        for given in ["hunter-2", "hunter-2=x", "=hunter-2", "a b:KEY=hunter-2"] {
            let error = secret(&mut settings, given).unwrap_err();
            assert!(matches!(error, SettingsError::SecretShape));
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
        assert!(matches!(secret(&mut settings, "NOT_SET"), Err(SettingsError::NoVariable { .. })));
        let large = format!("KEY={}", "x".repeat(SECRET_BYTES_MAX + 1));
        assert!(matches!(secret(&mut settings, &large), Err(SettingsError::SecretTooLarge { .. })));
    }

    #[test]
    fn a_file_is_read_line_by_line_and_a_wrong_line_is_numbered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        std::fs::write(&path, "# keys\nKEY=one\nshop:KEY='two'\n").unwrap();
        let mut settings = Settings::default();
        settings.add_secrets_file(&path).unwrap();
        assert_eq!(settings.secret(&app("shop"), "KEY").map(Secret::expose), Some("two"));

        std::fs::write(&path, "KEY=one\nhunter2\n").unwrap();
        let error = settings.add_secrets_file(&path).unwrap_err().to_string();
        assert!(error.contains(", line 2: ") && !error.contains("hunter2"), "{error}");
        let absent = settings.add_secrets_file(&dir.path().join("absent")).unwrap_err();
        assert!(matches!(absent, SettingsError::File { .. }));
    }

    #[test]
    fn an_apps_own_value_wins_over_one_for_all() {
        let mut settings = Settings::default();
        for given in ["depth=1", "shop:depth=2", "shop:url=http://a/?b=c:d", "blog:depth=3"] {
            settings.add_value(given).unwrap();
        }
        let values = settings.values(&app("shop"));
        let values: Vec<(&str, &str)> = values.iter().map(|(key, value)| (key.as_str(), &**value)).collect();
        assert_eq!(values, [("depth", "2"), ("url", "http://a/?b=c:d")]);
        for wrong in ["depth", "=1", "a b:depth=1"] {
            assert!(matches!(settings.add_value(wrong), Err(SettingsError::Config { .. })), "{wrong}");
        }
    }
}
