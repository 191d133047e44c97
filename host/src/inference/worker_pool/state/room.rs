//! Room for a model on a worker: the models that it holds, and the one that leaves for the next.

use std::time::{Duration, Instant};

use super::models::Room;
use super::pool::PoolState;
use crate::budgets::machine_bytes;
use crate::inference::batcher::Next;
use crate::wire::ModelId;

/// How long a worker keeps a model that it just loaded while that model has work: the time of a few loads. Two models
/// that do not fit together would otherwise be loaded in turns for ever.
pub(super) const SWAP_PATIENCE: Duration = Duration::from_secs(1);

impl<W> PoolState<W> {
    /// Returns the step that makes room for a model on a worker.
    pub(super) fn make_room(&mut self, now: Instant, index: usize, model: ModelId) -> Room {
        let slot = &self.slots[index];
        // The other half is for guests.
        let by_default = (slot.device.as_deref() == Some("cpu")).then(|| machine_bytes() / 2);
        let configured = self.config.memory_max.or(by_default);
        let Some(memory_max) = configured.into_iter().chain(slot.memory_shown).min() else { return Room::Free };
        let needed = self.model(model).memory();
        let kept = slot.loaded.iter().filter(|(id, _)| self.model(**id).keep());
        let kept = kept.fold(0u64, |sum, (_, loaded)| sum.saturating_add(loaded.memory));
        // The lowered budget rests on estimates: it makes other models leave, and refuses none.
        if let Some(memory_max) = configured.filter(|max| needed.saturating_add(kept) > *max) {
            let reason = format!(
                "it takes {needed} bytes, and of the {memory_max} for models {kept} belong to models that are kept"
            );
            self.fail_model(model, &reason);
            return Room::Never;
        }
        if slot.memory().saturating_add(needed) <= memory_max {
            return Room::Free;
        }
        let Some(victim) = self.least_used(index) else { return Room::Free };
        let loaded = &self.slots[index].loaded;
        let others_wait = matches!(self.batcher.next(now, |model, _| loaded.contains_key(&model)), Next::Batch { .. });
        let loaded_at = self.slots[index].loaded_at;
        let is_patient = loaded_at.is_some_and(|at| now.saturating_duration_since(at) < SWAP_PATIENCE);
        if others_wait && is_patient { Room::Later } else { Room::Unload(victim) }
    }

    /// Returns the least recently used model that may be unloaded.
    pub(super) fn least_used(&self, index: usize) -> Option<ModelId> {
        let loaded = self.slots[index].loaded.iter().filter(|(id, _)| !self.model(**id).keep());
        loaded.min_by_key(|(id, loaded)| (loaded.used, id.0)).map(|(id, _)| *id)
    }
}
