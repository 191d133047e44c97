//! Root manifest of the unpacked SDK: the parts of this workspace's manifest that the SDK's crates inherit.
//!
//! Parsed by lines: the workspace's manifest has one dependency per line, and a test fails otherwise.

use std::collections::BTreeSet;

/// Sections copied whole.
const WHOLE: [&str; 3] = ["[workspace.package]", "[workspace.lints.rust]", "[workspace.lints.clippy]"];
const DEPENDENCIES: &str = "[workspace.dependencies]";

/// Returns a manifest that resolves every `workspace = true` of `members`.
pub(crate) fn of_workspace(root: &str, members: &[&str]) -> String {
    let wanted: BTreeSet<&str> = members.iter().flat_map(|member| inherited(member)).collect();
    let mut text = String::from(
        "# Unpacked by bireme, and replaced by it when it was changed.\n[workspace]\nresolver = \"3\"\nmembers = [\"guest-sdk\", \"guest-sdk/macros\"]\n",
    );
    let mut section = "";
    for line in root.lines() {
        if line.starts_with('[') {
            section = line.trim_end();
            if WHOLE.contains(&section) || section == DEPENDENCIES {
                text += &format!("\n{section}\n");
            }
            continue;
        }
        let keep = if section == DEPENDENCIES {
            key(line).is_some_and(|key| wanted.contains(key))
        } else {
            WHOLE.contains(&section) && key(line).is_some()
        };
        if keep {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// Returns the keys that a member inherits from its workspace.
fn inherited(member: &str) -> impl Iterator<Item = &str> {
    member
        .lines()
        .filter(|line| line.replace(' ', "").contains("workspace=true"))
        .filter_map(|line| key(line)?.split('.').next())
}

/// Returns the key of a `key = value` line.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    (!key.starts_with('#')).then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn only_what_the_members_inherit_is_taken() {
        let root = "[workspace]\nmembers = [\"a\"]\n\n[workspace.package]\nedition = \"2024\"\n\n[workspace.dependencies]\n# Why.\nserde = { version = \"1.0\", features = [\"derive\"] }\nwasmtime = \"=48\"\nbytes = \"1\"\n\n[profile.dev]\ndebug = 1\n";
        let members = [
            "[package]\nedition.workspace = true\n[dependencies]\nserde = { workspace = true }\nbytes.workspace = true\nsyn = \"2\"\n",
        ];
        expect![[r#"
            # Unpacked by bireme, and replaced by it when it was changed.
            [workspace]
            resolver = "3"
            members = ["guest-sdk", "guest-sdk/macros"]

            [workspace.package]
            edition = "2024"

            [workspace.dependencies]
            serde = { version = "1.0", features = ["derive"] }
            bytes = "1"
        "#]]
        .assert_eq(&of_workspace(root, &members));
    }

    #[test]
    fn everything_that_the_sdk_inherits_is_there() {
        let members =
            [include_str!("../../../../guest-sdk/Cargo.toml"), include_str!("../../../../guest-sdk/macros/Cargo.toml")];
        let root = of_workspace(include_str!("../../../../Cargo.toml"), &members);
        let defined: BTreeSet<&str> = root.lines().filter_map(key).collect();
        for name in members.iter().flat_map(|member| inherited(member)) {
            // `[lints] workspace = true`.
            assert!(defined.contains(name) || name == "workspace", "{name}");
        }
    }
}
