//! `GET /api/v1/logs`: log lines as JSON Lines, those that are kept and, with `follow`, those that come.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Response, Uri, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::body::whole;
use super::control::{bad_query, pairs};
use super::problem::Problem;
use super::routes::Answer;
use crate::ids::AppName;
use crate::logs::{FollowItem, Follower, LogRecord, Logs, Query};

const KNOWN: [&str; 11] =
    ["app", "function", "call", "version", "source", "level", "search", "since_ms", "until_ms", "tail", "follow"];
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Answers with the lines that the query wants.
pub fn answer(logs: &Logs, uri: &Uri, closing: &watch::Receiver<bool>) -> Answer {
    let (query, follows) = read(uri.query().unwrap_or_default())?;
    let body = if follows {
        let (kept, follow) = logs.follow(query);
        let kept = stream::iter([text(kept.iter().map(AsRef::as_ref))]);
        let frames =
            kept.chain(come(follow, closing.clone())).map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text))));
        StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync()
    } else {
        whole(text(logs.read(&query).iter().map(AsRef::as_ref)))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, NDJSON);
    Ok(response)
}

/// The lines that come, until the server is about to end.
fn come(follow: Follower, closing: watch::Receiver<bool>) -> impl stream::Stream<Item = String> + Send {
    stream::unfold((follow, closing), |(mut follow, mut closing)| async move {
        let followed = tokio::select! {
            followed = follow.next() => followed?,
            _ = closing.wait_for(|closing| *closing) => return None,
        };
        let text = match followed {
            FollowItem::Line(line) => text([line.as_ref()].into_iter()),
            FollowItem::Lost(lost) => format!("{}\n", serde_json::json!({ "lost": lost })),
        };
        Some((text, (follow, closing)))
    })
}

fn text<'a>(lines: impl Iterator<Item = &'a LogRecord>) -> String {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line).expect("records have string keys only");
        text.push('\n');
    }
    text
}

fn read(text: &str) -> Result<(Query, bool), Problem> {
    let mut query = Query::default();
    let mut follows = false;
    for (name, value) in pairs(text, &KNOWN)? {
        match name.as_str() {
            "app" => query.app = Some(AppName::new(&value).map_err(|error| bad_query(error.to_string()))?),
            "function" => query.function = Some(value),
            "call" => query.call = Some(value),
            "version" => query.version = Some(value),
            "search" => query.search = Some(value),
            "source" => query.source = Some(word(&name, &value, "log, stdout, stderr or system")?),
            "level" => query.level = Some(word(&name, &value, "trace, debug, info, warn or error")?),
            "since_ms" => query.since_ms = Some(number(&name, &value)?),
            "until_ms" => query.until_ms = Some(number(&name, &value)?),
            "tail" => query.tail = Some(number(&name, &value)?),
            _ => follows = value != "false",
        }
    }
    Ok((query, follows))
}

fn word<T: DeserializeOwned>(name: &str, value: &str, expected: &str) -> Result<T, Problem> {
    serde_json::from_value(Value::String(value.to_owned()))
        .map_err(|_| bad_query(format!("`{name}` is {expected}, not `{value}`")))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| bad_query(format!("`{name}` is a whole number, not `{value}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Level, Source};

    #[test]
    fn a_query_reads_or_names_what_is_wrong() {
        let (query, follows) = read("app=hello&level=warn&source=stderr&search=a+b&tail=5&follow").unwrap();
        assert_eq!(query.app.unwrap().as_str(), "hello");
        assert_eq!((query.level, query.source), (Some(Level::Warn), Some(Source::Stderr)));
        assert_eq!((query.search.as_deref(), query.tail, follows), (Some("a b"), Some(5), true));

        let wrong = |text: &str| read(text).unwrap_err().detail;
        assert_eq!(wrong("serach=x"), "no query parameter `serach` here; did you mean `search`?");
        assert_eq!(wrong("level=loud"), "`level` is trace, debug, info, warn or error, not `loud`");
        assert_eq!(wrong("tail=-1"), "`tail` is a whole number, not `-1`");
        assert!(wrong("app=a/b").contains("`a/b`"));
    }
}
