//! A Python app on disk: a directory with `pyproject.toml`, or a single file.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::limits::MANIFEST_BYTES_MAX;
use crate::sandbox::AppInfo;

/// File that makes a directory a Python app.
pub(crate) const PROJECT_FILE: &str = "pyproject.toml";
/// Requirements, before those of `PROJECT_FILE`.
const REQUIREMENTS_FILE: &str = "requirements.txt";
/// Modules that are the entry if the project names none.
const ENTRIES: [&str; 2] = ["app", "main"];

/// A Python app on disk.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Directory of its modules.
    pub dir: PathBuf,
    /// Name of the module that makes the app.
    pub entry: String,
    pub app: AppInfo,
    /// Requirements in `pyproject.toml`.
    dependencies: Vec<String>,
}

/// A directory that is no app.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is larger than {MANIFEST_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("`{}` is not valid: {reason}", path.display())]
    Parse { path: PathBuf, reason: String },
    #[error(
        "`{}` has no module for an app; add `{}`, or name the module: `module = \"NAME\"` under `[tool.bireme]` in \
         {PROJECT_FILE}",
        dir.display(),
        tried.join("`, `")
    )]
    NoEntry { dir: PathBuf, tried: Vec<String> },
    #[error("`{module}` is not the name of a module: letters, digits and `_`, with `.` between packages")]
    BadModule { module: String },
}

#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    project: ProjectTable,
    #[serde(default)]
    tool: ToolTable,
}

#[derive(Default, Deserialize)]
struct ProjectTable {
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

#[derive(Default, Deserialize)]
struct ToolTable {
    #[serde(default)]
    bireme: BiremeTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BiremeTable {
    module: Option<String>,
}

impl Project {
    /// Finds the app at `path`; `None` if there is no Python app.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>, ProjectError> {
        if path.is_dir() {
            return match path.join(PROJECT_FILE).is_file() && !path.join("Cargo.toml").is_file() {
                true => Self::in_dir(path).map(Some),
                false => Ok(None),
            };
        }
        if path.extension().is_none_or(|extension| extension != "py") {
            return Ok(None);
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entry = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        check_module(&entry)?;
        let project = match dir.join(PROJECT_FILE).is_file() {
            true => read(&dir.join(PROJECT_FILE))?.project,
            false => ProjectTable::default(),
        };
        let dependencies = project.dependencies.clone();
        // Several apps may share the project's file.
        let app = ProjectTable { name: None, ..project }.info(&entry);
        Ok(Some(Self { dir: dir.to_owned(), entry, app, dependencies }))
    }

    /// Returns the requirements: those of `requirements.txt` if it is there, else those of `pyproject.toml`.
    pub(super) fn requirements(&self) -> Result<Vec<String>, ProjectError> {
        let path = self.dir.join(REQUIREMENTS_FILE);
        if !path.is_file() {
            return Ok(self.dependencies.clone());
        }
        let text = read_text(&path)?;
        let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
        Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
    }

    fn in_dir(dir: &Path) -> Result<Self, ProjectError> {
        let Document { project, tool } = read(&dir.join(PROJECT_FILE))?;
        let entry = match tool.bireme.module {
            Some(module) => {
                check_module(&module)?;
                module
            }
            None => {
                let named = project.name.as_ref().map(|name| name.replace(['-', '.'], "_").to_lowercase());
                let candidates: Vec<String> = named.into_iter().chain(ENTRIES.map(str::to_owned)).collect();
                let found = candidates.iter().find(|module| has_module(dir, module)).cloned();
                found.ok_or_else(|| ProjectError::NoEntry {
                    dir: dir.to_owned(),
                    tried: candidates.iter().map(|module| format!("{module}.py")).collect(),
                })?
            }
        };
        let dependencies = project.dependencies.clone();
        let app = project.info(&entry);
        Ok(Self { dir: dir.to_owned(), entry, app, dependencies })
    }
}

impl ProjectTable {
    /// Returns the app, named after the module `entry` if the project has no name.
    fn info(self, entry: &str) -> AppInfo {
        AppInfo {
            name: self.name.unwrap_or_else(|| entry.to_owned()).to_lowercase().replace(['_', '.'], "-"),
            version: self.version.unwrap_or_else(|| "0.0.0".to_owned()),
            description: self.description.unwrap_or_default(),
        }
    }
}

fn has_module(dir: &Path, module: &str) -> bool {
    dir.join(format!("{module}.py")).is_file() || dir.join(module).join("__init__.py").is_file()
}

fn check_module(module: &str) -> Result<(), ProjectError> {
    let is_name = |part: &str| {
        part.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
            && part.chars().next().is_some_and(|first| !first.is_numeric())
    };
    match module.split('.').all(is_name) {
        true => Ok(()),
        false => Err(ProjectError::BadModule { module: module.to_owned() }),
    }
}

fn read(path: &Path) -> Result<Document, ProjectError> {
    let text = read_text(path)?;
    toml::from_str(&text).map_err(|error| ProjectError::Parse { path: path.to_owned(), reason: error.to_string() })
}

fn read_text(path: &Path) -> Result<String, ProjectError> {
    let unreadable = |source| ProjectError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(ProjectError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_entry_is_named_or_found_by_the_projects_name_or_by_convention() {
        for (files, entry) in [
            (&[(PROJECT_FILE, "[tool.bireme]\nmodule = \"a.b\"")][..], "a.b"),
            (&[(PROJECT_FILE, "[project]\nname = \"My-Pages\""), ("my_pages.py", ""), ("app.py", "")], "my_pages"),
            (&[(PROJECT_FILE, "[project]\nname = \"pages\""), ("pages/__init__.py", "")], "pages"),
            (&[(PROJECT_FILE, ""), ("main.py", "")], "main"),
        ] {
            let dir = dir(files);
            assert_eq!(Project::find(dir.path()).unwrap().unwrap().entry, entry);
        }
    }

    #[test]
    fn a_file_is_an_app_by_itself_and_a_crate_is_none() {
        let dir = dir(&[("one.py", ""), ("both/Cargo.toml", ""), ("both/pyproject.toml", ""), ("empty/x", "")]);
        let found = Project::find(&dir.path().join("one.py")).unwrap().unwrap();
        assert_eq!((found.entry.as_str(), found.dir.as_path()), ("one", dir.path()));
        assert_eq!((found.app.name.as_str(), found.app.version.as_str()), ("one", "0.0.0"));
        for path in ["both", "empty", "one.wasm"] {
            assert!(Project::find(&dir.path().join(path)).unwrap().is_none(), "{path}");
        }
    }

    #[test]
    fn errors_name_the_file_and_the_next_step() {
        let error = |files: &[(&str, &str)]| Project::find(dir(files).path()).unwrap_err().to_string();
        let missing = error(&[(PROJECT_FILE, "[project]\nname = \"pages\"")]);
        assert!(missing.contains("`pages.py`, `app.py`, `main.py`"), "{missing}");
        assert!(missing.contains("[tool.bireme]"), "{missing}");
        assert!(error(&[(PROJECT_FILE, "[tool.bireme]\nmodul = 1")]).contains("modul"));
        assert!(error(&[(PROJECT_FILE, "[tool.bireme]\nmodule = \"../x\"")]).contains("not the name of a module"));
    }
}
