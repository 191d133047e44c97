//! Request headers that several paths read: media type, length, encoding, idempotency key, preferred wait.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use super::peer::Peer;
use super::problem::Problem;
use super::query::bad_query;
use super::respond::OCTET_STREAM;
use crate::call::JSON;
use crate::codes::Code;
use crate::settings::OperatorToken;

/// Longest wait of one request for the end of a call; a client that wants to wait longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Returns the media type of a function's input: JSON for most functions, anything else for those of raw bytes.
pub(crate) fn input_media_type(headers: &HeaderMap, takes_bytes: bool) -> Result<String, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Media types are case-insensitive.
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let refuse = |detail: String| Err(Problem::new(Code::UnsupportedMediaType, detail));
    if takes_bytes {
        return match essence.as_str() {
            "" => Ok(OCTET_STREAM.to_owned()),
            JSON => refuse(format!(
                "this function takes raw bytes, not JSON; send them with their own `content-type`, or as `{OCTET_STREAM}`"
            )),
            _ => Ok(given.to_owned()),
        };
    }
    // `curl -d` sends a form's type by default; the function's decoder judges the body.
    let is_json = matches!(essence.as_str(), JSON | "text/json" | "application/x-www-form-urlencoded" | "");
    if is_json || essence.ends_with("+json") {
        return Ok(JSON.to_owned());
    }
    refuse(format!("this function takes JSON, not `{essence}`; send `content-type: {JSON}`"))
}

/// Refuses compressed bodies: the host passes bytes on as they are.
pub(crate) fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    match headers.get_all(header::CONTENT_ENCODING).iter().find(|value| !is_plain(value)) {
        None => Ok(()),
        Some(encoding) => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            let detail = format!("compressed bodies are not taken; send it without `content-encoding: {encoding}`");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// Refuses a request that is not the operator's: by the user of its connection, else by the token.
pub(crate) fn check_operator(peer: Peer, headers: &HeaderMap, token: &OperatorToken) -> Result<(), Problem> {
    if peer == Peer::Operator {
        return Ok(());
    }
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        let needed = "this path needs the host's token, as `authorization: Bearer TOKEN`; `bireme token` prints it";
        let detail = match peer {
            Peer::User(user) => format!("user {user} is neither the host's user nor root, and {needed}"),
            _ => needed.to_owned(),
        };
        return Err(Problem::new(Code::Unauthorized, detail));
    };
    // The scheme's name is in any case (RFC 9110, section 11.1).
    let is_token = value
        .as_bytes()
        .split_at_checked("bearer ".len())
        .is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case(b"bearer ") && token.is(given.trim_ascii()));
    if is_token {
        return Ok(());
    }
    Err(Problem::new(Code::Unauthorized, "this is not the token of this host; `bireme token` prints it"))
}

/// Returns the body's length as the head declares it.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns the client's idempotency key.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map_err(|_| bad_query("an `idempotency-key` is visible ASCII"))?;
    // The draft standard has it as a structured string, in quotes.
    Ok(Some(key.trim().trim_matches('"').to_owned()))
}

/// Returns the wait that the client prefers (`Prefer: wait=SECONDS`, or `wait` in the query), at most `WAIT_MAX`.
pub(crate) fn preferred_wait(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Duration>, Problem> {
    let preferred = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferred = preferred.flat_map(|value| value.split([',', ';']));
    let preferred = preferred.find_map(|part| part.trim().strip_prefix("wait="));
    let Some(text) = query.or(preferred) else { return Ok(None) };
    let seconds: f64 = text.trim_end_matches('s').parse().unwrap_or(f64::NAN);
    if !(0.0..=1e9).contains(&seconds) {
        return Err(bad_query(format!("`wait` is a number of seconds, not `{text}`")));
    }
    Ok(Some(Duration::from_secs_f64(seconds).min(WAIT_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_from_either_place_and_bounded() {
        let mut headers = HeaderMap::new();
        assert_eq!(preferred_wait(&headers, None).unwrap(), None);
        headers.insert("prefer", HeaderValue::from_static("respond-async, wait=1.5"));
        assert_eq!(preferred_wait(&headers, None).unwrap(), Some(Duration::from_millis(1_500)));
        assert_eq!(preferred_wait(&headers, Some("3s")).unwrap(), Some(Duration::from_secs(3)));
        assert_eq!(preferred_wait(&headers, Some("86400")).unwrap(), Some(WAIT_MAX));
        for bad in ["-1", "soon", "nan", "inf", ""] {
            assert!(preferred_wait(&headers, Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn compressed_bodies_are_refused_by_name() {
        let check = |encoding: &'static str| {
            let headers = [(header::CONTENT_ENCODING, HeaderValue::from_static(encoding))];
            refuse_encoding(&headers.into_iter().collect()).map_err(|problem| problem.detail)
        };
        assert!(check("identity").is_ok() && check("Identity").is_ok());
        assert!(check("gzip").is_err_and(|detail| detail.contains(": gzip`")));
    }
}
