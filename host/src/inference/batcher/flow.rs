//! The waiting pieces of one tenant for one model, by priority.
//!
//! A cancelled request's pieces stay where they are and are passed over, so that cancelling costs the same however long
//! the line is; a line that holds more of them than of others is swept.

use std::collections::VecDeque;

use super::ledger::{Entry, Ledger, RequestId};
use super::{LOOKAHEAD, Piece, SKIPS_MAX};
use crate::call::Priority;

/// Dead pieces that a line may always hold.
const DEAD_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Flow {
    lines: [VecDeque<Piece>; 3],
    /// Pieces of requests that live.
    live: usize,
    /// Their rows.
    rows: usize,
}

pub(super) enum Taken {
    Piece(Piece),
    /// Nothing fits; whether shorter ones of others may still pass the first.
    NoFit {
        is_patient: bool,
    },
    Nothing,
}

impl Flow {
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn push(&mut self, priority: Priority, piece: Piece) {
        self.live += 1;
        self.rows += piece.rows.len();
        self.lines[priority as usize].push_back(piece);
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes in that so many pieces of a request, which the ledger no longer has, are dead.
    pub fn forget(&mut self, pieces: usize, rows: usize, ledger: &Ledger) {
        self.live -= pieces;
        self.rows -= rows;
        let held: usize = self.lines.iter().map(VecDeque::len).sum();
        if held > self.live * 2 + DEAD_MAX {
            for line in &mut self.lines {
                line.retain(|piece| ledger.get(piece.request).is_some());
                line.shrink_to(line.len() * 2);
            }
        }
    }

    /// Returns the line whose turn it is, its dead pieces swept off the front.
    fn line(&mut self, oldest_first: bool, ledger: &Ledger) -> Option<usize> {
        let mut chosen: Option<(usize, u64)> = None;
        for (index, line) in self.lines.iter_mut().enumerate() {
            while line.front().is_some_and(|piece| ledger.get(piece.request).is_none()) {
                line.pop_front();
            }
            let Some(entry) = line.front().and_then(|piece| ledger.get(piece.request)) else { continue };
            if chosen.is_none_or(|(_, seq)| oldest_first && entry.seq < seq) {
                chosen = Some((index, entry.seq));
            }
        }
        chosen.map(|(index, _)| index)
    }

    /// Returns the request whose turn it is.
    pub fn head<'a>(&mut self, oldest_first: bool, ledger: &'a Ledger) -> Option<(Priority, &'a Entry)> {
        let line = self.line(oldest_first, ledger)?;
        let entry = self.lines[line].front().and_then(|piece| ledger.get(piece.request))?;
        Some((Priority::ALL[line], entry))
    }

    /// Takes the piece whose turn it is, or a shorter one behind it that fits `room`, rows and tokens; without that, the
    /// first as it is.
    pub fn take(&mut self, oldest_first: bool, room: Option<(usize, usize)>, ledger: &Ledger) -> Taken {
        let Some(line) = self.line(oldest_first, ledger) else { return Taken::Nothing };
        let line = &mut self.lines[line];
        let fits = |piece: &Piece| room.is_none_or(|(rows, tokens)| piece.rows.len() <= rows && piece.tokens <= tokens);
        let first = line.front_mut().expect("a chosen line has a live piece");
        if !fits(first) {
            if first.skips >= SKIPS_MAX {
                return Taken::NoFit { is_patient: false };
            }
            first.skips += 1;
        }
        let found = line.iter().take(LOOKAHEAD).position(|piece| fits(piece) && ledger.get(piece.request).is_some());
        match found.and_then(|at| line.remove(at)) {
            Some(piece) => {
                self.live -= 1;
                self.rows -= piece.rows.len();
                Taken::Piece(piece)
            }
            None => Taken::NoFit { is_patient: true },
        }
    }

    /// Adds the requests at the front of each line that `is_late` says are so.
    pub fn late(&self, ledger: &Ledger, late: &mut Vec<RequestId>, is_late: impl Fn(&Entry, usize) -> bool) {
        for line in &self.lines {
            for piece in line {
                match ledger.get(piece.request) {
                    Some(entry) if is_late(entry, piece.tokens) => late.push(piece.request),
                    Some(_) => break,
                    None => {}
                }
            }
        }
    }
}
