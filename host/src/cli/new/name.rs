//! Name of a new app: must be valid as an app, a crate and a URL path.

use crate::api::RESERVED_NAMES;
use crate::ids::{AppName, NameError};

/// An invalid name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum AppCrateError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the name `{name}` does not begin with a letter, which a crate's must")]
    First { name: String },
    #[error("`{name}` is a word of Rust, and no crate can have it as its name")]
    Keyword { name: String },
    #[error("`{name}` is the name of a crate that every app depends on")]
    Dependency { name: String },
    #[error("`/{name}` is a path of the host's own, so no app can be called that")]
    Route { name: String },
}

const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait",
    "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// Crates of the compiler and dependencies of every app, as spelt in code.
const CRATES: &[&str] =
    &["alloc", "bireme_sdk", "bireme_sdk_macros", "core", "proc_macro", "schemars", "serde", "std", "test"];

/// Checks that `name` can name an app and its crate.
pub(crate) fn check(name: &str) -> Result<AppName, AppCrateError> {
    let app = AppName::new(name)?;
    let is = |list: &[&str], name: &str| list.contains(&name);
    let name = name.to_owned();
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(AppCrateError::First { name });
    }
    if is(KEYWORDS, &name) {
        return Err(AppCrateError::Keyword { name });
    }
    if is(CRATES, &name.replace('-', "_")) {
        return Err(AppCrateError::Dependency { name });
    }
    if is(&RESERVED_NAMES, &name) {
        return Err(AppCrateError::Route { name });
    }
    Ok(app)
}

/// Returns a valid name similar to `text`, if there is one.
pub(crate) fn near(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches('-');
    [name.to_owned(), format!("app-{name}")].into_iter().find(|name| !name.ends_with('-') && check(name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_apps_and_a_crates() {
        for good in ["pages", "my-app", "My_App", "a1"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1st",
            "-x",
            "_",
            "my app",
            "é",
            "fn",
            "gen",
            "std",
            "serde",
            "bireme-sdk",
            "bireme_sdk",
            "proc-macro",
            "api",
            "a.b",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_does_not_pass_has_one_near_it() {
        for (bad, near_it) in [
            ("My App!", Some("my-app")),
            ("2024 pages", Some("app-2024-pages")),
            ("serde", Some("app-serde")),
            ("été", Some("t")),
            ("..", None),
        ] {
            assert_eq!(near(bad).as_deref(), near_it, "{bad}");
        }
    }
}
