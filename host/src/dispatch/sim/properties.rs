//! The durable engine under every fault of its storage, in simulated time: real calls in real sandboxes, hosts that die
//! and go on as zombies, and clients that ask again until they have an answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::{sleep, timeout};

use super::{Guest, Host, YEAR, input};
use crate::dispatch::durable::{DurableError, Options, Retention};
use crate::ids::{CallId, MapId};
use crate::storage::memory::{Faults, Memory};
use crate::storage::{CallRecord, EntryKind, MapState, State, Storage};

/// Cases of a run; `PROPTEST_CASES` asks for more.
const CASES: u32 = 64;
/// Pause of a client before it asks again.
const PAUSE: Duration = Duration::from_secs(1);
/// Wait for one answer.
const PATIENCE: Duration = Duration::from_secs(90);
/// Simulated time in which everything has ended.
const DAY: Duration = Duration::from_secs(86_400);
/// Requests of a client without an answer that it takes.
const ASKED_MAX: usize = 2_000;

/// Client of the hosts.
#[derive(Clone, Debug)]
enum Client {
    /// Keeps a call under a key. Two clients may have the same.
    Call { key: u8, digit: u8 },
    /// Keeps a map, its inputs in pieces.
    Map { key: u8, digits: Vec<u8>, piece: usize },
    /// Cancels the call or map that the client of this number made.
    Cancel { client: usize },
    /// Starts a host in the place of the present one, which goes on as a zombie for some seconds.
    Restart { zombie_s: u64 },
}

fn clients() -> impl Strategy<Value = Vec<(u64, Client)>> {
    let client = prop_oneof![
        5 => (0_u8..6, 0_u8..10).prop_map(|(key, digit)| Client::Call { key, digit }),
        3 => (0_u8..3, proptest::collection::vec(0_u8..10, 1..20), 1_usize..8)
            .prop_map(|(key, digits, piece)| Client::Map { key, digits, piece }),
        2 => (0_usize..16).prop_map(|client| Client::Cancel { client }),
        1 => (0_u64..300).prop_map(|zombie_s| Client::Restart { zombie_s }),
    ];
    proptest::collection::vec((0_u64..400, client), 1..16)
}

fn faults() -> impl Strategy<Value = Faults> {
    let share = |max: f64| 0.0..max;
    (share(0.6), 0_u64..5_000, share(0.25), share(0.25), share(0.1), share(0.15)).prop_map(
        |(delay, delay_ms, lose_answers, lose_requests, refuse, full)| Faults {
            delay,
            delay_max: Duration::from_millis(delay_ms),
            lose_answers,
            lose_requests,
            refuse,
            full,
            fence: 0.0,
        },
    )
}

/// Call or map that a client has an answer about.
#[derive(Clone, Debug)]
enum Made {
    Call { id: CallId, digit: u8 },
    Map { id: MapId, digits: Vec<u8> },
}

/// Cluster: the present host, and its zombies, over one engine.
struct Cluster {
    guest: Arc<Guest>,
    memory: Memory,
    present: Mutex<(Arc<Host>, Storage)>,
    /// One start at a time: the later one fences the earlier.
    starting: tokio::sync::Mutex<()>,
    /// By the number of the client.
    made: Mutex<HashMap<usize, Made>>,
    /// Ends that a client was told of.
    told: Mutex<Vec<CallRecord>>,
}

impl Cluster {
    async fn start(guest: Arc<Guest>, memory: Memory) -> Arc<Self> {
        let present = Mutex::new(started(&guest, &memory).await);
        let starting = tokio::sync::Mutex::default();
        Arc::new(Self { guest, memory, present, starting, made: Mutex::default(), told: Mutex::default() })
    }

    fn host(&self) -> Arc<Host> {
        self.present.lock().0.clone()
    }

    async fn restart(&self, zombie: Duration) {
        let _starting = self.starting.lock().await;
        let next = started(&self.guest, &self.memory).await;
        let (earlier, _) = std::mem::replace(&mut *self.present.lock(), next);
        tokio::spawn(async move {
            sleep(zombie).await;
            stop(&earlier).await;
        });
    }

    /// Asks the present host until `ask` has an answer.
    async fn ask<T>(&self, name: &str, ask: impl AsyncFn(Arc<Host>) -> Option<T>) -> T {
        for _ in 0..ASKED_MAX {
            if let Ok(Some(answer)) = timeout(PATIENCE, ask(self.host())).await {
                return answer;
            }
            sleep(PAUSE).await;
        }
        panic!("{ASKED_MAX} requests had no answer: {name}\n{}", self.memory.log());
    }

