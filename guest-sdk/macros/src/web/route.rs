//! Routes, as authors write them. `docs/metadata.md` fixes the syntax.

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "*"];
const SEGMENTS_MAX: usize = 32;
const BYTES_MAX: usize = 1_024;

/// A checked route.
#[derive(Debug)]
pub(super) struct Route {
    pub method: String,
    /// Names between braces.
    pub parameters: Vec<String>,
}

impl Route {
    /// Parses a route; the error is a sentence for the author.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = |reason: &str| format!("`{text}` is no route: {reason}");
        if text.len() > BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let Some((method, path)) = text.split_once(' ') else {
            return Err(wrong("write a method and a path, as `GET /search`"));
        };
        if !METHODS.contains(&method) {
            let upper = method.to_ascii_uppercase();
            let meant = if METHODS.contains(&upper.as_str()) { format!("; write `{upper}`") } else { String::new() };
            return Err(wrong(&format!("there is no method `{method}`{meant}; there are {}", METHODS.join(", "))));
        }
        let Some(path) = path.strip_prefix('/') else {
            return Err(wrong("the path begins with `/`"));
        };
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() > SEGMENTS_MAX {
            return Err(wrong("it has too many segments"));
        }
        let mut parameters: Vec<String> = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
                let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"{}?#%\\".contains(c);
                if part.chars().all(is_plain) {
                    continue;
                }
                return Err(wrong(&format!(
                    "the segment `{part}` is neither plain text, not encoded, nor one `{{name}}`"
                )));
            };
            let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
            if is_rest && i + 1 < parts.len() {
                return Err(wrong("`{*…}` takes all that is left, so it stands at the end"));
            }
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return Err(wrong("between braces stands the name of a parameter"));
            }
            if parameters.iter().any(|known| known == name) {
                return Err(wrong(&format!("it has `{{{name}}}` twice")));
            }
            parameters.push(name.to_owned());
        }
        Ok(Self { method: method.to_owned(), parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_route_says_why() {
        for (text, words) in [
            ("/search", "write a method and a path"),
            ("get /", "no method `get`; write `GET`"),
            ("FETCH /", "there are GET, HEAD"),
            ("GET search", "begins with `/`"),
            ("GET /{*all}/x", "stands at the end"),
            ("GET /{}", "name of a parameter"),
            ("GET /{a}/{a}", "has `{a}` twice"),
            ("GET /{a}b", "the segment `{a}b`"),
            ("GET /a?b", "the segment `a?b`"),
        ] {
            let error = Route::read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
