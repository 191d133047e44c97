//! `GET /api/v1/events`: one feed of changes as server-sent events, which a client can resume.
//!
//! Changes come from the journal and the deployments once they are on disk, and from the logs. While no client listens
//! nothing is kept, and a change costs one look at a flag. A client that comes back within `LISTEN_AFTER` goes on
//! behind its last event. Later, or if events left the ring (`event_ring`) that it would have got, it gets a `lost`
//! event in place of the gap.
//!
//! Invariants: kept events are bounded in bytes; nothing waits for a client.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::event_ring::{EventRing, Kept};
use super::handler::HandlerResult;
use super::query::bad_query;
use super::respond::event_stream;
use super::router::Matched;
use crate::api;
use crate::clock::unix_ms;
use crate::deploy::Record;
use crate::dispatch::{Durable, Schedules};
use crate::ids::{AppName, FunctionId, HostId, MapId};
use crate::limits::EVENTS_BYTES_MAX;
use crate::logs::{FollowItem, Follower, Logs, Query};
use crate::storage::{CallRecord, Observer};

/// Time for which events are kept after the last client has left, so that it can come back.
const LISTEN_AFTER: Duration = Duration::from_secs(60);
/// Wait in which changes of one map, or of one schedule, become one event.
const COALESCE: Duration = Duration::from_millis(100);
/// Pause after which a client gets a comment, so that both sides notice a connection that is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Bytes of events that are sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Kinds of events, as a client asks for them.
const KINDS: [&str; 5] = ["call", "map", "app", "schedule", "log"];

/// Events of one host.
pub struct Events {
    /// Distinguishes ids of this host from those of the one before.
    host: HostId,
    /// Until then changes are kept, in milliseconds since 1970; `u64::MAX` while a client listens.
    listens_until_ms: AtomicU64,
    feed: Mutex<Feed>,
    changed: Notify,
}

/// Events that are kept, and what is to become one.
#[derive(Default)]
struct Feed {
    ring: EventRing,
    clients: usize,
    /// Whether a task gathers maps, schedules and log lines.
    gathers: bool,
    maps: BTreeSet<MapId>,
    schedules: BTreeSet<FunctionId>,
}

/// Task that gathers. If it ends by a panic or with the host, another may start.
struct Gathering<'a> {
    events: &'a Events,
    has_ended: bool,
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.events.feed.lock().gathers = false;
        }
    }
}

/// Sources of the events that a task gathers.
#[derive(Clone)]
pub(crate) struct Sources {
    pub durable: Arc<Durable>,
    pub schedules: Schedules,
    pub logs: Arc<Logs>,
}

impl Events {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            host: HostId::generate(),
            listens_until_ms: AtomicU64::new(0),
            feed: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Tells of a change of an app.
    pub(crate) fn app_changed(&self, app: &AppName, record: &Record) {
        if self.listens() {
            let change = api::AppChange { app: app.clone(), record: record.into() };
            self.keep("app", app, &api::Event::App(Box::new(change)));
        }
    }

    fn listens(&self) -> bool {
        let until_ms = self.listens_until_ms.load(Ordering::Relaxed);
        until_ms == u64::MAX || (until_ms > 0 && unix_ms() < until_ms)
    }

    fn keep(&self, kind: &'static str, app: &AppName, event: &api::Event) {
        let json = json(event);
        self.push(|_| Kept { kind, app: Some(app.clone()), name: kind, json: json.into() });
    }

    /// Keeps a gap in the log lines, for each client that wants any.
    fn keep_loss_of_lines(&self) {
        self.push(|number| Kept { kind: "log", app: None, name: "lost", json: self.lost(number + 1).into() });
    }

    fn push(&self, event: impl FnOnce(u64) -> Kept) {
        {
            let mut feed = self.feed.lock();
            let event = event(feed.ring.end());
            feed.ring.push(event, EVENTS_BYTES_MAX);
        }
        self.changed.notify_waiters();
    }

