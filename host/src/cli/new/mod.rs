//! `bireme new`: a new app from a template, with its own passing test.
//!
//! Not here: the SDK (`sdk`).

mod name;
mod python;
mod template;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use self::template::Template;
use super::exit::Exit;
use super::global::Global;
use super::output;
use crate::app::sdk::Sdk;
use crate::codes::Code;
use crate::ids::AppName;

/// Write a new app that builds and passes its own test.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme new pages --template scrape\n  bireme new pages --lang python\n  bireme new ."
)]
pub(crate) struct New {
    /// Directory of the app: empty, or not existing yet.
    dir: PathBuf,
    /// Template of the app.
    #[arg(long, value_enum, default_value_t = Template::Transform, value_name = "TEMPLATE")]
    template: Template,
    /// Language of the app.
    #[arg(long, value_enum, default_value_t = Language::Rust, value_name = "LANG")]
    lang: Language,
    /// The app's name, if not the directory's.
    #[arg(long)]
    name: Option<String>,
}

/// Language of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// A crate, compiled by cargo.
    Rust,
    /// Modules, run by the interpreter that comes with the wheel.
    Python,
}

/// Paths in a new app, and texts.
type Files = Vec<(&'static str, String)>;

impl New {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let name = self.app_name()?;
        check_empty(&self.dir)?;
        let (files, sdk) = match self.lang {
            Language::Rust => self.rust(&name, global)?,
            Language::Python => (python::files(name.as_str(), self.template), None),
        };
        for (path, text) in files {
            write_new(&self.dir.join(path), &text)?;
        }
        self.show(&name, sdk.as_deref(), global.json);
        Ok(())
    }

    /// Returns the files of a crate, and the directory of its SDK.
    fn rust(&self, name: &AppName, global: &Global) -> Result<(Files, Option<PathBuf>), Exit> {
        let sdk = Sdk::embedded().unpack(&global.directories()?.sdk())?;
        let cargo_config = fs::read_to_string(&sdk.cargo_config)?;
        let mut files = vec![
            ("Cargo.toml", template::manifest(name.as_str(), self.template)),
            ("src/lib.rs", self.template.source().to_owned()),
            // The configuration has paths of this machine.
            (".gitignore", "/target\n/.cargo/config.toml\n".to_owned()),
            (".cargo/config.toml", cargo_config),
        ];
        let lock = Sdk::lock().of_package(name.as_str(), &template::DEPENDENCIES);
        files.extend(lock.map(|lock| ("Cargo.lock", lock)));
        Ok((files, Some(sdk.folder)))
    }

    fn app_name(&self) -> Result<AppName, Exit> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => last_part(&self.dir)?,
        };
        name::check(&name).map_err(|error| {
            let exit = Exit::usage(error.to_string());
            match name::near(&name) {
                Some(near) => exit.hint(format!("give another with `--name {near}`")),
                None => exit.hint("give another with --name NAME"),
            }
        })
    }

    fn show(&self, name: &AppName, sdk: Option<&Path>, json: bool) {
        let dir = quoted(&self.dir);
        let mut next = match self.lang {
            Language::Rust => vec![format!("bireme build {dir}")],
            Language::Python => Vec::new(),
        };
        next.extend(self.template.preparation().map(str::to_owned));
        next.extend(match self.template.first_call() {
            Some(call) => vec![format!("bireme run {dir}{call}")],
            None => vec![format!("bireme serve {dir}"), format!("curl http://127.0.0.1:8080/{name}/hello/Ada")],
        });
        next.push(match self.lang {
            Language::Rust => format!("bireme test {dir}"),
            Language::Python => format!("bireme dev {dir}"),
        });
        if json {
            let template = self.template.to_possible_value();
            let template = template.map(|value| value.get_name().to_owned());
            let path = self.dir.display().to_string();
            let document = json!({ "name": name, "path": path, "template": template, "sdk": sdk, "next": next });
            output::line(&document.to_string());
            return;
        }
        output::line(&format!("created {name} in {}", self.dir.display()));
        output::note("next:");
        for command in next {
            output::note(&format!("  {command}"));
        }
    }
}

/// Returns the last component of a directory that may not exist.
fn last_part(dir: &Path) -> Result<String, Exit> {
    // Resolves `.` and `..`.
    let whole = match fs::canonicalize(dir) {
        Ok(whole) => whole,
        Err(_) => std::path::absolute(dir)?,
    };
    match whole.file_name() {
        Some(name) => Ok(name.to_string_lossy().into_owned()),
        None => {
            let exit = Exit::usage(format!("`{}` gives the app no name", dir.display()));
            Err(exit.hint("give one with --name NAME"))
        }
    }
}

/// Rejects a directory with entries other than `.git`.
fn check_empty(dir: &Path) -> Result<(), Exit> {
    let unreadable = |error: io::Error| {
        let message = format!("`{}` is no directory for an app: {error}", dir.display());
        Exit::usage(message).hint("give a directory that is empty or does not exist yet")
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    for entry in entries {
        let found = entry.map_err(unreadable)?.file_name();
        if found == ".git" {
            continue;
        }
        let message = format!("`{}` is not empty: it holds `{}`", dir.display(), found.to_string_lossy());
        let hint = "give a directory that is empty or does not exist yet; \
                    a crate that is there already becomes an app with `crate-type = [\"cdylib\"]` and bireme-sdk, \
                    as in the manifest of a new one";
        return Err(Exit::usage(message).hint(hint));
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Result<(), Exit> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| File::create_new(path))
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Exit::new(Code::Io, format!("cannot write `{}`: {error}", path.display())))
}

/// Quotes a path for a shell, and keeps it from being read as an option.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        for (path, text) in
            [("apps/pages", "apps/pages"), ("my app", "'my app'"), ("it's", r"'it'\''s'"), ("-x", "./-x")]
        {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }

    #[test]
    fn a_directory_that_holds_something_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_empty(dir.path()).is_ok());
        assert!(check_empty(&dir.path().join("absent")).is_ok());
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert!(check_empty(dir.path()).is_ok());
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let exit = check_empty(dir.path()).unwrap_err();
        assert_eq!(exit.code, Code::Usage);
        assert!(exit.message.contains("notes.txt"), "{}", exit.message);
        assert_eq!(check_empty(&dir.path().join("notes.txt")).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("pages");
        assert_eq!(last_part(&inner).unwrap(), "pages");
        fs::create_dir(&inner).unwrap();
        assert_eq!(last_part(&inner.join(".")).unwrap(), "pages");
        assert!(last_part(Path::new("/")).is_err());
    }
}