    async fn run(self: Arc<Self>, number: usize, client: Client) {
        match client {
            Client::Call { key, digit } => {
                let id = self.call(key, digit).await;
                self.made.lock().insert(number, Made::Call { id, digit });
            }
            Client::Map { key, digits, piece } => {
                let id = self.map(key, &digits, piece).await;
                self.made.lock().insert(number, Made::Map { id, digits });
            }
            Client::Cancel { client } => {
                let made = self.made.lock().get(&client).cloned();
                match made {
                    Some(Made::Call { id, .. }) => {
                        let record = self.ask("cancel a call", async |host| host.durable.cancel(id).await.ok()).await;
                        self.told.lock().push(record);
                    }
                    Some(Made::Map { id, .. }) => {
                        self.ask("cancel a map", async |host| host.durable.cancel_map(id).await.ok()).await;
                    }
                    None => {}
                }
            }
            Client::Restart { zombie_s } => self.restart(Duration::from_secs(zombie_s)).await,
        }
    }

    async fn call(&self, key: u8, digit: u8) -> CallId {
        let key = format!("{key} {digit}");
        self.ask("keep a call", async |host| {
            let options = Options { key: Some(key.clone()), ..Options::default() };
            Some(host.durable.spawn(&host.function(), input(digit), options).await.ok()?.id)
        })
        .await
    }

    async fn map(&self, key: u8, digits: &[u8], piece: usize) -> MapId {
        // One map for one list of inputs: another client with both the same makes the same.
        let key = format!("{key} {digits:?}");
        let id = self
            .ask("keep a map", async |host| {
                let options = Options { key: Some(key.clone()), ..Options::default() };
                Some(host.durable.create_map(&host.function(), options).await.ok()?.header.id)
            })
            .await;
        let mut from = 0;
        while from < digits.len() {
            let inputs: Vec<_> = digits[from..].iter().take(piece).map(|digit| input(*digit)).collect();
            let accepted = self
                .ask("append", async |host| match host.durable.append(id, Some(from as u64), inputs.clone()).await {
                    Ok(accepted) => Some(Some(accepted)),
                    // The client with the same map has closed it, or somebody has cancelled it.
                    Err(DurableError::Closed { .. }) => Some(None),
                    Err(_) => None,
                })
                .await;
            let Some(accepted) = accepted else { return id };
            from = usize::try_from(accepted).unwrap();
        }
        self.ask("close a map", async |host| host.durable.close_map(id).await.ok()).await;
        id
    }

    /// Checks what clients were told against what is kept, once nothing is open.
    async fn check(&self) {
        let storage = self.present.lock().1.clone();
        let host = self.host();
        let made: Vec<Made> = self.made.lock().values().cloned().collect();
        for made in &made {
            match made {
                Made::Call { id, digit } => {
                    let call = host.durable.get(*id, DAY).await.unwrap();
                    self.check_call(&host, &call, *digit).await;
                }
                Made::Map { id, digits } => self.check_map(&host, *id, digits).await,
            }
        }
        let told = std::mem::take(&mut *self.told.lock());
        for told in &told {
            let kept = storage.journal.call(told.id).await.unwrap().unwrap();
            assert_eq!((kept.state, kept.ended_ms), (told.state, told.ended_ms), "an end is the last word");
        }
        // Nothing is open, leased or counted any more.
        let (held, maps) = (storage.journal.held(None, 100), storage.journal.held_maps(None, 100));
        assert_eq!((held.await.unwrap(), maps.await.unwrap()), (Vec::new(), Vec::new()), "{}", self.memory.log());
        assert_eq!(storage.journal.open(), Default::default());
        assert_eq!(host.durable.load(), (0, 0));
    }

    async fn check_call(&self, host: &Host, call: &CallRecord, digit: u8) {
        let output = host.durable.output(call.id).await.unwrap();
        let told = || format!("{call:?}\n{}", self.memory.log());
        match (digit, call.state) {
            (_, State::Cancelled) => assert_eq!(output, None, "{}", told()),
            // An attempt that was lost has a number too, so that a later one may do better.
            (0..=3, State::Done) => assert_eq!(output, Some(input(digit)), "{}", told()),
            (4..=8, State::Done) => assert!(call.lost > 0 && output.is_some(), "{}", told()),
            (4..=8, State::Dead) => assert_eq!((call.attempts_charged(), output), (4, None), "{}", told()),
            (9, State::Failed) => assert_eq!(output, None, "{}", told()),
            _ => panic!("no end of a call with {digit}: {}", told()),
        }
    }

