//! Places at which a test can have the process killed, to see what a crash there leaves behind.
//!
//! With `BIREME_FAIL_POINT=NAME@N` the process sends itself SIGKILL when it passes the point `NAME` for the `N`th time,
//! counted from 1. Builds without `debug_assertions` have none of it.

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
    "journal.append.before",
    "journal.append.after",
    "journal.close.before",
    "journal.close.after",
    "journal.lease.before",
    "journal.lease.after",
    "journal.settle.before",
    "journal.settle.after",
    "journal.expire.before",
    "journal.expire.after",
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
    /// Reads `NAME@N`. A test that misspells one would prove nothing, so that is a panic.
    fn parse(text: &str) -> Self {
        let (name, nth) = text.rsplit_once('@').expect("BIREME_FAIL_POINT is NAME@N");
        let name = FAIL_POINTS.iter().find(|point| **point == name).expect("BIREME_FAIL_POINT names a fail point");
        let nth: u64 = nth.parse().expect("BIREME_FAIL_POINT ends in a number");
        assert!(nth > 0, "BIREME_FAIL_POINT counts from 1");
        Self { name, left: AtomicU64::new(nth) }
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
    let armed = ARMED.get_or_init(|| std::env::var("BIREME_FAIL_POINT").ok().map(|text| Armed::parse(&text)));
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[cfg(debug_assertions)]
    #[test]
    fn the_nth_pass_is_the_one() {
        let armed = Armed::parse("store.sync.before@3");
        assert_eq!(armed.name, "store.sync.before");
        assert_eq!([(); 5].map(|()| armed.is_due()), [false, false, true, false, false]);
    }

    #[test]
    fn names_stand_once_and_start_with_their_module() {
        let names: HashSet<&str> = FAIL_POINTS.iter().copied().collect();
        assert_eq!(names.len(), FAIL_POINTS.len());
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
        Armed::parse("store.sink.before@1");
    }
}
