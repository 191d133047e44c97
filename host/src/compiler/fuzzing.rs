//! Messages of the compiler process, for the targets in `fuzz/`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::config::CompileLimits;
use super::message::{self, Order, Reply};
use crate::packets;

/// Sends `bytes` with `files` copies of a descriptor, and receives them as an order: its time in ms and its memory.
pub fn order(bytes: &[u8], files: usize) -> io::Result<Option<(u64, u64)>> {
    let (ours, theirs) = packets::pair()?;
    packets::send(ours.as_fd(), bytes, &copies(ours.as_fd(), files))?;
    drop(ours);
    Ok(Order::receive(theirs.as_fd())?.map(|Order { limits, .. }| {
        let time_ms = u64::try_from(limits.time_max.as_millis()).unwrap_or(u64::MAX);
        (time_ms, limits.memory_bytes_max)
    }))
}

/// Returns an order's limits as they arrive.
pub fn order_again(time_ms: u64, memory_bytes_max: u64) -> io::Result<Option<(u64, u64)>> {
    let (ours, theirs) = packets::pair()?;
    let limits = CompileLimits { time_max: Duration::from_millis(time_ms), memory_bytes_max };
    message::order(ours.as_fd(), limits, ours.as_fd(), ours.as_fd())?;
    Ok(Order::receive(theirs.as_fd())?.map(|Order { limits, .. }| {
        let time_ms = u64::try_from(limits.time_max.as_millis()).unwrap_or(u64::MAX);
        (time_ms, limits.memory_bytes_max)
    }))
}

/// Sends `bytes` with `files` copies of a descriptor, and receives them as a reply: its kind and its text. The reply is
/// sent once more, and must arrive as it was.
pub fn reply(bytes: &[u8], files: usize) -> io::Result<Option<(&'static str, String)>> {
    let (ours, theirs) = packets::pair()?;
    packets::send(ours.as_fd(), bytes, &copies(ours.as_fd(), files))?;
    let Some(reply) = Reply::receive(theirs.as_fd())? else { return Ok(None) };
    let first = described(&reply);
    reply.send(ours.as_fd())?;
    let again = Reply::receive(theirs.as_fd())?.map(|reply| described(&reply));
    assert_eq!(again.as_ref(), Some(&first), "a reply that was read is another one when sent");
    Ok(Some(first))
}

fn copies(file: BorrowedFd<'_>, files: usize) -> Vec<BorrowedFd<'_>> {
    vec![file; files.min(packets::FILES_MAX)]
}

fn described(reply: &Reply) -> (&'static str, String) {
    match reply {
        Reply::Compiled(_) => ("compiled", String::new()),
        Reply::Refused(text) => ("refused", text.clone()),
        Reply::OverTime => ("over time", String::new()),
        Reply::OverMemory => ("over memory", String::new()),
        Reply::Died(text) => ("died", text.clone()),
    }
}