    async fn check_map(&self, host: &Host, id: MapId, digits: &[u8]) {
        let map = host.durable.wait_for_map(id, DAY).await.unwrap();
        let told = || format!("{map:?}\n{}", self.memory.log());
        let (accepted, progress) = (map.header.accepted, &map.progress);
        let is_cancelled = map.state() == MapState::Cancelled;
        assert!(is_cancelled || map.state() == MapState::Done, "{}", told());
        assert!(is_cancelled || accepted == digits.len() as u64, "{}", told());
        let (mut done, mut failed, mut dead) = (0, 0, 0);
        for index in 0..accepted {
            let digit = digits[usize::try_from(index).unwrap()];
            let Some(entry) = host.durable.outcome(id, index).await.unwrap() else {
                assert!(is_cancelled, "input {index} has no outcome: {}", told());
                continue;
            };
            match (digit, &entry.kind) {
                (0..=8, EntryKind::Done(stored)) => {
                    done += 1;
                    assert_eq!(host.durable.payload(stored.clone()).await.unwrap(), input(digit));
                }
                (4..=8, EntryKind::Dead(_)) => dead += 1,
                (9, EntryKind::Failed(_)) => failed += 1,
                (digit, kind) => panic!("no outcome of {digit}: {kind:?} {}", told()),
            }
        }
        assert_eq!((progress.done, progress.failed, progress.dead), (done, failed, dead), "{}", told());
    }
}

/// Starts a host, again until its storage lets it.
async fn started(guest: &Guest, memory: &Memory) -> (Arc<Host>, Storage) {
    for _ in 0..ASKED_MAX {
        let storage = memory.host("host");
        let host = Arc::new(Host::new(guest, &storage));
        if host.durable.start(Retention::default()).await.is_ok() {
            return (host, storage);
        }
        stop(&host).await;
        sleep(PAUSE).await;
    }
    panic!("no host could start:\n{}", memory.log());
}

async fn stop(host: &Host) {
    host.dispatcher.close();
    host.durable.cut_off();
    host.durable.shut_down().await;
}

async fn simulate(guest: Arc<Guest>, faults: Faults, seed: u64, clients: Vec<(u64, Client)>) {
    let memory = Memory::with_faults(Faults::default(), seed);
    let cluster = Cluster::start(guest, memory.clone()).await;
    memory.set_faults(faults);
    let mut tasks = tokio::task::JoinSet::new();
    for (number, (begin_s, client)) in clients.into_iter().enumerate() {
        let cluster = cluster.clone();
        tasks.spawn_local(async move {
            sleep(Duration::from_secs(begin_s)).await;
            cluster.run(number, client).await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    memory.set_faults(Faults::default());
    cluster.check().await;
    stop(&cluster.host()).await;
}

/// Whatever the storage does and whenever hosts die: each accepted call and input has one end, which is that of its
/// input; an end that a client was told of is the last word; two requests with one key are one; and nothing stays open.
#[test]
fn accepted_work_ends_once_over_an_engine_that_fails_in_every_way() {
    let guest = Arc::new(Guest::new());
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let run = TestRunner::new(config).run(&(faults(), any::<u64>(), clients()), |(faults, seed, clients)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, simulate(guest.clone(), faults, seed, clients));
        Ok(())
    });
    run.unwrap();
}

/// A host that was replaced while an attempt ran finds its lease gone: what it would write is refused, and the attempt
/// of the next host is the one that counts.
#[tokio::test(start_paused = true)]
async fn a_zombie_writes_nothing() {
    let memory = Memory::new();
    let cluster = Cluster::start(Arc::new(Guest::new()), memory.clone()).await;
    let id = cluster.call(0, 3).await;
    let zombie = cluster.host();
    // It waits for its second attempt.
    sleep(Duration::from_secs(5)).await;
    cluster.restart(Duration::from_secs(3_600)).await;
    let ended = cluster.host().durable.get(id, YEAR).await.unwrap();
    assert_eq!((ended.state, ended.attempts, ended.lost), (State::Done, 4, 0), "{}", memory.log());
    let refused = zombie.durable.spawn(&zombie.function(), input(0), Options::default()).await;
    assert!(refused.is_err(), "it takes no new work");
    stop(&zombie).await;
    assert_eq!(cluster.host().durable.get(id, Duration::ZERO).await.unwrap(), ended);
    stop(&cluster.host()).await;
}
