//! Files of one module directory form no circle: each can be read with only those below it in mind.
//!
//! A node is a file or a subdirectory of a directory below `host/src`; an edge is a path that one names and another
//! defines. `super::Name` leads to the child that defines `Name`, where the parent only imports or re-exports it.
//! A parent (`mod.rs`, or `x.rs` beside `x/`) may name its children; a child that names an item of its parent's, which
//! in turn names that child, is a circle too, and is listed apart.
//!
//! Not here: the order of the directories themselves (`layers`). Edges by methods on a type are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use crate::sources::{code_of, group, visit};
use crate::support::crate_dir;

/// Directories with circles that are still to be taken apart, and the files of the circles. An entry goes with its last
/// circle.
const PENDING: &[(&str, &str)] = &[
    ("dispatch", "dispatcher, durable, functions"),
    ("dispatch/map", "backing, engine"),
    ("inference", "devices, worker_pool"),
    ("journal", "codec, lease, record"),
];

/// Directories whose children still name items of the parent that names them. An entry goes once none does.
const PENDING_PARENTS: &[&str] = &[
    "dispatch/admission",
    "dispatch/agenda",
    "dispatch/durable/call_queue",
    "inference",
    "inference/batcher",
    "inference/worker_pool",
    "inference/worker_pool/state",
    "worker/onnx",
];

/// The parent's own file, as a node of its directory.
const PARENT: &str = "mod";

/// Rounds of following re-exports. Real chains have two or three.
const ALIASES_MAX: usize = 16;

/// A name that a `use` brings in.
struct Import {
    /// Segments as they are spelt; the last is `*` for a glob.
    path: Vec<String>,
    /// None for a glob.
    name: Option<String>,
    is_public: bool,
    line: usize,
}

/// One source file.
struct Module {
    file: PathBuf,
    code: String,
    imports: Vec<Import>,
}

/// A path of one module that leads to another.
struct Edge {
    from: String,
    to: String,
    /// `file:line: path`, for the listing.
    place: String,
}

/// Modules of the host by their paths.
#[derive(Default)]
struct Sources {
    modules: BTreeMap<Vec<String>, Module>,
}

impl Sources {
    fn read() -> Self {
        let mut sources = Self::default();
        visit(&crate_dir("src"), &mut |path, file, text| sources.add(path, file.to_owned(), text));
        // Modules of tests alone may name what they test.
        let tests: Vec<Vec<String>> = sources.modules.iter().flat_map(|(path, module)| module.tests(path)).collect();
        sources.modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        sources
    }

    fn add(&mut self, path: &[&str], file: PathBuf, text: &str) {
        let mut code = code_of(text);
        let imports = take_imports(&mut code);
        let path = path.iter().map(|&part| part.to_owned()).collect();
        self.modules.insert(path, Module { file, code, imports });
    }

    fn has_child(&self, module: &[String], child: &str) -> bool {
        self.modules.contains_key([module, &[child.to_owned()]].concat().as_slice())
    }

