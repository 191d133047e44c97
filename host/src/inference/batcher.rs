//! Turns one model's waiting requests into batches. A plain decider: no clock, no task, no lock.
//!
//! Not here: which worker runs a batch (`device`), how a batch travels (`wire`).
//!
//! Invariants: a piece leaves exactly once, or is cancelled; a batch stays within the model's rows and tokens (a piece
//! larger than those cannot come in); pieces leave in the order they came. There is no artificial wait: a batch is taken
//! whenever the device is free, so batches grow by themselves while it is busy.

use std::collections::VecDeque;
use std::ops::Range;

use crate::limits::BatchLimits;

/// One request of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Part of a request that stays together: the unit of batching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub request: RequestId,
    /// Rows of the request.
    pub rows: Range<usize>,
    pub tokens: usize,
    /// Times that a worker died with it.
    pub losses: u32,
    /// Set once a batch that held it failed: it runs by itself then, so that only the culprit fails for good.
    pub is_alone: bool,
}

/// Why a batch was not larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// Nothing more was waiting.
    Drained,
    /// The next piece did not fit the rows.
    Rows,
    /// The next piece did not fit the tokens.
    Tokens,
    /// A piece of a batch that failed runs by itself.
    Alone,
}

/// Pieces that run together.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub pieces: Vec<Piece>,
    pub rows: usize,
    pub tokens: usize,
    pub cut: Cut,
}

/// The queue would exceed `max_queue_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull {
    pub waiting_rows: usize,
}

/// The queue in front of one model.
#[derive(Debug)]
pub struct Batcher {
    limits: BatchLimits,
    waiting: VecDeque<Piece>,
    waiting_rows: usize,
}

