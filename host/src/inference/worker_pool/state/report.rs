//! The pool's state for operators: counts, models, workers, the last batches.

use super::history::{BatchRecord, DeviceStats, ModelStats};
use super::pool::PoolState;
use super::slot::WorkerSlot;
use crate::devices::LiveWorker;
use crate::wire::ModelId;

impl<W> PoolState<W> {
    /// Returns the workers that run now.
    pub(crate) fn live(&self) -> Vec<LiveWorker> {
        let live = |slot: &WorkerSlot<W>| {
            let mut models: Vec<_> = slot.loaded.keys().map(|model| self.model(*model).name().to_owned()).collect();
            models.sort_unstable();
            Some(LiveWorker { pid: slot.pid?, device: slot.device.as_deref().map(str::to_owned), models })
        };
        self.slots.iter().filter_map(live).collect()
    }

    /// Returns the last batches, newest first.
    pub(crate) fn batches(&self) -> Vec<BatchRecord> {
        self.history.batches()
    }

    /// Returns what computes, once a model was loaded.
    pub(crate) fn device(&self) -> Option<String> {
        self.first().device.as_deref().map(str::to_owned)
    }

    pub(crate) fn stats(&self) -> DeviceStats {
        let mut stats = self.history.stats.clone();
        stats.device = self.device();
        stats.worker_pid = self.first().pid;
        stats.queue_bytes = self.batcher.bytes();
        let models = self.models.iter().enumerate().map(|(index, model)| {
            let id = ModelId(index as u32);
            ModelStats {
                name: model.name().to_owned(),
                waiting_rows: self.batcher.waiting_rows(id),
                loaded: self.slots.iter().filter(|slot: &&WorkerSlot<W>| slot.loaded.contains_key(&id)).count(),
                memory_bytes: model.memory(),
                keep: model.keep(),
            }
        });
        stats.models = models.collect();
        stats
    }

    /// The first worker that runs, or else was to run.
    fn first(&self) -> &WorkerSlot<W> {
        self.slots.iter().find(|slot| slot.pid.is_some()).unwrap_or(&self.slots[0])
    }
}
