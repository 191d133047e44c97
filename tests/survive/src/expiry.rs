//! Retention over kills: ended calls and maps are deleted, nothing else appears, and in the end nothing is left.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use super::api::Api;
use super::found::{self, Found};
use super::kills::{AT_RANDOM, Killer};

pub(crate) const EXPIRY: [&str; 2] = ["journal.expire.before", "journal.expire.after"];
/// Steps of the deletion before the one that kills, at most.
const STEPS_MAX: u64 = 2;
/// Time for a host to come to its first steps, and to delete all.
const PATIENCE: Duration = Duration::from_secs(60);
/// A short run has fewer steps than a fail point waits for.
const STEP_PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// Deletes everything, and returns what does not hold.
pub(crate) fn run(killer: &mut Killer<'_>, api: &Api, found: &Found) -> Result<Vec<String>, Box<dyn Error>> {
    let mut violations = Vec::new();
    for nth in 1..=STEPS_MAX {
        for point in EXPIRY {
            killer.launch.more = &["--keep", "0s"];
            let begin = Instant::now();
            let has_died = match killer.start(Some(&format!("{point}@{nth}")))? {
                Some(mut host) => host.dies(|| begin.elapsed() < STEP_PATIENCE)?,
                None => true,
            };
            killer.killed(if has_died { point } else { AT_RANDOM })?;
            // One that keeps everything again, to look at what is left.
            killer.launch.more = &[];
            let host = killer.start(None)?.ok_or_else(|| io::Error::other("a host was killed, and by nobody here"))?;
            let left = found::read(api, &[], &[], Default::default());
            for (id, row) in &left.listed {
                if found.listed.get(id) != Some(row) {
                    violations
                        .push(format!("I5: {id} was {:?} before some was deleted, and is {row}", found.listed.get(id)));
                }
            }
            drop(host);
            killer.killed(AT_RANDOM)?;
        }
    }
    killer.launch.more = &["--keep", "0s"];
    let _host = killer.start(None)?.ok_or_else(|| io::Error::other("a host was killed, and by nobody here"))?;
    let begin = Instant::now();
    loop {
        let left: BTreeMap<_, _> = found::read(api, &[], &[], Default::default()).listed;
        if left.is_empty() {
            return Ok(violations);
        }
        if begin.elapsed() > PATIENCE {
            violations.push(format!("I5: expected everything deleted, found {} calls and maps", left.len()));
            return Ok(violations);
        }
        std::thread::sleep(PAUSE);
    }
}