impl Batcher {
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, waiting: VecDeque::new(), waiting_rows: 0 }
    }

    /// Cuts a request into pieces that fit one batch each. `lengths` holds the tokens of each row.
    pub fn pieces(&self, request: RequestId, lengths: &[usize]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut start = 0;
        let mut tokens = 0;
        for (row, &length) in lengths.iter().enumerate() {
            let full = row - start == self.limits.max_batch_size || tokens + length > self.limits.max_batch_tokens;
            if full && row > start {
                pieces.push(Piece { request, rows: start..row, tokens, losses: 0, is_alone: false });
                (start, tokens) = (row, 0);
            }
            tokens += length;
        }
        if start < lengths.len() {
            pieces.push(Piece { request, rows: start..lengths.len(), tokens, losses: 0, is_alone: false });
        }
        pieces
    }

    /// Tells whether `rows` more may wait.
    pub fn check_room(&self, rows: usize) -> Result<(), QueueFull> {
        if self.waiting_rows + rows > self.limits.max_queue_size {
            return Err(QueueFull { waiting_rows: self.waiting_rows });
        }
        Ok(())
    }

    /// Takes in all pieces of a request, or none.
    pub fn enqueue(&mut self, pieces: Vec<Piece>) -> Result<(), QueueFull> {
        let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
        self.check_room(rows)?;
        self.waiting_rows += rows;
        self.waiting.extend(pieces);
        Ok(())
    }

    /// Puts back what a failed batch held, in front of all others. Never refused: it was accepted once.
    pub fn requeue(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.waiting_rows += piece.rows.len();
            self.waiting.push_front(piece);
        }
    }

    /// Forgets the waiting pieces of a request whose caller is gone.
    pub fn cancel(&mut self, request: RequestId) {
        let waiting_rows = &mut self.waiting_rows;
        self.waiting.retain(|piece| {
            let keep = piece.request != request;
            if !keep {
                *waiting_rows -= piece.rows.len();
            }
            keep
        });
    }

    /// Takes the next batch, for a device that is free now.
    pub fn take(&mut self) -> Option<Batch> {
        let mut batch = Batch { pieces: Vec::new(), rows: 0, tokens: 0, cut: Cut::Drained };
        while let Some(piece) = self.waiting.front() {
            let rows = batch.rows + piece.rows.len();
            let tokens = batch.tokens + piece.tokens;
            if !batch.pieces.is_empty() && (piece.is_alone || batch.pieces[0].is_alone) {
                batch.cut = Cut::Alone;
                break;
            }
            // The first piece always goes: `pieces` made it fit, but for a single row over the budget of tokens.
            if !batch.pieces.is_empty() && rows > self.limits.max_batch_size {
                batch.cut = Cut::Rows;
                break;
            }
            if !batch.pieces.is_empty() && tokens > self.limits.max_batch_tokens {
                batch.cut = Cut::Tokens;
                break;
            }
            (batch.rows, batch.tokens) = (rows, tokens);
            self.waiting_rows -= piece.rows.len();
            batch.pieces.extend(self.waiting.pop_front());
        }
        (!batch.pieces.is_empty()).then_some(batch)
    }

    /// Returns the rows that wait.
    pub fn waiting_rows(&self) -> usize {
        self.waiting_rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(rows: usize, tokens: usize, queue: usize) -> BatchLimits {
        BatchLimits { max_batch_size: rows, max_batch_tokens: tokens, max_queue_size: queue, max_request_rows: 1_000 }
    }

    /// Enqueues requests given as row lengths and shows the batches as `request:rows` lists.
    fn check(limits: BatchLimits, requests: &[&[usize]], expected: expect_test::Expect) {
        let mut batcher = Batcher::new(limits);
        for (id, lengths) in requests.iter().enumerate() {
            let pieces = batcher.pieces(RequestId(id as u64), lengths);
            batcher.enqueue(pieces).expect("these fit");
        }
        let mut shown = String::new();
        while let Some(batch) = batcher.take() {
            let pieces: Vec<String> =
                batch.pieces.iter().map(|piece| format!("{}:{:?}", piece.request.0, piece.rows)).collect();
            shown += &format!("{} ({} tokens, {:?})\n", pieces.join(" "), batch.tokens, batch.cut);
        }
        expected.assert_eq(&shown);
    }

    #[test]
    fn what_waits_leaves_together() {
        check(
            limits(8, 100, 100),
            &[&[5], &[5, 5], &[5]],
            expect_test::expect![[r#"
            0:0..1 1:0..2 2:0..1 (20 tokens, Drained)
        "#]],
        );
    }

    #[test]
    fn rows_and_tokens_cut_a_batch() {
        check(
            limits(2, 100, 100),
            &[&[1], &[1], &[1]],
            expect_test::expect![[r#"
            0:0..1 1:0..1 (2 tokens, Rows)
            2:0..1 (1 tokens, Drained)
        "#]],
        );
        check(
            limits(9, 10, 100),
            &[&[6], &[6], &[4]],
            expect_test::expect![[r#"
            0:0..1 (6 tokens, Tokens)
            1:0..1 2:0..1 (10 tokens, Drained)
        "#]],
        );
    }

    #[test]
    fn a_large_request_is_cut_into_pieces() {
        check(
            limits(2, 10, 100),
            &[&[4, 4, 4, 9, 9]],
            expect_test::expect![[r#"
            0:0..2 (8 tokens, Rows)
            0:2..3 (4 tokens, Tokens)
            0:3..4 (9 tokens, Tokens)
            0:4..5 (9 tokens, Drained)
        "#]],
        );
    }

    #[test]
    fn a_full_queue_refuses_a_request_whole() {
        let mut batcher = Batcher::new(limits(8, 100, 3));
        batcher.enqueue(batcher.pieces(RequestId(0), &[1, 1])).unwrap();
        let refused = batcher.enqueue(batcher.pieces(RequestId(1), &[1, 1]));
        assert_eq!(refused, Err(QueueFull { waiting_rows: 2 }));
        assert_eq!(batcher.waiting_rows(), 2);
    }

    proptest! {
        /// Random arrivals, cancels, losses and takes: every row leaves exactly once unless cancelled, in order for
        /// each request, and every batch is within bounds.
        #[test]
        fn each_row_leaves_once(steps in proptest::collection::vec((0u8..4, proptest::collection::vec(1usize..40, 1..12)), 1..80)) {
            let mut batcher = Batcher::new(limits(8, 64, 40));
            let mut expected: std::collections::BTreeMap<u64, usize> = Default::default();
            let mut seen: std::collections::BTreeMap<u64, Vec<usize>> = Default::default();
            let mut next = 0u64;
            let mut run = |batcher: &mut Batcher, lose: bool| {
                let Some(batch) = batcher.take() else { return };
                prop_assert_rows(&batch);
                if lose {
                    let alone = |piece| Piece { is_alone: true, ..piece };
                    batcher.requeue(batch.pieces.into_iter().map(alone).collect());
                } else {
                    for piece in batch.pieces {
                        seen.entry(piece.request.0).or_default().extend(piece.rows);
                    }
                }
            };
            for (kind, lengths) in steps {
                match kind {
                    0 | 1 => {
                        let pieces = batcher.pieces(RequestId(next), &lengths);
                        if batcher.enqueue(pieces).is_ok() {
                            expected.insert(next, lengths.len());
                        }
                        next += 1;
                    }
                    2 => run(&mut batcher, lengths.len() % 2 == 0),
                    _ => {
                        let victim = lengths[0] as u64 % next.max(1);
                        batcher.cancel(RequestId(victim));
                        expected.remove(&victim);
                    }
                }
            }
            while batcher.waiting_rows() > 0 {
                run(&mut batcher, false);
            }
            for (request, rows) in expected {
                prop_assert_eq!(&seen[&request], &(0..rows).collect::<Vec<_>>());
            }
        }
    }

    fn prop_assert_rows(batch: &Batch) {
        assert_eq!(batch.rows, batch.pieces.iter().map(|piece| piece.rows.len()).sum::<usize>());
        assert_eq!(batch.tokens, batch.pieces.iter().map(|piece| piece.tokens).sum::<usize>());
        assert!(batch.rows <= 8);
        assert!(batch.tokens <= 64);
    }
}
