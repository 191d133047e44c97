//! Fail points: named places where a test kills the process, or makes a task panic, to examine the aftermath.
//!
//! With `BIREME_FAIL_POINT=NAME@N` the process sends itself SIGKILL at its `N`th pass of the point `NAME`, counted from
//! 1; with `BIREME_PANIC_POINT=NAME@N` the passing task panics. Builds without `debug_assertions` contain none of it.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Every fail point, so that a test can try them all.
pub const FAIL_POINTS: &[&str] = &[
    // Around each system call that changes the database file.
    "store.write.before",
    "store.write.after",
    "store.set-len.before",
    "store.set-len.after",
    "store.sync.before",
    "store.sync.after",
    // Around a transaction; `after` is before its waiters are told.
    "store.commit.before",
    "store.commit.after",
    // During the migration of an older file format.
    "store.migrate.before",
    "store.migrate.tables",
    "store.migrate.number",
    "store.migrate.after",
    // During the count of what each app keeps, at the first start over an older directory.
    "store.count.before",
    "store.count.rows",
    "store.count.after",
    // Around the rename of a new database into place.
    "store.publish.before",
    "store.publish.after",
    // During the write of a large value's own file: temporary file, sync, rename, sync of the directory.
    "files.write.before",
    "files.write.after",
    "files.sync.after",
    "files.rename.after",
    "files.sync-dir.after",
    "files.remove.before",
    "files.remove.after",
    // Around each kind of step of a durable call or map.
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
    "journal.quarantine.before",
    "journal.quarantine.after",
    "journal.expiring.before",
    "journal.expiring.after",
    "journal.expire.before",
    "journal.expire.after",
];

/// Every panic point: one at each stage of a call.
pub const PANIC_POINTS: &[&str] = &[
    // A request that was read, on its way to a function or the control API.
    "http.route",
    // A call before admission.
    "call.begin",
    // An attempt with a slot; after its guest has ended.
    "attempt.begin",
    "attempt.end",
    // A leased durable call; one whose attempt has ended, before that is written.
    "durable.leased",
    "durable.ended",
    // A leased input of a durable map; outcomes about to be written.
    "map.leased",
    "map.settle",
];

/// A point that the environment names, and the number of its passes that are still harmless.
#[cfg(debug_assertions)]
struct ArmedPoint {
    name: &'static str,
    /// Passes until the fatal one, that one included.
    left: AtomicU64,
}

#[cfg(debug_assertions)]
impl ArmedPoint {
    /// Parses `NAME@N`, with a name among `points`. Panics on any other text: a test with a typo would prove nothing.
    fn parse(text: &str, points: &'static [&'static str]) -> Self {
        let (name, nth) = text.rsplit_once('@').expect("a fail point is NAME@N");
        let name = points.iter().find(|point| **point == name).expect("the environment names a fail point");
        let nth: u64 = nth.parse().expect("a fail point ends in a number");
        assert!(nth > 0, "a fail point counts from 1");
        Self { name, left: AtomicU64::new(nth) }
    }

    /// Counts one pass; true for the fatal one.
    fn is_due(&self) -> bool {
        // Past zero the counter wraps, and would take 2^64 passes to come round.
        self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Counts a pass of the point `name` among `points`; true if the environment's `variable` makes this pass fatal.
#[cfg(debug_assertions)]
fn is_armed(
    armed: &OnceLock<Option<ArmedPoint>>,
    variable: &str,
    points: &'static [&'static str],
    name: &'static str,
) -> bool {
    assert!(points.contains(&name), "`{name}` is not a listed point");
    let armed = armed.get_or_init(|| std::env::var(variable).ok().map(|text| ArmedPoint::parse(&text, points)));
    armed.as_ref().is_some_and(|armed| armed.name == name && armed.is_due())
}

/// Kills the process if the point `name`, one of [`FAIL_POINTS`], is armed.
#[cfg(debug_assertions)]
pub(crate) fn hit(name: &'static str) {
    static ARMED: OnceLock<Option<ArmedPoint>> = OnceLock::new();
    if is_armed(&ARMED, "BIREME_FAIL_POINT", FAIL_POINTS, name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal may reach another thread first; this one must do nothing more.
        loop {
            std::thread::park();
        }
    }
}

/// Panics if the point `name`, one of [`PANIC_POINTS`], is armed.
#[cfg(debug_assertions)]
pub(crate) fn panic_at(name: &'static str) {
    static ARMED: OnceLock<Option<ArmedPoint>> = OnceLock::new();
    if is_armed(&ARMED, "BIREME_PANIC_POINT", PANIC_POINTS, name) {
        panic!("panic point `{name}`");
    }
}

/// Does nothing in this build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// Does nothing in this build.
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
        let armed = ArmedPoint::parse("store.sync.before@3", FAIL_POINTS);
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
    #[should_panic(expected = "is not a listed point")]
    fn a_point_that_is_not_listed_is_a_mistake() {
        hit("store.no-such-point");
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "names a fail point")]
    fn a_misspelt_name_does_not_pass_silently() {
        ArmedPoint::parse("store.sink.before@1", FAIL_POINTS);
    }
}
