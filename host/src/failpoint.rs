//! Places at which a test can have the process killed, or a task panic, to see what that leaves behind.
//!
//! With `BIREME_FAIL_POINT=NAME@N` the process sends itself SIGKILL when it passes the point `NAME` for the `N`th time,
//! counted from 1; with `BIREME_PANIC_POINT=NAME@N` the task that passes it panics. Builds without `debug_assertions`
//! have none of it.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Every point, so that a test can walk them all.
pub const FAIL_POINTS: &[&str] = &[
    // Around each system call that changes the database's file.
    "store.write.before",
    "store.write.after",
    "store.set-len.before",
    "store.set-len.after",
    "store.sync.before",
    "store.sync.after",
    // Around a transaction; after it and before anybody is told of it.
    "store.commit.before",
    "store.commit.after",
    // A file of an older format becomes one of the present format.
    "store.migrate.before",
    "store.migrate.tables",
    "store.migrate.number",
    "store.migrate.after",
    // A new database is put in its place.
    "store.publish.before",
    "store.publish.after",
    // A file of its own for a large value: written beside, synced, renamed, its directory synced.
    "files.write.before",
    "files.write.after",
    "files.sync.after",
    "files.rename.after",
    "files.sync-dir.after",
    "files.remove.before",
    "files.remove.after",
    // Around each kind of step that a durable call or map takes.
    "journal.accept.before",
    "journal.accept.after",
    "journal.advance.before",
    "journal.advance.after",
    "journal.append.before",
    "journal.append.after",
    "journal.close.before",
    "journal.close.after",
    "journal.lease.before",
    "journal.lease.after",
    "journal.settle.before",
    "journal.settle.after",
    "journal.expiring.before",
    "journal.expiring.after",
    "journal.expire.before",
    "journal.expire.after",
];

/// Every point at which a task can panic: one at each stage of a call.
pub const PANIC_POINTS: &[&str] = &[
    // A request that was read, on its way to a function or the control API.
    "http.route",
    // A call that waits for nothing yet.
    "call.begin",
    // An attempt that has a slot; whose guest has ended.
    "attempt.begin",
    "attempt.end",
    // A durable call that is leased; whose attempt has ended and is not written.
    "durable.leased",
    "durable.ended",
    // An input of a durable map that a runner has; outcomes that are about to be written.
    "map.leased",
    "map.settle",
];

/// What the environment asks for.
#[cfg(debug_assertions)]
struct Armed {
    name: &'static str,
    /// Passes until the process ends, that one included.
    left: AtomicU64,
}

#[cfg(debug_assertions)]
impl Armed {
    /// Reads `NAME@N`, a name among `points`. A test that misspells one would prove nothing, so that is a panic.
    fn parse(text: &str, points: &'static [&'static str]) -> Self {
        let (name, nth) = text.rsplit_once('@').expect("a fail point is NAME@N");
        let name = points.iter().find(|point| **point == name).expect("the environment names a fail point");
        let nth: u64 = nth.parse().expect("a fail point ends in a number");
        assert!(nth > 0, "a fail point counts from 1");
        Self { name, left: AtomicU64::new(nth) }
    }

    /// Reads a variable of the environment.
    fn read(variable: &str, points: &'static [&'static str]) -> Option<Self> {
        std::env::var(variable).ok().map(|text| Self::parse(&text, points))
    }

    /// Counts a pass of its point; true for the one to die at.
    fn is_due(&self) -> bool {
        // Behind the last one it wraps, and would take 2^64 passes to come round.
        self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Passes the point `name`, which must be one of [`FAIL_POINTS`].
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    assert!(FAIL_POINTS.contains(&name), "`{name}` is not in FAIL_POINTS");
    let armed = ARMED.get_or_init(|| Armed::read("BIREME_FAIL_POINT", FAIL_POINTS));
    if let Some(armed) = armed
        && armed.name == name
        && armed.is_due()
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal may reach another thread first; this one must do nothing more.
        loop {
            std::thread::park();
        }
    }
}

/// Passes the point `name`, of which this build knows nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// Passes the point `name`, which must be one of [`PANIC_POINTS`].
#[cfg(debug_assertions)]
pub fn panic_at(name: &'static str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    assert!(PANIC_POINTS.contains(&name), "`{name}` is not in PANIC_POINTS");
    let armed = ARMED.get_or_init(|| Armed::read("BIREME_PANIC_POINT", PANIC_POINTS));
    if let Some(armed) = armed
        && armed.name == name
        && armed.is_due()
    {
        panic!("panic point `{name}`");
    }
}

/// Passes the point `name`, of which this build knows nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn panic_at(_name: &'static str) {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[cfg(debug_assertions)]
    #[test]
    fn the_nth_pass_is_the_one() {
        let armed = Armed::parse("store.sync.before@3", FAIL_POINTS);
        assert_eq!(armed.name, "store.sync.before");
        assert_eq!([(); 5].map(|()| armed.is_due()), [false, false, true, false, false]);
    }

    #[test]
    fn names_stand_once_and_start_with_their_module() {
        let points = || FAIL_POINTS.iter().chain(PANIC_POINTS).copied();
        let names: HashSet<&str> = points().collect();
        assert_eq!(names.len(), points().count());
        assert!(names.iter().all(|name| name.contains('.') && !name.contains('@')), "{names:?}");
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "is not in FAIL_POINTS")]
    fn a_point_that_is_not_listed_is_a_mistake() {
        hit("store.no-such-point");
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "names a fail point")]
    fn a_misspelt_name_does_not_pass_silently() {
        Armed::parse("store.sink.before@1", FAIL_POINTS);
    }
}
