//! Sources of the host as the tests about its structure read them: module paths, code without comments, names in paths.

use std::fs;
use std::path::Path;

/// Blanks comments, strings and test modules out, so that lines and columns stay where they are.
pub(crate) fn code_of(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests {") {
        // By convention the last item of its file.
        Some(tests) => &text[..tests],
        None => text,
    };
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        // Every other piece between quotes is a string; that a quote may be escaped does not matter to a search for
        // paths.
        for (index, piece) in line.split('"').enumerate() {
            if index > 0 {
                code.push('"');
            }
            if index % 2 == 0 {
                code += piece;
            }
        }
        code.push('\n');
    }
    code
}

/// Reads a path, or each path of a group in braces: `a::{b, c::d}` gives `a::b` and `a::c::d`.
pub(crate) fn names(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).unwrap_or(text.len());
    let head = &text[..end];
    let Some(rest) = text[end..].strip_prefix('{') else {
        return vec![head.trim_end_matches(':').to_owned()];
    };
    let mut found = Vec::new();
    for item in group(rest) {
        found.extend(names(item).into_iter().map(|name| format!("{head}{name}")));
    }
    found
}

/// Splits the text behind an opening brace into the items of the group, up to its closing brace.
pub(crate) fn group(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (1, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (c == ',' && depth == 1) {
            let item = text[start..at].trim();
            start = at + 1;
            if !item.is_empty() {
                items.push(item);
            }
        }
        if depth == 0 {
            break;
        }
    }
    items
}

/// Calls `visit` with the module path, the name and the text of each source file below `dir`.
pub(crate) fn visit(dir: &Path, visit: &mut impl FnMut(&[&str], &Path, &str)) {
    fn walk(root: &Path, dir: &Path, visit: &mut impl FnMut(&[&str], &Path, &str)) {
        let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(root, &path, visit);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().with_extension("");
            let parts: Vec<&str> = name.iter().map(|part| part.to_str().unwrap()).collect();
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            let module = match parts.as_slice() {
                ["lib" | "main"] | [.., "tests"] => continue,
                [module @ .., "mod"] | module => module,
            };
            if is_source {
                visit(module, &path, &fs::read_to_string(&path).unwrap());
            }
        }
    }
    walk(dir, dir, visit);
}
