//! The next frame for a worker: a load, an unload, a check or a batch, encoded.

use std::time::{Duration, Instant};

use super::models::Room;
use super::pool::PoolState;
use super::slot::{NextFrame, SentFrame, Task};
use super::work::Work;
use crate::inference::batcher::{Batch, Next};
use crate::inference::error::InferenceError;
use crate::wire::{self, Frame};

/// A batch is sent ahead behind one that takes less than this.
const AHEAD_BELOW: Duration = Duration::from_millis(5);

impl<W> PoolState<W> {
    /// Encodes the next frame for a worker, if there is one.
    pub(super) fn next_frame(&mut self, now: Instant, index: usize) -> NextFrame {
        let slot = &self.slots[index];
        // One batch is sent ahead, so that the worker need not wait for the host; only a full one, since a partial
        // batch may still grow.
        let ahead = match slot.sent.len() {
            0 => false,
            1 if !slot.is_doubted && self.is_short(&slot.sent[0].what) => true,
            _ => return NextFrame::Nothing,
        };
        if slot.is_doubted {
            return self.send(now, index, Task::Check);
        }
        loop {
            let loaded = &self.slots[index].loaded;
            let next = if ahead {
                self.batcher.next(now, |model, is_full| is_full && loaded.contains_key(&model))
            } else {
                self.batcher.next(now, |_, _| true)
            };
            self.answer_expired();
            let (mut model, mut of) = match next {
                Next::Batch { model, of } => (model, of),
                Next::Wait(until) => return NextFrame::Wait(until),
                Next::Nothing => return NextFrame::Nothing,
            };
            if !self.slots[index].loaded.contains_key(&model) {
                match self.make_room(now, index, model) {
                    Room::Free => return self.send(now, index, Task::Load(model)),
                    Room::Unload(victim) => return self.send(now, index, Task::Unload(victim)),
                    // The model failed; requests for others go on.
                    Room::Never => continue,
                    Room::Later => {
                        let loaded = &self.slots[index].loaded;
                        match self.batcher.next(now, |model, _| loaded.contains_key(&model)) {
                            Next::Batch { model: other, of: turn } => (model, of) = (other, turn),
                            _ => return NextFrame::Nothing,
                        }
                    }
                }
            }
            if let Some(batch) = self.batcher.take(now, model, of) {
                self.clock += 1;
                let clock = self.clock;
                if let Some(loaded) = self.slots[index].loaded.get_mut(&model) {
                    loaded.used = clock;
                }
                return self.send(now, index, Task::Batch(batch));
            }
        }
    }

    /// Whether a batch ends so soon that the round trip to the host counts. Behind a long one nothing is sent ahead:
    /// the turn would be lost to requests that arrive meanwhile.
    fn is_short(&self, what: &Task) -> bool {
        match what {
            Task::Batch(batch) => {
                self.batcher.expected(batch.model, batch.tokens).is_some_and(|expected| expected < AHEAD_BELOW)
            }
            _ => false,
        }
    }

    /// Encodes a frame and records it as sent.
    fn send(&mut self, now: Instant, index: usize, what: Task) -> NextFrame {
        let job = self.next_job;
        self.next_job += 1;
        self.frame.clear();
        let mut checksum = 0;
        match &what {
            Task::Load(model) => {
                let path = self.model(*model).path();
                Frame::Load { model: *model, path }.encode(job, &mut self.frame);
            }
            Task::Unload(model) => Frame::Unload { model: *model }.encode(job, &mut self.frame),
            Task::Check => Frame::Check.encode(job, &mut self.frame),
            Task::Batch(batch) => {
                let mut frame = std::mem::take(&mut self.frame);
                checksum = self.encode_batch(batch, job, &mut frame);
                self.frame = frame;
            }
        }
        let slot = &mut self.slots[index];
        if let Task::Unload(model) = what {
            slot.loaded.remove(&model);
            self.history.stats.unloads += 1;
        }
        if slot.sent.is_empty() {
            slot.front_since = now;
        }
        slot.sent.push_back(SentFrame { job, what, sent: now, checksum });
        NextFrame::Frame
    }

    /// Encodes a batch that was just taken. Returns the checksum that its answer must have.
    fn encode_batch(&self, batch: &Batch, job: u64, frame: &mut Vec<u8>) -> u32 {
        let works = || {
            batch.sub_requests.iter().map(|sub_request| {
                (
                    sub_request,
                    &self.request(sub_request.request).expect("a batch that was just taken holds live requests").work,
                )
            })
        };
        if matches!(works().next(), Some((_, Work::Tensors(_)))) {
            let items = works().map(|(_, work)| match work {
                Work::Tensors(tensors) => tensors.clone(),
                Work::Rows { .. } | Work::Load => unreachable!("a model takes one kind of work"),
            });
            Frame::Infer { model: batch.model, items: items.collect() }.encode(job, frame);
            return 0;
        }
        let has_pairs =
            works().any(|(_, work)| matches!(work, Work::Rows { first_segments, .. } if !first_segments.is_empty()));
        let mut ids = Vec::with_capacity(batch.tokens);
        let mut cu_seqlens = Vec::with_capacity(batch.rows + 1);
        let mut segments = Vec::new();
        cu_seqlens.push(0);
        for (sub_request, work) in works() {
            let Work::Rows { ids: all, cu_seqlens: ends, first_segments } = work else {
                unreachable!("a model takes one kind of work")
            };
            let ends = &ends[sub_request.rows.start..=sub_request.rows.end];
            let base = ids.len() as u32;
            cu_seqlens.extend(ends[1..].iter().map(|end| base + (end - ends[0])));
            ids.extend_from_slice(&all[ends[0] as usize..ends[ends.len() - 1] as usize]);
            if has_pairs {
                // A row without a second segment belongs to the first as a whole.
                match first_segments.as_slice() {
                    [] => segments.extend(ends.windows(2).map(|pair| pair[1] - pair[0])),
                    segments_of => segments.extend_from_slice(&segments_of[sub_request.rows.clone()]),
                }
            }
        }
        let checksum = wire::checksum(&cu_seqlens, &ids);
        Frame::Batch { model: batch.model, cu_seqlens, first_segments: segments, ids }.encode(job, frame);
        checksum
    }

    /// Answers requests whose deadline passed while they waited.
    fn answer_expired(&mut self) {
        for id in self.batcher.take_expired() {
            self.history.stats.expired += 1;
            if let Some(found) = self.requests.remove(id) {
                let _ = found.done.send(Err(InferenceError::Deadline));
            }
        }
    }
}
