//! Cancels at random moments, of calls wherever they can be, and how long each takes to be answered.

use std::error::Error;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bireme_benches::figures::{self, Samples};

use super::api::Api;
use super::dice::Dice;
use super::found::under_way;
use super::function::{Function, Outcome};
use super::host::Launch;
use super::recorder::Recorder;
use super::{APP, Options};

/// Clients at a time.
const CLIENTS: u64 = 4;
/// Longest time before a call is cancelled.
const HEAD_START_US: u64 = 8_000;
/// Time for the host to be at rest: more than a cancelled call's next attempt is away.
const END_PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// Calls that must go through afterwards, as many as run at a time.
const AFTERWARDS: u64 = 64;

/// Places of a call when it is cancelled, each with the function that brings it there.
const PLACES: [(&str, &str); 6] = [
    ("queued behind another", "waits_alone"),
    ("computing", "spins"),
    ("in a request to a slow server", "waits"),
    ("asleep", "sleeps"),
    ("between two attempts", "backs_off"),
    ("anywhere in a short call", "double"),
];

/// Cancels calls, and returns what does not hold.
pub(crate) fn run(options: &Options, launch: Launch, recorder: &Recorder) -> Result<Vec<String>, Box<dyn Error>> {
    let host = launch.start(None)?.map_err(|status| format!("no host: {status}"))?;
    let api = || Api::new(launch.address.clone());
    let violations = Mutex::new(Vec::new());
    let mut latencies: Vec<Samples> = PLACES.iter().map(|_| Samples::default()).collect();
    let begin = Instant::now();
    // It holds the one place of its function all the while.
    let first = spawn(&api(), "waits_alone", &recorder.url)?;
    let share = options.cancels.div_ceil(CLIENTS);
    std::thread::scope(|scope| {
        let violations = &violations;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (api, url) = (api(), &recorder.url);
                let mut dice = Dice::new(options.seed ^ client.wrapping_mul(0x9e37));
                scope.spawn(move || {
                    let mut latencies: Vec<Samples> = PLACES.iter().map(|_| Samples::default()).collect();
                    for _ in 0..share {
                        let place = dice.below(PLACES.len() as u64) as usize;
                        match cancel(&api, place, url, &mut dice) {
                            Ok(took) => latencies[place].push(took.as_secs_f64() * 1e3),
                            Err(why) => violations.lock().unwrap_or_else(PoisonError::into_inner).push(why),
                        }
                    }
                    latencies
                })
            })
            .collect();
        for client in clients {
            for (all, part) in latencies.iter_mut().zip(client.join().expect("no client panics")) {
                all.append(part);
            }
        }
    });
    let api = api();
    let took = begin.elapsed();
    api.insist("DELETE", &format!("/calls/{first}"), None, "");
    let mut violations = violations.into_inner().unwrap_or_else(PoisonError::into_inner);
    violations.extend(rest(&api));
    violations.extend(afterwards(&api, &recorder.url)?);
    drop(host);

    let cancels: usize = latencies.iter().map(Samples::len).sum();
    figures::print(&format!("\n{cancels} cancels in {:.0} s, {CLIENTS} at a time", took.as_secs_f64()));
    figures::print("cancelled while                          calls    p50 ms    p99 ms    max ms");
    for ((place, _), samples) in PLACES.iter().zip(&latencies) {
        figures::print(&format!(
            "{place:<38} {:>7} {:>9.2} {:>9.2} {:>9.2}",
            samples.len(),
            samples.median(),
            samples.percentile(0.99),
            samples.percentile(1.0)
        ));
    }
    let mut all = Samples::default();
    latencies.into_iter().for_each(|samples| all.append(samples));
    figures::print_figure("cancel_p99_ms", all.percentile(0.99));
    Ok(violations)
}

/// Spawns a call, gives it a moment, cancels it; returns how long the answer took.
fn cancel(api: &Api, place: usize, url: &str, dice: &mut Dice) -> Result<Duration, String> {
    let (place, function) = PLACES[place];
    let id = spawn(api, function, url)?;
    std::thread::sleep(Duration::from_micros(dice.below(HEAD_START_US)));
    let begin = Instant::now();
    let reply = api.insist("DELETE", &format!("/calls/{id}"), None, "");
    let took = begin.elapsed();
    let outcome = Outcome::read(&reply.json());
    let may_be = outcome.state == "cancelled" || (function == "double" && outcome.state == "done");
    if reply.status != 200 || !may_be {
        return Err(format!("cancel of {id}, {place}: expected it cancelled, found {} {}", reply.status, reply.body));
    }
    // Whoever asks later hears the same.
    let later = Outcome::read(&api.insist("GET", &format!("/calls/{id}"), None, "").json());
    if later.state != outcome.state {
        return Err(format!("cancel of {id}, {place}: was answered {outcome}, and is {later}"));
    }
    Ok(took)
}

fn spawn(api: &Api, function: &str, url: &str) -> Result<String, String> {
    let input = Function::input(7, url).to_string();
    let reply = api.insist("POST", &format!("/apps/{APP}/functions/{function}/calls"), None, &input);
    let id = reply.json()["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| format!("no call of {function}: {} {}", reply.status, reply.body))
}

/// Waits until nothing is under way.
fn rest(api: &Api) -> Option<String> {
    let begin = Instant::now();
    loop {
        let list = api.insist("GET", "/calls?limit=1", None, "").json();
        let (live, waiting, maps) = under_way(&list);
        if (live, waiting, maps) == (0, 0, 0) {
            return None;
        }
        if begin.elapsed() > END_PATIENCE {
            return Some(format!("expected nothing under way, found {live} live, {waiting} waiting, {maps} maps"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Runs calls of each function that was cancelled, which need every place that it had.
fn afterwards(api: &Api, url: &str) -> Result<Vec<String>, String> {
    let calls: Result<Vec<String>, String> = (0..AFTERWARDS).map(|_| spawn(api, "naps", url)).collect();
    let mut violations = Vec::new();
    for id in calls? {
        let outcome = Outcome::read(&api.insist("GET", &format!("/calls/{id}?wait=30"), None, "").json());
        if outcome != Function::Naps.expected(7) {
            violations.push(format!("call {id} after the cancels: expected it done, found {outcome}"));
        }
    }
    Ok(violations)
}
