//! Recent log lines of each app: kept in memory and on disk, read by filter, followed live.
//!
//! Not here: the bounds of a call's log (`sandbox::log`).
//!
//! Invariants: each app keeps its own newest lines, so a flood of one loses nothing of another; all apps together keep
//! at most `LOGS_BYTES_MAX`; an app that logs faster than its rate limit loses lines, which are counted; a follower
//! gets each line once, in order, and the number of lines lost where it reads too slowly.

mod disk;
mod follow;
mod line;
mod printable;
mod query;
mod rate;
mod record;
mod store;

pub(crate) use self::follow::{FollowItem, Follower};
pub use self::line::{Level, LogLine, LogSink, NoLog, Source};
pub(crate) use self::printable::{printable, printable_within};
pub(crate) use self::query::Query;
pub(crate) use self::record::LogRecord;
pub(crate) use self::store::Logs;