    /// Returns a path from the crate's root; `None` for one of another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let base = module.get(..module.len().checked_sub(ups)?)?;
                Some([base, &path[ups..]].concat())
            }
            child if self.has_child(module, child) => Some([module, path].concat()),
            _ => None,
        }
    }

    /// Returns the module that defines what a path from the root names; `None` for another crate, or the root.
    fn definer(&self, path: &[String], rounds: usize) -> Option<Vec<String>> {
        let rounds = rounds.checked_sub(1)?;
        let known = (0..=path.len()).rev().find(|len| self.modules.contains_key(&path[..*len]))?;
        let (at, rest) = path.split_at(known);
        let Some((name, below)) = rest.split_first().filter(|(name, _)| *name != "*") else { return Some(at.to_vec()) };
        let module = &self.modules[at];
        if let Some(import) = module.imports.iter().find(|import| import.name.as_ref() == Some(name)) {
            let target = self.absolute(at, &import.path)?;
            return self.definer(&[&target, below].concat(), rounds);
        }
        if !module.defines(name) {
            for glob in module.imports.iter().filter(|import| import.name.is_none()) {
                let target = glob.path.split_last().and_then(|(_, path)| self.absolute(at, path));
                let target = target.filter(|target| self.modules.get(target).is_some_and(|module| module.offers(name)));
                if let Some(target) = target {
                    return self.definer(&[&target, rest].concat(), rounds);
                }
            }
        }
        Some(at.to_vec())
    }

    /// Finds the edges between the nodes of each directory. Re-exports of a parent's are none.
    fn edges(&self) -> BTreeMap<String, Vec<Edge>> {
        let mut edges: BTreeMap<String, Vec<Edge>> = BTreeMap::new();
        for (path, module) in &self.modules {
            let is_child = |name: &str| self.has_child(path, name);
            let named = module.imports.iter().filter(|import| !import.is_public);
            let named = named.map(|import| (import.path.clone(), import.line)).chain(module.inline_paths(is_child));
            for (spelt, line) in named {
                let Some(target) = self.absolute(path, &spelt) else { continue };
                let Some(target) = self.definer(&target, ALIASES_MAX).filter(|target| target != path) else { continue };
                let common = path.iter().zip(&target).take_while(|(ours, theirs)| ours == theirs).count();
                if common == 0 {
                    continue;
                }
                let node = |path: &[String]| path.get(common).map_or(PARENT, String::as_str).to_owned();
                let place = format!("{}:{line}: `{}`", module.file.display(), spelt.join("::"));
                let edge = Edge { from: node(path), to: node(&target), place };
                edges.entry(path[..common].join("/")).or_default().push(edge);
            }
        }
        edges
    }
}

impl Module {
    /// Returns the paths of modules that exist in tests only.
    fn tests(&self, path: &[String]) -> Vec<Vec<String>> {
        let lines: Vec<&str> = self.code.lines().map(str::trim).collect();
        let tests = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]").filter_map(|pair| {
            let name = pair[1].rsplit_once("mod ")?.1.strip_suffix(';')?;
            Some([path, &[name.to_owned()]].concat())
        });
        tests.collect()
    }

    fn defines(&self, name: &str) -> bool {
        const ITEMS: [&str; 9] =
            ["fn ", "struct ", "enum ", "trait ", "type ", "const ", "static ", "union ", "macro_rules! "];
        let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        ITEMS.iter().any(|item| self.code.split(item).skip(1).any(|rest| rest.strip_prefix(name).is_some_and(is_end)))
    }

    fn offers(&self, name: &str) -> bool {
        self.defines(name) || self.imports.iter().any(|import| import.name.as_deref() == Some(name))
    }

    /// Finds paths outside of `use` that begin with `crate`, `self`, `super` or a child.
    fn inline_paths(&self, is_child: impl Fn(&str) -> bool) -> Vec<(Vec<String>, usize)> {
        let mut found = Vec::new();
        for (number, line) in self.code.lines().enumerate() {
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            for path in line.split(|c: char| !(is_part(c) || c == '$' || c == '.')) {
                let parts: Vec<String> = path.split("::").map(str::to_owned).collect();
                let leads = matches!(parts[0].as_str(), "crate" | "self" | "super") || is_child(&parts[0]);
                if parts.len() > 1 && leads {
                    found.push((parts.into_iter().filter(|part| !part.is_empty()).collect(), number + 1));
                }
            }
        }
        found
    }
}

/// Takes the `use` statements out of a source.
fn take_imports(code: &mut String) -> Vec<Import> {
    let (mut rest, mut at, mut imports) = (String::new(), 0, Vec::new());
    while let Some(found) = code[at..].find("use ") {
        let begin = at + found;
        let line = code[..begin].rsplit('\n').next().unwrap_or_default().trim();
        let is_public = line.starts_with("pub");
        let is_statement = line.is_empty() || (is_public && !line.contains(' '));
        let Some(end) = code[begin..].find(';').filter(|_| is_statement).map(|end| begin + end) else {
            rest += &code[at..begin + 4];
            at = begin + 4;
            continue;
        };
        let number = code[..begin].lines().count().max(1);
        let statement = &code[begin + 4..end];
        for (path, name) in leaves(statement) {
            imports.push(Import { path, name, is_public, line: number });
        }
        rest += &code[at..begin];
        rest.extend(statement.chars().filter(|c| *c == '\n'));
        at = end + 1;
    }
    rest += &code[at..];
    *code = rest;
    imports
}

