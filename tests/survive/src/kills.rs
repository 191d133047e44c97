//! The killer: one kill for each round of the client, by turns at a random time and at a fail point.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bireme::failpoint::FAIL_POINTS;
use bireme::ids::{CallId, MapId};

use super::api::Api;
use super::checker::{self, Expected};
use super::client::Client;
use super::dice::Dice;
use super::expiry::{self, EXPIRY};
use super::found::{self, under_way};
use super::gate::Gate;
use super::host::{Host, Launch, is_killed, unexpected};
use super::log::{Line, Log};
use super::recorder::Recorder;
use super::{Options, report};

/// Time that a host with a fail point goes on after the client's round, in which it may still come to it.
const LINGER: Duration = Duration::from_millis(500);
/// The time in which a kill falls before a round has been measured.
const ROUND: Duration = Duration::from_millis(800);
/// Time without progress that accepted work may take to end once nobody kills any more.
const END_PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// One round of so many ends with SIGTERM instead.
const STOP_EVERY: u64 = 8;

pub(crate) const AT_RANDOM: &str = "random";
const STOPPED: &str = "SIGTERM";

pub(crate) struct Killer<'a> {
    pub launch: Launch,
    log: &'a Log,
    gate: &'a Gate,
    dice: Dice,
    recoveries: Vec<Duration>,
    /// The points that a running host passes, and which of them is the next.
    points: Vec<&'static str>,
    next: usize,
}

/// Kills, waits for the end, and returns what does not hold.
pub(crate) fn run(
    options: &Options,
    dir: &Path,
    launch: &impl Fn(&str) -> Launch,
    recorder: &Recorder,
) -> Result<Vec<String>, Box<dyn Error>> {
    let begin = Instant::now();
    let log = Arc::new(Log::create(&dir.join("client.log"))?);
    let gate = Arc::new(Gate::default());
    let points = FAIL_POINTS.iter().copied().filter(|point| !EXPIRY.contains(point));
    let (creating, running): (Vec<_>, Vec<_>) = points.partition(|point| is_creating(point));
    let mut killer = Killer {
        launch: launch("data"),
        log: &log,
        gate: &gate,
        dice: Dice::new(options.seed),
        recoveries: Vec::new(),
        next: options.seed as usize % running.len(),
        points: running,
    };
    // Those of a new data directory, each with one of its own.
    for point in creating.iter().take(options.kills as usize / 4) {
        killer.launch = launch(&format!("data-{point}"));
        killer.create(point)?;
    }
    let api = Api::new(killer.launch.address.clone());
    let client = Api::new(killer.launch.address.clone());
    let client = Client::new(client, log.clone(), gate.clone(), recorder.url.clone(), options.seed);
    let (rounds, inputs) = (options.kills - gate.kills(), options.inputs);
    let client = std::thread::spawn({
        let gate = gate.clone();
        move || {
            let _end = OnDrop(gate);
            client.work(rounds, inputs)
        }
    });
    for round in 0..rounds {
        killer.round(round)?;
    }
    let last = killer.start(None)?.ok_or("the last host was killed, and by nobody here")?;
    client.join().map_err(|_| "the client panicked")??;
    let is_at_rest = wait_for_rest(&api);
    let lines = log.read()?;
    let mut ids: (Vec<CallId>, Vec<MapId>) = Default::default();
    for line in &lines {
        match line {
            Line::Call { id, .. } => ids.0.push(*id),
            Line::Map { id, .. } => ids.1.push(*id),
            _ => {}
        }
    }
    let found = found::read(&api, &ids.0, &ids.1, recorder.executions());
    drop(last);
    let mut violations: Vec<String> = checker::check(&lines, &found).iter().map(ToString::to_string).collect();
    if !is_at_rest {
        violations.push(format!("I1: nothing more ended for {END_PATIENCE:?}"));
    }
    violations.extend(expiry::run(&mut killer, &api, &found)?);
    let expected = Expected::read(&log.read()?, &mut Default::default());
    report::print(&expected, &found, &killer.recoveries, begin.elapsed());
    Ok(violations)
}

/// Passes of a fail point before the one that kills, at most: about as many as a round has of its kind.
fn passes_max(point: &str) -> u64 {
    match point.split('.').next() {
        _ if point.starts_with("store.set-len") => 2,
        Some("store") => 60,
        Some("files") => 4,
        _ => 10,
    }
}

/// Returns true if a point is passed only while a data directory is made.
fn is_creating(point: &str) -> bool {
    point.starts_with("store.migrate.") || point.starts_with("store.publish.")
}

/// Waits until nothing is under way; false if that does not come nearer.
fn wait_for_rest(api: &Api) -> bool {
    let mut last = (0, 0, 0);
    let mut since = Instant::now();
    loop {
        let list = api.insist("GET", "/calls?limit=1", None, "").json();
        let now = under_way(&list);
        if now == (0, 0, 0) {
            return true;
        }
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > END_PATIENCE {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

impl Killer<'_> {
    /// Has a host die while it makes its data directory, at a point that is passed once; the next one must do with
    /// what is there.
    fn create(&mut self, point: &str) -> io::Result<()> {
        if let Some(host) = self.start(Some(&format!("{point}@1")))? {
            // It was not passed.
            drop(host);
            return self.killed(AT_RANDOM);
        }
        self.killed(point)?;
        drop(self.start(None)?);
        self.killed(AT_RANDOM)
    }

    /// Lets the client work and kills the host under it.
    fn round(&mut self, round: u64) -> io::Result<()> {
        let point = (round % 2 == 1).then(|| {
            self.next = (self.next + 1) % self.points.len();
            let point = self.points[self.next];
            (point, 1 + self.dice.below(passes_max(point)))
        });
        let armed = point.map(|(point, nth)| format!("{point}@{nth}"));
        self.gate.open(round);
        let Some(mut host) = self.start(armed.as_deref())? else {
            // It came no further than to take up what was there.
            return self.killed(point.map_or(AT_RANDOM, |(point, _)| point));
        };
        match point {
            Some((point, _)) => {
                let mut ended = None;
                let goes_on = || {
                    if self.gate.is_in(round) {
                        return true;
                    }
                    ended.get_or_insert_with(Instant::now).elapsed() < LINGER
                };
                let has_died = host.dies(goes_on)?;
                drop(host);
                self.killed(if has_died { point } else { AT_RANDOM })
            }
            None => {
                // The client may still be in the round before.
                self.gate.wait_for(round);
                let most = self.gate.round_took().max(ROUND / 4).min(ROUND * 4);
                let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
                std::thread::sleep(Duration::from_micros(self.dice.below(most)));
                if round.is_multiple_of(STOP_EVERY) {
                    host.stop()?;
                    drop(host);
                    return self.killed(STOPPED);
                }
                drop(host);
                self.killed(AT_RANDOM)
            }
        }
    }

    /// Starts a host; none if its fail point killed it before it was ready.
    pub(crate) fn start(&mut self, fail_point: Option<&str>) -> io::Result<Option<Host>> {
        match self.launch.start(fail_point)? {
            Ok(host) => {
                self.recoveries.push(host.recovery);
                Ok(Some(host))
            }
            Err(status) if fail_point.is_some() && is_killed(status) => Ok(None),
            Err(status) => Err(unexpected(status)),
        }
    }

    pub(crate) fn killed(&mut self, by: &str) -> io::Result<()> {
        self.gate.kill();
        self.log.write(&[Line::Killed { by: by.to_owned() }])
    }
}

/// Says that the client has ended, even if it panics.
struct OnDrop(Arc<Gate>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}
