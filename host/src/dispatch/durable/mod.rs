//! Calls and maps that survive: accepted once they are on disk, run until they have ended, whatever happens to the host.
//!
//! `lines` and `window` decide what runs next; `calls` and `map` drive them. Each attempt is the dispatcher's, like that of any
//! other call; between attempts nothing is held but an entry in a queue.
//!
//! Invariants: no attempt begins before its lease is on disk; nobody sees an outcome before it is on disk; of several ends of one
//! call the first that is written holds.

mod calls;
mod descendants;
mod guests;
mod lines;
mod map;
mod results;
mod retention;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::calls::Active;
use self::lines::Lines;
use self::map::LiveMap;
pub use self::results::{Results, ResultsOrder};
pub use self::retention::Retention;
use super::call::check;
use super::dispatcher::Dispatcher;
use super::runner::Runner;
use crate::call::{Failure, FailureCode, Payload, Principal, Priority};
use crate::clock::unix_ms;
use crate::ids::{AppName, CallId, FunctionId, MapId};
use crate::journal::{
    CallRecord, Idempotency, Journal, JournalError, Keyed, Kind, Listed, MapHeader, MapProgress, MapRecord, MapState,
    Query, State,
};
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, OPEN_CALLS_PER_APP_MAX, OPEN_MAPS_PER_APP_MAX};
use crate::sandbox::FunctionRef;
use crate::store::StoreError;

/// How long to wait before a write that found the disk full is tried again.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// Open calls that are read at a time when a host starts.
const RECOVERY_LEN: usize = 4_096;

