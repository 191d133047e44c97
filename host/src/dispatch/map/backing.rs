//! Backing of a map: where inputs come from and outcomes go. Memory is one (`memory`), the journal the other
//! (`durable::map`).

use std::time::{Duration, Instant};

use super::engine::Engine;
use super::window::{Input, Window};
use crate::call::{CallResult, Payload, Receipt};
use crate::ids::CallId;

/// What the engine asks of a backing. It is part of the engine's state, so a method that takes `self` runs under its
/// lock.
pub trait Backing: Sized + Send + 'static {
    /// An input as it waits.
    type Body: Send;

    /// Whether an input outlives the host. Then one whose attempt the host's end prevents or cuts short is put back;
    /// otherwise it ends with that failure.
    const IS_DURABLE: bool;

    /// Returns the time against which retries are due, in milliseconds.
    fn now_ms(&self) -> u64;

    /// Whether inputs may begin. Asked before each one.
    fn is_open(&self) -> bool;

    /// Lets nothing more begin. Called when the host ends.
    fn stop(&mut self);

    /// Whether more inputs should be loaded; the engine then wakes the backing's driver. Asked after each input that
    /// began.
    fn wants_more(&self, window: &Window<Self::Body>) -> bool;

    /// Takes the payload of an input for an attempt, or reads it. An input that cannot be read now is put back.
    fn take_payload(
        engine: &Engine<Self>,
        body: &mut Self::Body,
    ) -> impl Future<Output = Result<Payload, Unreadable>> + Send;

    /// Returns the payload after the attempt: the input is as it was.
    fn return_payload(body: &mut Self::Body, payload: Payload);

    /// Takes what an attempt came to, without the lock. The input stays leased until the backing ends it or queues its
    /// retry.
    fn settle(engine: &Engine<Self>, ended: Ended<Self::Body>);
}

/// An input that cannot be read now. The backing has logged why.
pub struct Unreadable;

/// An attempt that has ended.
pub struct Ended<B> {
    pub input: Input<B>,
    pub call: CallId,
    pub began: Instant,
    pub result: CallResult,
    /// Cost of this attempt alone.
    pub receipt: Receipt,
    /// Wait before the next attempt; none if `result` is the outcome.
    pub retry: Option<Duration>,
}
