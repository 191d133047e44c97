//! `GET /api/v1/logs`: log lines of apps as JSON Lines, stored ones and, with `follow`, new ones.

use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::handler::HandlerResult;
use super::problem::Problem;
use super::query::{self, bad_query};
use super::respond::{json_lines, json_lines_stream};
use super::router::Matched;
use crate::api;
use crate::ids::AppName;
use crate::logs::{FollowItem, Follower, LogRecord, Logs, Query};

/// Answers with the log lines that match the query.
pub(crate) fn read(logs: &Logs, matched: &Matched, closing: &watch::Receiver<bool>) -> HandlerResult {
    let query = parse(matched)?;
    if !matched.flag("follow") {
        return Ok(json_lines(write_lines(logs.read(&query).iter().map(AsRef::as_ref))));
    }
    let (stored, follow) = logs.follow(query);
    let stored = stream::iter([write_lines(stored.iter().map(AsRef::as_ref))]);
    Ok(json_lines_stream(stored.chain(new_lines(follow, closing.clone())).map(Into::into)))
}

/// Returns new lines as they come, until the host shuts down.
fn new_lines(follow: Follower, closing: watch::Receiver<bool>) -> impl Stream<Item = String> + Send {
    stream::unfold((follow, closing), |(mut follow, mut closing)| async move {
        let followed = tokio::select! {
            followed = follow.next() => followed?,
            _ = closing.wait_for(|closing| *closing) => return None,
        };
        let text = match followed {
            FollowItem::Line(line) => write_lines([line.as_ref()].into_iter()),
            FollowItem::Lost(lost) => line(&api::LogLost { lost }),
        };
        Some((text, (follow, closing)))
    })
}

fn write_lines<'a>(lines: impl Iterator<Item = &'a LogRecord>) -> String {
    lines.map(|record| line(&api::LogEntry::from(record))).collect()
}

fn line(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string(document).expect("documents have string keys only");
    text.push('\n');
    text
}

fn parse(matched: &Matched) -> Result<Query, Problem> {
    let mut query = Query::default();
    for (name, value) in matched.query() {
        match name {
            "app" => query.app = Some(AppName::new(value).map_err(|error| bad_query(error.to_string()))?),
            "function" => query.function = Some(value.to_owned()),
            "call" => query.call = Some(value.to_owned()),
            "version" => query.version = Some(value.to_owned()),
            "search" => query.search = Some(value.to_owned()),
            "source" => query.source = Some(keyword(name, value, "log, stdout, stderr or system")?),
            "level" => query.level = Some(keyword(name, value, "trace, debug, info, warn or error")?),
            "since_ms" => query.since_ms = Some(query::number(name, value)?),
            "until_ms" => query.until_ms = Some(query::number(name, value)?),
            "tail" => query.tail = Some(query::number(name, value)?),
            _ => {}
        }
    }
    Ok(query)
}

fn keyword<T: DeserializeOwned>(name: &str, value: &str, expected: &str) -> Result<T, Problem> {
    serde_json::from_value(Value::String(value.to_owned()))
        .map_err(|_| bad_query(format!("`{name}` is {expected}, not `{value}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router::{self, Target};
    use crate::logs::{Level, Source};

    fn matched(query: &str) -> Result<Matched, Problem> {
        let uri = format!("/api/v1/logs?{query}").parse().unwrap();
        match router::find(&http::Method::GET, &uri)? {
            Target::Operation(matched) => Ok(matched),
            _ => panic!("it is a route"),
        }
    }

    #[test]
    fn a_query_reads_or_names_what_is_wrong() {
        let matched_all = matched("app=hello&level=warn&source=stderr&search=a+b&tail=5&follow").unwrap();
        let query = parse(&matched_all).unwrap();
        assert_eq!(query.app.unwrap().as_str(), "hello");
        assert_eq!((query.level, query.source), (Some(Level::Warn), Some(Source::Stderr)));
        assert_eq!((query.search.as_deref(), query.tail), (Some("a b"), Some(5)));
        assert!(matched_all.flag("follow"));

        let wrong = |text: &str| matched(text).and_then(|matched| parse(&matched)).unwrap_err().detail;
        assert_eq!(wrong("serach=x"), "no query parameter `serach` here; did you mean `search`?");
        assert_eq!(wrong("level=loud"), "`level` is trace, debug, info, warn or error, not `loud`");
        assert_eq!(wrong("tail=-1"), "`tail` is a whole number, not `-1`");
        assert!(wrong("app=a/b").contains("`a/b`"));
    }
}