/// Reads the tree of a `use`: each path with the name that it has from there on.
fn leaves(tree: &str) -> Vec<(Vec<String>, Option<String>)> {
    let tree = tree.trim();
    let parts = |path: &str| -> Vec<String> {
        path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    if let Some((head, items)) = tree.split_once('{') {
        let below = group(items).into_iter().flat_map(leaves);
        return below.map(|(path, name)| ([parts(head), path].concat(), name)).map(without_self).collect();
    }
    let (path, name) = match tree.split_once(" as ") {
        Some((path, name)) => (parts(path), name.trim().to_owned()),
        None => (parts(tree), parts(tree).pop().unwrap_or_default()),
    };
    vec![(path, (name != "*").then_some(name))]
}

/// `a::{self}` is `a`.
fn without_self((mut path, name): (Vec<String>, Option<String>)) -> (Vec<String>, Option<String>) {
    if path.len() < 2 || path.last().is_none_or(|last| last != "self") {
        return (path, name);
    }
    path.pop();
    let name = if name.as_deref() == Some("self") { path.last().cloned() } else { name };
    (path, name)
}

/// Returns the sets of nodes that lead to each other.
fn circles<'a>(edges: impl Iterator<Item = &'a Edge>) -> Vec<BTreeSet<&'a str>> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        reach.entry(&edge.from).or_default().insert(&edge.to);
    }
    loop {
        let grown: BTreeMap<&str, BTreeSet<&str>> = reach
            .iter()
            .map(|(from, to)| {
                let further = to.iter().filter_map(|via| reach.get(via)).flatten();
                (*from, to.iter().chain(further).copied().collect())
            })
            .collect();
        if grown == reach {
            break;
        }
        reach = grown;
    }
    let leads = |from: &str, to: &str| reach.get(from).is_some_and(|reached| reached.contains(to));
    let in_circles = reach.keys().filter(|node| leads(node, node));
    let circles: BTreeSet<BTreeSet<&str>> =
        in_circles.map(|node| reach[node].iter().copied().filter(|other| leads(other, node)).collect()).collect();
    circles.into_iter().collect()
}

/// Writes a circle with one place for each of its edges.
fn describe(dir: &str, circle: &BTreeSet<&str>, edges: &[Edge]) -> String {
    let members: Vec<&str> = circle.iter().copied().collect();
    let mut text = format!("circle in `{dir}`: {}\n", members.join(", "));
    let mut places: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| circle.contains(&*edge.from) && circle.contains(&*edge.to)) {
        places.entry((&edge.from, &edge.to)).or_default().push(&edge.place);
    }
    for ((from, to), places) in places {
        writeln!(text, "  {from} -> {to} ({} times): {}", places.len(), places[0]).unwrap();
    }
    text
}

