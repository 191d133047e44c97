//! Lock file of a new app: the subset of the examples' lock file that the app needs.
//!
//! A new app builds with tested versions, and offline if they are in cargo's cache.

use std::collections::{BTreeMap, BTreeSet};

/// A parsed `Cargo.lock`. Cargo's own format is regular: blocks, one value per line.
pub(crate) struct Lock {
    head: &'static str,
    packages: Vec<Package>,
}

struct Package {
    name: &'static str,
    version: &'static str,
    text: &'static str,
}

impl Lock {
    pub(crate) fn parse(text: &'static str) -> Self {
        let mut blocks = text.split("[[package]]\n");
        let head = blocks.next().unwrap_or_default();
        let packages = blocks
            .filter_map(|text| {
                Some(Package { name: value(text, "name")?, version: value(text, "version")?, text: text.trim_end() })
            })
            .collect();
        Self { head, packages }
    }

    /// Returns the lock file of the package `name` with these direct dependencies; `None` if a name is missing or
    /// ambiguous.
    pub(crate) fn of_package(&self, name: &str, dependencies: &[&'static str]) -> Option<String> {
        let mut wanted = BTreeSet::new();
        let mut next = dependencies.to_vec();
        while let Some(dependency) = next.pop() {
            let package = self.find(dependency)?;
            if wanted.insert((package.name, package.version)) {
                next.extend(package.dependencies());
            }
        }
        if wanted.iter().any(|(known, _)| *known == name) {
            return None;
        }
        // Cargo adds the version to a dependency only if the file has several packages of that name.
        let mut versions = BTreeMap::<&str, u32>::new();
        for (name, _) in &wanted {
            *versions.entry(name).or_default() += 1;
        }

        let listed: Vec<String> = dependencies.iter().map(|name| format!(" \"{name}\",\n")).collect();
        let own = format!("name = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n{}]", listed.concat());
        let mut blocks: Vec<((&str, &str), String)> = self
            .packages
            .iter()
            .map(|package| ((package.name, package.version), package))
            .filter(|(key, _)| wanted.contains(key))
            .map(|(key, package)| (key, package.text_where(&versions)))
            .collect();
        blocks.push(((name, "0.1.0"), own));
        blocks.sort();
        let blocks: Vec<String> = blocks.into_iter().map(|(_, text)| format!("[[package]]\n{text}\n")).collect();
        Some(format!("{}{}", self.head, blocks.join("\n")))
    }

    /// Finds `name` or `name version`.
    fn find(&self, dependency: &str) -> Option<&Package> {
        let mut words = dependency.split(' ');
        let (name, version) = (words.next()?, words.next());
        let mut found = self
            .packages
            .iter()
            .filter(|package| package.name == name && version.is_none_or(|version| package.version == version));
        let package = found.next()?;
        found.next().is_none().then_some(package)
    }
}

impl Package {
    fn dependencies(&self) -> impl Iterator<Item = &'static str> {
        self.text.lines().filter_map(dependency)
    }

    fn text_where(&self, versions: &BTreeMap<&str, u32>) -> String {
        let lines = self.text.lines().map(|line| match dependency(line) {
            Some(written) => {
                let name = written.split(' ').next().unwrap_or(written);
                if versions.get(name) == Some(&1) { format!(" \"{name}\",") } else { line.to_owned() }
            }
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn dependency(line: &str) -> Option<&str> {
    line.strip_prefix(" \"")?.strip_suffix("\",")
}

fn value(block: &'static str, key: &str) -> Option<&'static str> {
    block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"bytes\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\ndependencies = [\n \"syn 2.0.0\",\n]\n\n[[package]]\nname = \"syn\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"syn\"\nversion = \"2.0.0\"\n";

    #[test]
    fn only_what_is_needed_is_locked_and_in_cargos_order() {
        expect![[r#"
            version = 4

            [[package]]
            name = "pages"
            version = "0.1.0"
            dependencies = [
             "serde",
            ]

            [[package]]
            name = "serde"
            version = "1.0.1"
            dependencies = [
             "syn",
            ]

            [[package]]
            name = "syn"
            version = "2.0.0"
        "#]]
        .assert_eq(&Lock::parse(LOCK).of_package("pages", &["serde"]).unwrap_or_default());
    }

    #[test]
    fn a_name_that_is_not_clear_has_no_lock() {
        let lock = Lock::parse(LOCK);
        assert!(lock.of_package("serde", &["serde"]).is_none());
        assert!(lock.of_package("pages", &["syn"]).is_none());
        assert!(lock.of_package("pages", &["absent"]).is_none());
    }
}
