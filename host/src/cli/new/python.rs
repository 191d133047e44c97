//! Files of a new app in Python.

use super::template::Template;

/// Name in the templates for the app's.
const NAME: &str = "NAME";

/// Returns the files of an app: paths and texts.
pub(super) fn files(name: &str, template: Template) -> Vec<(&'static str, String)> {
    let (source, test) = match template {
        Template::Scrape => (
            include_str!("../../../templates/python/scrape.py"),
            include_str!("../../../templates/python/test_scrape.py"),
        ),
        Template::Transform => (
            include_str!("../../../templates/python/transform.py"),
            include_str!("../../../templates/python/test_transform.py"),
        ),
        Template::Web => {
            (include_str!("../../../templates/python/web.py"), include_str!("../../../templates/python/test_web.py"))
        }
        Template::Embed => (
            include_str!("../../../templates/python/embed.py"),
            include_str!("../../../templates/python/test_embed.py"),
        ),
    };
    vec![
        ("pyproject.toml", project(name, template)),
        ("app.py", source.replace(NAME, name)),
        ("test_app.py", test.to_owned()),
        (".gitignore", "/.bireme\n/.venv\n__pycache__\n".to_owned()),
    ]
}

fn project(name: &str, template: Template) -> String {
    let description = template.description();
    format!(
        r#"[project]
name = "{name}"
version = "0.1.0"
description = "{description}"
requires-python = ">=3.10"

[tool.bireme]
module = "app"
"#
    )
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn templates_fit_a_screen_and_their_first_call_exists() {
        for &template in Template::value_variants() {
            let files = files("pages", template);
            let text = |path| &files.iter().find(|(file, _)| *file == path).unwrap().1;
            let source = text("app.py");
            assert!(source.lines().count() < 50, "{template:?}");
            assert!(source.contains("App(\"pages\")") && !source.contains(NAME), "{source}");
            let call = template.first_call().unwrap_or("::hello");
            let name = call.split(' ').next().unwrap_or_default().trim_start_matches("::");
            assert!(source.contains(&format!("def {name}(")), "{template:?}");
            assert!(text("test_app.py").contains("def test_"), "{template:?}");
            assert!(text("pyproject.toml").contains("name = \"pages\""));
        }
    }
}