#[test]
fn files_of_a_directory_form_no_circle() {
    let (edges, mut wrong, mut used) = (Sources::read().edges(), String::new(), BTreeSet::new());
    for (dir, edges) in &edges {
        let between_children = edges.iter().filter(|edge| edge.from != PARENT && edge.to != PARENT);
        for circle in circles(between_children) {
            match PENDING.iter().find(|(pending, _)| pending == dir) {
                Some((entry, _)) => _ = used.insert(*entry),
                None => wrong += &describe(dir, &circle, edges),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    for (dir, circle) in PENDING {
        assert!(used.contains(dir), "`{dir}` has no circle like `{circle}` any more; take it off the list");
    }
    // The search itself works: there are far more edges than this.
    let found: usize = edges.values().map(Vec::len).sum();
    assert!(found > 300, "{found} edges");
}

#[test]
fn a_child_names_nothing_of_the_parent_that_names_it() {
    let (edges, mut wrong, mut used) = (Sources::read().edges(), String::new(), BTreeSet::new());
    for (dir, edges) in &edges {
        for circle in circles(edges.iter()).into_iter().filter(|circle| circle.contains(PARENT)) {
            match PENDING_PARENTS.iter().find(|pending| *pending == dir) {
                Some(entry) => _ = used.insert(*entry),
                None => wrong += &describe(dir, &circle, edges),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    for entry in PENDING_PARENTS {
        assert!(used.contains(entry), "`{entry}` has no circle through its parent any more; take it off the list");
    }
}

/// Expects the edges of the directory `d` of these files, and the circles that they make.
#[track_caller]
fn check(files: &[(&[&str], &str)], expected: &[(&str, &str)], expected_circles: &[&[&str]]) {
    let mut sources = Sources::default();
    for (path, text) in files {
        sources.add(path, path.join("/").into(), text);
    }
    let edges = sources.edges().remove("d").unwrap_or_default();
    let found: Vec<(&str, &str)> = edges.iter().map(|edge| (&*edge.from, &*edge.to)).collect();
    assert_eq!(found, expected);
    let circles: Vec<Vec<&str>> =
        circles(edges.iter()).into_iter().map(|circle| circle.into_iter().collect()).collect();
    assert_eq!(circles, expected_circles);
}

#[test]
fn edges_are_found_in_every_spelling() {
    let (a, b, c): (&[&str], &[&str], &[&str]) = (&["d", "a"], &["d", "b"], &["d", "c"]);
    check(&[(&["d"], ""), (a, "use super::b::B;"), (b, "")], &[("a", "b")], &[]);
    check(
        &[(&["d"], ""), (a, "use crate::d::{b::{self, B}, c};\nfn f() { b::f(); }"), (b, ""), (c, "")],
        &[("a", "b"), ("a", "b"), ("a", "c")],
        &[],
    );
    check(&[(&["d"], ""), (a, "fn f() { super::b::f(); }"), (b, "pub fn f() {}")], &[("a", "b")], &[]);
    check(&[(&["d"], ""), (a, "// super::b\nlet x = \"super::b\"; use super::a::X;"), (b, "")], &[], &[]);
    check(&[(&["d"], ""), (a, ""), (&["d", "a", "x"], "use super::super::b::B;"), (b, "")], &[("a", "b")], &[]);
    check(
        &[(&["d"], ""), (a, "use super::b::B;"), (b, "#[cfg(test)]\nmod tests {\n use super::super::a; }")],
        &[("a", "b")],
        &[],
    );
}

#[test]
fn a_name_of_the_parent_leads_to_the_child_that_defines_it() {
    let (a, b): (&[&str], &[&str]) = (&["d", "a"], &["d", "b"]);
    let a_uses = "use super::Name;";
    check(&[(&["d"], "pub use b::Name;"), (a, a_uses), (b, "pub struct Name;")], &[("a", "b")], &[]);
    check(&[(&["d"], "pub(crate) use self::b::{Other as Name};"), (a, a_uses), (b, "")], &[("a", "b")], &[]);
    check(&[(&["d"], "pub use b::*;"), (a, a_uses), (b, "pub struct Name;")], &[("a", "b")], &[]);
    check(&[(&["d"], "use crate::else_where::Name;"), (a, a_uses), (b, "")], &[], &[]);
    check(
        &[(&["d"], "pub use crate::e::Name;"), (a, a_uses), (&["e"], "use crate::d::b::Name;"), (b, "")],
        &[("a", "b")],
        &[],
    );
}

#[test]
fn circles_are_found_through_siblings_and_through_the_parent() {
    let (a, b, c): (&[&str], &[&str], &[&str]) = (&["d", "a"], &["d", "b"], &["d", "c"]);
    check(
        &[(&["d"], ""), (a, "use super::b;"), (b, "use super::c;"), (c, "use super::a;")],
        &[("a", "b"), ("b", "c"), ("c", "a")],
        &[&["a", "b", "c"]],
    );
    let parent = "struct Name;\nfn f() { a::run(); }";
    check(&[(&["d"], parent), (a, "use super::Name;")], &[("mod", "a"), ("a", "mod")], &[&["a", "mod"]]);
    check(&[(&["d"], "pub struct Name;\npub use a::run;"), (a, "use super::Name;")], &[("a", "mod")], &[]);
}
