//! Records of calls and maps, as the journal keeps them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::lease::LeaseHolder;
use super::payload::StoredPayload;
use crate::call::{Failure, Principal, Priority, Receipt};
use crate::ids::{AppName, CallId, FunctionId, FunctionName, MapId, Version};

/// Failed attempts of a call that are kept, the latest.
const ATTEMPTS_KEPT: usize = 10;

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// On disk, and not begun.
    Accepted,
    /// An attempt is under way, or was when the host died.
    Leased,
    /// An attempt failed; another follows.
    Waiting,
    /// It has a result.
    Done,
    /// It failed in a way that no attempt could mend.
    Failed,
    /// Its last attempt failed, and no retry is left.
    Dead,
    /// Somebody cancelled it before it had ended.
    Cancelled,
}

impl State {
    #[cfg(test)]
    pub(crate) const ALL: [State; 7] =
        [Self::Accepted, Self::Leased, Self::Waiting, Self::Done, Self::Failed, Self::Dead, Self::Cancelled];

    /// Whether nothing more will happen to the call.
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Dead | Self::Cancelled)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Leased => "leased",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Call,
    Map,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// From 1.
    pub attempt: u32,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    pub failure: Failure,
}

/// A call as it is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub id: CallId,
    pub app: AppName,
    pub function: FunctionName,
    pub state: State,
    /// Party on whose behalf it runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub principal: Principal,
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// Times are milliseconds since 1970.
    pub accepted_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Host that runs an attempt, of a leased call. The journal fills it in; none if that host was of format 1 or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseHolder>,
    /// Attempts begun.
    #[serde(default)]
    pub attempts: u32,
    /// Of those, the ones that ended with the host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost: u32,
    /// When the next attempt begins, of a call that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// The version that made the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Why it has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The latest attempts that failed, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub failed_attempts: VecDeque<FailedAttempt>,
    /// The call that spawned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CallId>,
    /// 0 from outside; a spawned call is one deeper than the one that spawned it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub depth: u32,
    /// Number of the scheduled run that this call is. If the host ends first, the schedule decides whether it runs
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Sums over the attempts that ended.
    #[serde(default)]
    pub receipt: Receipt,
}

impl CallRecord {
    /// A new call from outside, accepted and not begun.
    pub(crate) fn new(function: &FunctionId, principal: Principal, accepted_ms: u64) -> Self {
        Self {
            id: CallId::generate(),
            app: function.app.clone(),
            function: function.function.clone(),
            state: State::Accepted,
            principal,
            priority: Priority::default(),
            accepted_ms,
            ended_ms: None,
            lease: None,
            attempts: 0,
            lost: 0,
            next_ms: None,
            version: None,
            failure: None,
            failed_attempts: VecDeque::new(),
            parent: None,
            depth: 0,
            run: None,
            idempotency_key: None,
            receipt: Receipt::default(),
        }
    }

    pub(crate) fn function_id(&self) -> FunctionId {
        FunctionId { app: self.app.clone(), function: self.function.clone() }
    }

    /// Notes an attempt that failed, in the place of the oldest if there are many.
    pub(crate) fn note_failed(&mut self, at_ms: u64, failure: Failure) {
        if self.failed_attempts.len() == ATTEMPTS_KEPT {
            self.failed_attempts.pop_front();
        }
        self.failed_attempts.push_back(FailedAttempt { attempt: self.attempts, at_ms, failure });
    }

    /// Returns how many attempts count against the retries: a host that died is not the function's fault.
    pub(crate) fn attempts_charged(&self) -> u32 {
        self.attempts.saturating_sub(self.lost)
    }
}

/// What a map is, and what its caller has done with it. Written when its caller does something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapHeader {
    pub id: MapId,
    pub app: AppName,
    pub function: FunctionName,
    /// Party on whose behalf its calls run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub principal: Principal,
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    pub created_ms: u64,
    /// Inputs on disk.
    #[serde(default)]
    pub accepted: u64,
    /// No more inputs will come.
    #[serde(default)]
    pub is_closed: bool,
    #[serde(default)]
    pub is_cancelled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CallId>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub depth: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl MapHeader {
    pub(crate) fn function_id(&self) -> FunctionId {
        FunctionId { app: self.app.clone(), function: self.function.clone() }
    }
}

/// How far a map has come. Written together with the outcomes that it counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MapProgress {
    pub done: u64,
    pub failed: u64,
    pub dead: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
    /// Set once nothing more will happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Sums over all attempts of all inputs.
    pub receipt: Receipt,
}

impl MapProgress {
    /// Returns how many inputs have an outcome.
    pub(crate) fn settled(&self) -> u64 {
        self.done + self.failed + self.dead
    }
}

/// A map as it is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct MapRecord {
    pub header: MapHeader,
    pub progress: MapProgress,
}

/// Where a map stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MapState {
    /// It takes inputs.
    Open,
    /// Every input is on disk, and some have no outcome.
    Running,
    /// Every input has its outcome.
    Done,
    /// What had no outcome then has none.
    Cancelled,
}

impl MapState {
    #[cfg(test)]
    pub(crate) const ALL: [MapState; 4] = [Self::Open, Self::Running, Self::Done, Self::Cancelled];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

impl MapRecord {
    pub(crate) fn state(&self) -> MapState {
        match self {
            Self { header, .. } if header.is_cancelled => MapState::Cancelled,
            Self { header, .. } if !header.is_closed => MapState::Open,
            Self { header, progress } if progress.settled() < header.accepted => MapState::Running,
            _ => MapState::Done,
        }
    }

    /// Returns how many inputs ended without an outcome, by being cancelled.
    pub(crate) fn cancelled(&self) -> u64 {
        if self.header.is_cancelled { self.header.accepted.saturating_sub(self.progress.settled()) } else { 0 }
    }
}

/// What became of one input of a map, or of one attempt at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub index: u64,
    /// The attempt, from 1, those included that ended with a host.
    pub attempt: u32,
    pub kind: EntryKind,
    /// What the attempt cost.
    pub receipt: Receipt,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EntryKind {
    Done(StoredPayload),
    /// No attempt could mend it.
    Failed(Failure),
    /// No retry is left.
    Dead(Failure),
    /// Another attempt follows, at `next_ms`; `failed` have failed so far.
    Retry {
        failed: u32,
        next_ms: u64,
        failure: Failure,
    },
}

impl Entry {
    /// Whether it ends the input.
    pub(crate) fn is_outcome(&self) -> bool {
        !matches!(self.kind, EntryKind::Retry { .. })
    }

    /// Whether it ends the input without a result.
    pub fn is_failure(&self) -> bool {
        matches!(self.kind, EntryKind::Failed(_) | EntryKind::Dead(_))
    }

    /// Returns about what it takes in a row.
    pub(crate) fn row_bytes(&self) -> usize {
        32 + match &self.kind {
            EntryKind::Done(stored) => stored.row_bytes(),
            EntryKind::Failed(failure) | EntryKind::Dead(failure) | EntryKind::Retry { failure, .. } => {
                failure.bytes() as usize
            }
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
