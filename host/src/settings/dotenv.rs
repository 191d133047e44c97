//! Parser of `.env` files: lines of `NAME=VALUE`, optionally with `export` in front; `#` begins a comment.
//!
//! A value in single quotes is verbatim; in double quotes `\n`, `\t`, `\"` and `\\` are escapes. References to other
//! variables and multi-line values are not supported. Our own because the crates for it quote the line in their errors,
//! and the line is the secret.

/// A malformed line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    /// Counted from 1.
    pub line: usize,
    pub reason: &'static str,
}

/// Returns the line number (from 1), name and value of each entry.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = Result<(usize, &str, String), LineError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().filter_map(|(position, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let number = position + 1;
        let entry = entry(line).map(|(name, value)| (number, name, value));
        Some(entry.map_err(|reason| LineError { line: number, reason }))
    })
}

fn entry(line: &str) -> Result<(&str, String), &'static str> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("there is no `=`")?;
    let value = value.trim_start();
    let value = match value.chars().next() {
        Some('\'') => {
            let (value, rest) = value[1..].split_once('\'').ok_or("the quote does not end")?;
            nothing_more(rest)?;
            value.to_owned()
        }
        Some('"') => quoted(&value[1..])?,
        // A `#` begins a comment only after a space: it is a common character in secrets.
        _ => value.split_once(" #").map_or(value, |(value, _)| value).trim_end().to_owned(),
    };
    Ok((name.trim(), value))
}

fn quoted(text: &str) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or("the quote does not end")? {
            '"' => break,
            '\\' => value.push(match chars.next().ok_or("the quote does not end")? {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            other => value.push(other),
        }
    }
    nothing_more(chars.as_str())?;
    Ok(value)
}

fn nothing_more(rest: &str) -> Result<(), &'static str> {
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') { Ok(()) } else { Err("something stands behind the closing quote") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_forms_are_read() {
        let text = "\u{feff}# comment\n\nA=1\nexport B = two words # why\nC='$x \"#'\nD=\"a\\nb \\\"c\\\"\" # d\nE=\nF=a#b\r\n";
        let entries: Vec<_> = parse(text).map(|entry| entry.unwrap()).collect();
        let entries: Vec<_> = entries.iter().map(|(line, name, value)| (*line, *name, value.as_str())).collect();
        assert_eq!(
            entries,
            [
                (3, "A", "1"),
                (4, "B", "two words"),
                (5, "C", "$x \"#"),
                (6, "D", "a\nb \"c\""),
                (7, "E", ""),
                (8, "F", "a#b")
            ]
        );
    }

    #[test]
    fn what_does_not_end_is_refused_by_line() {
        for (text, reason) in [
            ("A", "there is no `=`"),
            ("A='b", "the quote does not end"),
            ("A=\"b\\", "the quote does not end"),
            ("A='b'c", "something stands behind the closing quote"),
        ] {
            assert_eq!(parse(text).next(), Some(Err(LineError { line: 1, reason })), "{text}");
        }
    }
}