    /// Answers with the events of the query, behind the one that the client had last.
    pub(crate) fn read(
        self: &Arc<Self>,
        sources: Sources,
        matched: &Matched,
        headers: &HeaderMap,
        closing: watch::Receiver<bool>,
    ) -> HandlerResult {
        let filter = Filter::parse(matched)?;
        let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let client = self.enter(last.as_deref());
        self.start_gathering(sources, closing.clone());
        let state = (client, filter, closing, true);
        Ok(event_stream(stream::unfold(state, |(mut client, filter, mut closing, is_first)| async move {
            let mut text = String::new();
            if is_first {
                // An id without data: the client knows where to come back to before the first event.
                text = format!("retry: 1000\nid: {}\n\n", client.id_before_next());
            }
            let heartbeat = Instant::now() + HEARTBEAT;
            loop {
                let changed = client.events.clone();
                let mut changed = pin!(changed.changed.notified());
                changed.as_mut().enable();
                client.take(&filter, &mut text);
                if !text.is_empty() {
                    break;
                }
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(heartbeat) => {
                        // With the id, so that a client whose filter passes nothing keeps its place.
                        text = format!(": heartbeat\nid: {}\n\n", client.id_before_next());
                        break;
                    }
                    _ = closing.wait_for(|closing| *closing) => return None,
                }
            }
            Some((text.into(), (client, filter, closing, false)))
        })))
    }

    /// Adds a client; `last` is the id of its last event.
    fn enter(self: &Arc<Self>, last: Option<&str>) -> Client {
        let mut feed = self.feed.lock();
        if !self.listens() {
            // Changes were missed: no client goes on over this gap.
            feed.ring.clear();
            (feed.maps, feed.schedules) = Default::default();
        }
        self.listens_until_ms.store(u64::MAX, Ordering::Relaxed);
        feed.clients += 1;
        let (first, end) = (feed.ring.first(), feed.ring.end());
        let resumed = last.map(|last| self.number(last).map(|number| number + 1));
        let (next, is_lost) = match resumed {
            None => (end, false),
            Some(Some(next)) if (first..=end).contains(&next) => (next, false),
            Some(_) => (end, true),
        };
        Client { events: self.clone(), next, is_lost }
    }

    /// Starts the task that gathers, unless it runs.
    fn start_gathering(self: &Arc<Self>, sources: Sources, closing: watch::Receiver<bool>) {
        if !std::mem::replace(&mut self.feed.lock().gathers, true) {
            let follower = sources.logs.follow(Query { tail: Some(0), ..Query::default() }).1;
            tokio::spawn(self.clone().gather(sources, follower, closing));
        }
    }

    /// Makes events of changed maps and schedules and of log lines, until no client listens.
    async fn gather(self: Arc<Self>, sources: Sources, mut follower: Follower, mut closing: watch::Receiver<bool>) {
        let mut gathering = Gathering { events: &self, has_ended: false };
        let mut tick = tokio::time::interval(COALESCE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Lines that never pause do not hold up the rest.
                biased;
                _ = closing.wait_for(|closing| *closing) => return,
                _ = tick.tick() => {}
                item = follower.next() => {
                    match item {
                        Some(FollowItem::Line(line)) => {
                            self.keep("log", &line.app, &api::Event::Log(Box::new(line.as_ref().into())));
                        }
                        Some(FollowItem::Lost(_)) => self.keep_loss_of_lines(),
                        None => return,
                    }
                    continue;
                }
            }
            let (maps, schedules) = {
                let mut feed = self.feed.lock();
                if !self.listens() {
                    (feed.gathers, gathering.has_ended) = (false, true);
                    return;
                }
                (std::mem::take(&mut feed.maps), std::mem::take(&mut feed.schedules))
            };
            for id in maps {
                // A map that cannot be read is told of by the journal.
                let Ok(record) = sources.durable.map(id).await else { continue };
                self.keep("map", &record.header.app, &api::Event::Map(Box::new((&record).into())));
            }
            if !schedules.is_empty() {
                let views = sources.schedules.views().await.unwrap_or_default();
                for view in views.iter().filter(|view| schedules.contains(&view.function)) {
                    self.keep("schedule", &view.function.app, &api::Event::Schedule(Box::new(view.into())));
                }
            }
        }
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.host)
    }

    /// Returns the event of a gap before event `next`.
    fn lost(&self, next: u64) -> String {
        json(&api::Event::Lost(api::EventsLost { next: self.id(next) }))
    }

    /// Returns the number in an id of this host.
    fn number(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&self.host.to_string())?.strip_prefix('-')?.parse().ok()
    }
}

fn json(event: &api::Event) -> String {
    serde_json::to_string(event).expect("documents have string keys only")
}

impl Observer for Events {
    fn call_changed(&self, record: &CallRecord) {
        if self.listens() {
            self.keep("call", &record.app, &api::Event::Call(Box::new(record.into())));
        }
    }

    fn map_changed(&self, id: MapId) {
        if self.listens() {
            self.feed.lock().maps.insert(id);
        }
    }

    fn schedule_changed(&self, function: &FunctionId) {
        if self.listens() {
            self.feed.lock().schedules.insert(function.clone());
        }
    }
}

/// Events that a client wants.
struct Filter {
    kinds: Vec<&'static str>,
    app: Option<AppName>,
}

impl Filter {
    fn parse(matched: &Matched) -> Result<Self, super::problem::Problem> {
        let mut filter = Self { kinds: Vec::new(), app: None };
        for (name, value) in matched.query() {
            match name {
                "kind" => {
                    let kind = KINDS.into_iter().find(|kind| *kind == value);
                    filter.kinds.push(
                        kind.ok_or_else(|| bad_query(format!("`kind` is one of {}, not `{value}`", KINDS.join(", "))))?,
                    );
                }
                _ => filter.app = Some(AppName::new(value).map_err(|error| bad_query(error.to_string()))?),
            }
        }
        Ok(filter)
    }

