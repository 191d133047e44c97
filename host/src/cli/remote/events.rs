//! Feed of a host's changes, as a command reads it: server-sent events, resumed where a connection broke off.

use std::io::{BufRead, BufReader, Read};

use super::client::{Client, Query};
use super::reconnect::Reconnect;
use crate::api;
use crate::cli::exit::Exit;
use crate::codes::Code;

/// Item of the feed.
pub(crate) enum FeedItem {
    /// The connection stands: changes from now on come as events.
    Opened,
    Event(Box<api::Event>),
}

/// Reads the feed until `take` returns false, or the host stays away for longer than `Reconnect` waits.
pub(crate) fn follow(
    client: &Client,
    query: Query<'_>,
    mut take: impl FnMut(FeedItem) -> Result<bool, Exit>,
) -> Result<(), Exit> {
    let mut last_id = None;
    let mut reconnect = Reconnect::default();
    loop {
        let error = match client.feed("/api/v1/events", query, last_id.as_deref()) {
            Ok(stream) => {
                reconnect = Reconnect::default();
                if !take(FeedItem::Opened)? {
                    return Ok(());
                }
                match read(stream, &mut last_id, &mut take)? {
                    false => return Ok(()),
                    true => Exit::new(Code::NoHost, "the host ended the feed"),
                }
            }
            Err(exit) if matches!(exit.code, Code::NoHost | Code::Unavailable) => exit,
            Err(exit) => return Err(exit),
        };
        reconnect.wait(error)?;
    }
}

/// Reads one connection. Returns whether to connect again.
fn read(
    stream: impl Read,
    last_id: &mut Option<String>,
    take: &mut impl FnMut(FeedItem) -> Result<bool, Exit>,
) -> Result<bool, Exit> {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return Ok(true) };
        if let Some(id) = line.strip_prefix("id: ") {
            *last_id = Some(id.to_owned());
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        // A newer host may have kinds of events that this version does not know.
        let Ok(event) = serde_json::from_str(data) else { continue };
        if !take(FeedItem::Event(Box::new(event)))? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_with_their_place_and_what_is_no_event_is_passed_over() {
        let text = "retry: 1000\nid: h-1\n\n: heartbeat\nid: h-2\n\nid: h-3\nevent: new\ndata: {\"kind\":\"new\"}\n\n\
                    id: h-4\nevent: lost\ndata: {\"kind\":\"lost\",\"data\":{\"next\":\"h-5\"}}\n\n";
        let (mut last_id, mut taken) = (None, Vec::new());
        let goes_on = read(text.as_bytes(), &mut last_id, &mut |item| {
            if let FeedItem::Event(event) = item {
                taken.push(*event);
            }
            Ok(true)
        });
        assert!(goes_on.is_ok_and(|goes_on| goes_on), "the connection ended, the feed did not");
        assert_eq!(last_id.as_deref(), Some("h-4"));
        assert_eq!(taken, [api::Event::Lost(api::EventsLost { next: "h-5".to_owned() })]);
    }
}
