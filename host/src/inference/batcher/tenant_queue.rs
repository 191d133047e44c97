//! A tenant queue: the waiting sub-requests of one tenant for one model, by priority.
//!
//! Sub-requests of a cancelled request stay in place and are skipped, so that cancelling takes constant time; a queue
//! that holds more of them than of live ones is swept.

use std::collections::VecDeque;

use super::batch::SubRequest;
use super::requests::{RequestEntry, RequestId, Requests};
use crate::call::Priority;

/// Times that shorter requests may pass one that does not fit.
pub(super) const SKIPS_MAX: u8 = 4;
/// Requests of one queue that are looked at for one that fits.
const LOOKAHEAD: usize = 16;
/// Cancelled sub-requests that a queue may always hold.
const DEAD_MAX: usize = 64;

#[derive(Default)]
pub(super) struct TenantQueue {
    lines: [VecDeque<SubRequest>; 3],
    /// Sub-requests that were not cancelled.
    live: usize,
    /// Their rows.
    rows: usize,
}

pub(super) enum Candidate {
    SubRequest(SubRequest),
    /// None fits; `is_patient` if shorter ones of other tenants may still pass the first.
    NoFit {
        is_patient: bool,
    },
    Nothing,
}

impl TenantQueue {
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn push(&mut self, priority: Priority, sub_request: SubRequest) {
        self.live += 1;
        self.rows += sub_request.rows.len();
        self.lines[priority as usize].push_back(sub_request);
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Counts sub-requests of a request that was removed as cancelled.
    pub(crate) fn forget(&mut self, sub_requests: usize, rows: usize, requests: &Requests) {
        self.live -= sub_requests;
        self.rows -= rows;
        let held: usize = self.lines.iter().map(VecDeque::len).sum();
        if held > self.live * 2 + DEAD_MAX {
            for line in &mut self.lines {
                line.retain(|sub_request| requests.get(sub_request.request).is_some());
                line.shrink_to(line.len() * 2);
            }
        }
    }

    /// Returns the priority that goes next, after removing cancelled sub-requests from the front of each.
    fn line(&mut self, oldest_first: bool, requests: &Requests) -> Option<usize> {
        let mut chosen: Option<(usize, u64)> = None;
        for (index, line) in self.lines.iter_mut().enumerate() {
            while line.front().is_some_and(|sub_request| requests.get(sub_request.request).is_none()) {
                line.pop_front();
            }
            let Some(entry) = line.front().and_then(|sub_request| requests.get(sub_request.request)) else { continue };
            if chosen.is_none_or(|(_, seq)| oldest_first && entry.seq < seq) {
                chosen = Some((index, entry.seq));
            }
        }
        chosen.map(|(index, _)| index)
    }

    /// Returns the request that goes next.
    pub(crate) fn head<'a>(
        &mut self,
        oldest_first: bool,
        requests: &'a Requests,
    ) -> Option<(Priority, &'a RequestEntry)> {
        let line = self.line(oldest_first, requests)?;
        let entry = self.lines[line].front().and_then(|sub_request| requests.get(sub_request.request))?;
        Some((Priority::ALL[line], entry))
    }

    /// Takes the next sub-request, or a shorter one behind it that fits `room`, rows and tokens; without `room`, the
    /// first one.
    pub(crate) fn take(&mut self, oldest_first: bool, room: Option<(usize, usize)>, requests: &Requests) -> Candidate {
        let Some(line) = self.line(oldest_first, requests) else { return Candidate::Nothing };
        let line = &mut self.lines[line];
        let fits = |sub_request: &SubRequest| {
            room.is_none_or(|(rows, tokens)| sub_request.rows.len() <= rows && sub_request.tokens <= tokens)
        };
        let first = line.front_mut().expect("a chosen line has a live sub_request");
        if !fits(first) {
            if first.skips >= SKIPS_MAX {
                return Candidate::NoFit { is_patient: false };
            }
            first.skips += 1;
        }
        let found = line
            .iter()
            .take(LOOKAHEAD)
            .position(|sub_request| fits(sub_request) && requests.get(sub_request.request).is_some());
        match found.and_then(|at| line.remove(at)) {
            Some(sub_request) => {
                self.live -= 1;
                self.rows -= sub_request.rows.len();
                Candidate::SubRequest(sub_request)
            }
            None => Candidate::NoFit { is_patient: true },
        }
    }

    /// Adds the requests at the front of each priority for which `is_late` holds.
    pub(crate) fn late(
        &self,
        requests: &Requests,
        late: &mut Vec<RequestId>,
        is_late: impl Fn(&RequestEntry, usize) -> bool,
    ) {
        for line in &self.lines {
            for sub_request in line {
                match requests.get(sub_request.request) {
                    Some(entry) if is_late(entry, sub_request.tokens) => late.push(sub_request.request),
                    Some(_) => break,
                    None => {}
                }
            }
        }
    }
}
