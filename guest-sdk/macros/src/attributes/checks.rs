//! Checks of the names in lists. Each error is a sentence for the author.

/// Longest name of a secret, in bytes.
const SECRET_LEN_MAX: usize = 128;

/// Checks an origin (`https://api.example.com`, `http://localhost:8000`), or the name of one that the operator grants
/// (`$site`).
pub(super) fn origin(text: &str) -> Result<(), String> {
    if let Some(name) = text.strip_prefix('$') {
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        return if is_name {
            Ok(())
        } else {
            Err(format!("`{text}` is not a name: after `$` come letters, digits, `-` or `_`"))
        };
    }
    let Some(authority) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Err(format!(
            "`{text}` is not an origin: write `https://{text}`, or `$name` for one that the operator grants"
        ));
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.is_empty()
        || authority.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@' | '*' | '\\'))
    {
        return Err(format!(
            "`{text}` is not an origin: a scheme, a host and perhaps a port, such as `https://api.example.com:8443`"
        ));
    }
    Ok(())
}

/// Checks the name of a model.
pub(super) fn model(text: &str) -> Result<(), String> {
    let is_name = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'));
    if is_name {
        Ok(())
    } else {
        Err(format!("`{text}` is not a model's name: letters, digits, `-`, `_`, `.` and `/`"))
    }
}

/// Checks the name of a secret, and so of an environment variable.
pub(super) fn secret(text: &str) -> Result<(), String> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if !is_name {
        return Err(format!(
            "`{text}` is not a secret's name: letters, digits and `_`, no digit first, as an environment variable \
             has it"
        ));
    }
    if text.len() > SECRET_LEN_MAX {
        return Err(format!("the name of a secret is at most {SECRET_LEN_MAX} bytes long"));
    }
    Ok(())
}