    fn passes(&self, event: &Kept) -> bool {
        (self.kinds.is_empty() || event.kind.is_empty() || self.kinds.contains(&event.kind))
            && self.app.as_ref().is_none_or(|app| event.app.as_ref().is_none_or(|of| of == app))
    }
}

/// A client's place in the feed.
struct Client {
    events: Arc<Events>,
    /// Number of the next event to look at.
    next: u64,
    /// Whether events before it were lost.
    is_lost: bool,
}

impl Client {
    fn id_before_next(&self) -> String {
        self.events.id(self.next.saturating_sub(1))
    }

    /// Appends events that pass to `text`, up to `CHUNK_BYTES`.
    fn take(&mut self, filter: &Filter, text: &mut String) {
        let feed = self.events.feed.lock();
        if self.next < feed.ring.first() {
            (self.next, self.is_lost) = (feed.ring.first(), true);
        }
        while text.len() < CHUNK_BYTES {
            if std::mem::take(&mut self.is_lost) {
                let json = self.events.lost(self.next);
                text.push_str(&format!("id: {}\nevent: lost\ndata: {json}\n\n", self.id_before_next()));
            }
            let Some((event, next)) = feed.ring.get(self.next) else { break };
            if filter.passes(event) {
                self.is_lost = event.has_left();
                if !self.is_lost {
                    let id = self.events.id(self.next);
                    text.push_str(&format!("id: {id}\nevent: {}\ndata: {}\n\n", event.name, event.json));
                }
            }
            self.next = next;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut feed = self.events.feed.lock();
        feed.clients -= 1;
        if feed.clients == 0 {
            let until_ms = unix_ms() + LISTEN_AFTER.as_millis() as u64;
            self.events.listens_until_ms.store(until_ms, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Principal;
    use crate::ids::FunctionName;

    fn record(app: &str) -> CallRecord {
        let function = FunctionId { app: AppName::new(app).unwrap(), function: FunctionName::new("f").unwrap() };
        CallRecord::new(&function, Principal::Operator, 1)
    }

    fn all() -> Filter {
        Filter { kinds: Vec::new(), app: None }
    }

    fn take(client: &mut Client, filter: &Filter) -> Vec<String> {
        let mut text = String::new();
        client.take(filter, &mut text);
        text.lines().filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned).collect()
    }

    #[test]
    fn nothing_is_kept_before_a_client_listens_and_each_event_comes_once() {
        let events = Events::new();
        events.call_changed(&record("a"));
        let mut client = events.enter(None);
        assert!(take(&mut client, &all()).is_empty());
        events.call_changed(&record("a"));
        events.call_changed(&record("b"));
        let only_b = Filter { kinds: vec!["call"], app: Some(AppName::new("b").unwrap()) };
        assert_eq!(take(&mut client, &only_b), ["call"]);
        assert!(take(&mut client, &all()).is_empty());
    }

    #[test]
    fn a_client_goes_on_behind_its_last_event_or_hears_of_the_gap() {
        let events = Events::new();
        let mut client = events.enter(None);
        let before = client.id_before_next();
        events.call_changed(&record("a"));
        assert_eq!(take(&mut client, &all()), ["call"]);
        drop(client);
        events.call_changed(&record("a"));
        let mut again = events.enter(Some(&before));
        assert_eq!(take(&mut again, &all()), ["call", "call"]);
        drop(again);

        // Nobody listened for too long.
        events.listens_until_ms.store(1, Ordering::Relaxed);
        events.call_changed(&record("a"));
        let mut late = events.enter(Some(&before));
        assert_eq!(take(&mut late, &all()), ["lost"]);
        let other_host = Events::new();
        other_host.call_changed(&record("a"));
        assert_eq!(take(&mut other_host.enter(Some(&before)), &all()), ["lost"]);
    }

    #[test]
    fn kept_events_are_bounded_in_bytes_and_a_slow_client_hears_of_its_loss() {
        let events = Events::new();
        let mut client = events.enter(None);
        let large = CallRecord { idempotency_key: Some("x".repeat(1 << 20)), ..record("a") };
        for _ in 0..(EVENTS_BYTES_MAX >> 20) + 3 {
            events.call_changed(&large);
        }
        assert!(events.feed.lock().ring.bytes() <= EVENTS_BYTES_MAX);
        let mut taken = Vec::new();
        loop {
            match take(&mut client, &all()) {
                some if some.is_empty() => break,
                some => taken.extend(some),
            }
        }
        assert_eq!(taken[0], "lost");
        assert!(taken.len() > 1 && taken[1..].iter().all(|kind| kind == "call"));
    }
}