/// Something durable that cannot be done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The function or its input is not as it should be.
    #[error(transparent)]
    Refused(#[from] Failure),
    #[error("no call `{id}`; it never was, or it ended longer ago than calls are kept")]
    UnknownCall { id: CallId },
    #[error("no map `{id}`; it never was, or it ended longer ago than maps are kept")]
    UnknownMap { id: MapId },
    #[error("the idempotency key `{key}` was used for another request; use a new key for what is new")]
    KeyReused { key: String },
    #[error("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {bytes}")]
    KeyLength { bytes: usize },
    #[error("`{app}` has {open} {what} that have not ended, as many as may; try again when some have")]
    TooMany { app: AppName, open: usize, what: &'static str },
    #[error("map `{id}` has {accepted} inputs, so the next is input {accepted}, not {from}")]
    Gap { id: MapId, accepted: u64, from: u64 },
    #[error("input {index} of map `{id}` is another one; are these the inputs of another map?")]
    Differs { id: MapId, index: u64 },
    #[error("map `{id}` takes no more inputs: it {why}")]
    Closed { id: MapId, why: &'static str },
    #[error("map `{id}` has not ended; its failures can be run again once it has")]
    NotEnded { id: MapId },
    #[error("map `{id}` has {accepted} inputs; there is no input {index}")]
    NoInput { id: MapId, index: u64, accepted: u64 },
}

/// What is asked for besides the function and its input.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub priority: Priority,
    /// A second request with the same key is answered with what the first one made.
    pub key: Option<String>,
    pub principal: Principal,
    /// The call that asks, and its depth.
    pub parent: Option<(CallId, u32)>,
}

/// Whoever holds it answers the requests with one idempotency key.
type KeyTurn = Arc<tokio::sync::Mutex<()>>;

/// The durable calls and maps of one host.
pub struct Durable {
    runner: Arc<Runner>,
    journal: Arc<dyn Journal>,
    lines: Mutex<Lines>,
    /// Calls that somebody is about to change: the one task that runs it, or cancels it.
    active: DashMap<CallId, Arc<Active>>,
    /// Whoever waits for a call to end.
    waiting: DashMap<CallId, Arc<Notify>>,
    maps: DashMap<MapId, Arc<LiveMap>>,
    /// What has not ended, by app.
    open: DashMap<AppName, Open>,
    /// Held while a request with that key is answered.
    keys: Mutex<HashMap<(FunctionId, String), KeyTurn>>,
    /// Held by what guests are about to spawn, and taken whole by who looks for what they have spawned.
    spawning: Arc<tokio::sync::RwLock<()>>,
    tasks: Mutex<JoinSet<()>>,
    /// Notified when a call may begin, or begins later.
    work: Notify,
    /// Nothing new begins: before `start`, and once the host ends.
    stopped: watch::Sender<bool>,
    /// Attempts under way end without an outcome: the next host makes them again.
    cut: watch::Sender<bool>,
    /// Panics of the host's over each call that has not ended.
    panics: DashMap<CallId, u32>,
    /// Held while a map that has ended is begun anew.
    retrying: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Open {
    calls: usize,
    maps: usize,
}

impl Durable {
    /// Plugs itself into the dispatcher. Nothing runs before `start`.
    pub fn new(dispatcher: Arc<Dispatcher>, journal: Arc<dyn Journal>) -> Arc<Self> {
        let durable = Arc::new(Self {
            runner: dispatcher.runner().clone(),
            journal,
            lines: Mutex::default(),
            active: DashMap::new(),
            waiting: DashMap::new(),
            maps: DashMap::new(),
            open: DashMap::new(),
            keys: Mutex::default(),
            spawning: Arc::default(),
            tasks: Mutex::default(),
            work: Notify::new(),
            stopped: watch::Sender::new(true),
            cut: watch::Sender::new(false),
            panics: DashMap::new(),
            retrying: tokio::sync::Mutex::default(),
        });
        dispatcher.plug_durable(Arc::downgrade(&durable));
        durable
    }

    /// Takes up what had not ended when the last host of this journal did, and begins; deletes what has ended as `retention` says.
    /// Returns how many calls and maps it has taken up.
    pub async fn start(self: &Arc<Self>, retention: Retention) -> Result<(usize, usize), JournalError> {
        let (mut calls, mut maps) = (0, 0);
        let mut after = None;
        loop {
            let open = self.journal.open_calls(after, RECOVERY_LEN).await?;
            let Some(last) = open.last() else { break };
            after = Some(last.id);
            calls += open.len();
            let mut lines = self.lines();
            for call in open {
                self.open.entry(call.function.app.clone()).or_default().calls += 1;
                match call.next_ms {
                    Some(at_ms) => lines.push_later(call.function, call.priority, call.id, at_ms),
                    None => lines.push(&call.function, call.priority, call.id),
                }
            }
        }
        self.stopped.send_replace(false);
        let mut after = None;
        loop {
            let open = self.journal.open_maps(after, RECOVERY_LEN).await?;
            let Some(last) = open.last() else { break };
            after = Some(last.header.id);
            maps += open.len();
            for mut record in open {
                self.close_abandoned(&mut record.header).await?;
                self.open.entry(record.header.app.clone()).or_default().maps += 1;
                self.take_up(record);
            }
        }
        let this = self.clone();
        self.task(async move { this.pump().await });
        let this = self.clone();
        self.task(async move { this.sweep(retention).await });
        Ok((calls, maps))
    }

    /// Ends the attempts under way. Their leases stay on disk, so the next host makes them again.
    pub fn cut_off(&self) {
        self.cut.send_replace(true);
    }

    /// Waits until nothing new is accepted.
    async fn is_ending(&self) {
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Waits until attempts are cut off.
    async fn is_cut_off(&self) {
        let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
    }

    /// Waits until nothing is under way that could still be written. Called once the dispatcher takes no more.
    pub async fn shut_down(&self) {
        self.stopped.send_replace(true);
        self.work.notify_one();
        for map in &self.maps {
            map.stop();
        }
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    /// Returns calls and maps, newest first, and where to go on.
    pub async fn list(&self, query: Query) -> Result<(Vec<Listed>, Option<[u8; 16]>), DurableError> {
        Ok(self.journal.list(query).await?)
    }

    /// Returns how many calls wait to begin, and how many maps have not ended.
    pub fn load(&self) -> (usize, usize) {
        (self.lines().waiting(), self.maps.len())
    }

    /// Closes a map of a call that ended with the last host: nobody gives it more inputs.
    async fn close_abandoned(&self, header: &mut MapHeader) -> Result<(), JournalError> {
        if header.parent.is_none() || header.is_closed || header.is_cancelled {
            return Ok(());
        }
        header.is_closed = true;
        self.journal.save_map(header).await
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are dropped along the way.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Writes until it is written: a full disk gets room, and a process its file handles back. Returns nothing if the store has
    /// stopped for good, or the host ends first.
    async fn written<'a, T>(&self, write: impl Fn() -> crate::journal::Answer<'a, T>) -> Option<T> {
        let mut is_told = false;
        loop {
            match write().await {
                Ok(value) => return Some(value),
                Err(JournalError::Store(error @ StoreError::Poisoned { .. })) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the journal cannot be written");
                    return None;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "what is to be written waits in memory"
                        );
                    }
                    if self.is_stopped() {
                        return None;
                    }
                    tokio::time::sleep(FULL_WAIT).await;
                }
            }
        }
    }

    /// Runs `make` unless the key was used before; then `find` has what was made.
    async fn keyed<T>(
        &self,
        function: &FunctionId,
        key: Option<&str>,
        fingerprint: [u8; 32],
        find: impl AsyncFnOnce(Keyed) -> Result<T, DurableError>,
        make: impl AsyncFnOnce(Option<Idempotency>) -> Result<T, DurableError>,
    ) -> Result<T, DurableError> {
        let Some(key) = key else { return make(None).await };
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(DurableError::KeyLength { bytes: key.len() });
        }
        let name = (function.clone(), key.to_owned());
        let turn = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.entry(name.clone()).or_default().clone()
        };
        let answer = {
            let _turn = turn.lock().await;
            match self.journal.keyed(function, key).await {
                Err(error) => Err(error.into()),
                Ok(Some(keyed)) if keyed.fingerprint != fingerprint => {
                    Err(DurableError::KeyReused { key: key.to_owned() })
                }
                Ok(Some(keyed)) => find(keyed).await,
                Ok(None) => make(Some(Idempotency { key: key.to_owned(), fingerprint })).await,
            }
        };
        drop(turn);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.get(&name).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            keys.remove(&name);
        }
        answer
    }

    /// Counts one more that has not ended, or refuses it.
    fn open(&self, app: &AppName, kind: Kind) -> Result<Opened<'_>, DurableError> {
        let mut open = self.open.entry(app.clone()).or_default();
        let (count, max, what) = match kind {
            Kind::Call => (&mut open.calls, OPEN_CALLS_PER_APP_MAX, "durable calls"),
            Kind::Map => (&mut open.maps, OPEN_MAPS_PER_APP_MAX, "durable maps"),
        };
        if *count >= max {
            return Err(DurableError::TooMany { app: app.clone(), open: *count, what });
        }
        *count += 1;
        Ok(Opened { durable: self, app: app.clone(), kind, is_kept: false })
    }

    fn closed(&self, app: &AppName, kind: Kind) {
        if let Some(mut open) = self.open.get_mut(app) {
            let count = if kind == Kind::Call { &mut open.calls } else { &mut open.maps };
            *count = count.saturating_sub(1);
        }
    }
}

/// A count that is taken back unless what was counted came to be.
struct Opened<'a> {
    durable: &'a Durable,
    app: AppName,
    kind: Kind,
    is_kept: bool,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.durable.closed(&self.app, self.kind);
        }
    }
}

/// Returns what tells one request from another.
fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Returns the depth that a child of `parent` has, or refuses it.
fn depth_below(parent: Option<(CallId, u32)>) -> Result<u32, Failure> {
    match parent {
        None => Ok(0),
        Some((_, depth)) if depth < crate::limits::DEPTH_MAX => Ok(depth + 1),
        Some((_, depth)) => {
            let message = format!("calls nest at most {} deep, and this one would be deeper", depth + 1);
            Err(Failure::new(FailureCode::DepthExceeded, message))
        }
    }
}
