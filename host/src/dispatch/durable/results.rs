//! The outcomes of a map, read from the journal and, while it runs, as they are written.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::core::Core;
use super::error::DurableError;
use super::map::Maps;
use crate::call::Payload;
use crate::ids::MapId;
use crate::storage::{Entry, MapRecord, StoredPayload};

/// The order in which outcomes come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultsOrder {
    /// That of the inputs.
    #[default]
    Input,
    /// As they are written; those from before in the order of the inputs.
    Completion,
}

/// Outcomes of one map, each once.
pub struct Results {
    core: Arc<Core>,
    id: MapId,
    order: ResultsOrder,
    /// Whether outcomes that are not there yet are waited for.
    follows: bool,
    index: u64,
    batches: Option<broadcast::Receiver<Arc<Vec<Entry>>>>,
    progress: Option<watch::Receiver<MapRecord>>,
    seen: Bits,
    /// Outcomes on disk have to be read, from the start if some batches were missed.
    is_behind: bool,
}

impl Maps {
    /// Returns the outcomes of a map from input `from` on.
    pub(crate) async fn results(
        &self,
        id: MapId,
        from: u64,
        order: ResultsOrder,
        follows: bool,
    ) -> Result<Results, DurableError> {
        self.map(id).await?;
        // Subscribed before anything is read, so that nothing falls between.
        let (batches, progress) = self.subscribe(id).unzip();
        Ok(Results {
            core: self.core.clone(),
            id,
            order,
            follows,
            index: from,
            batches,
            progress,
            seen: Bits::default(),
            is_behind: true,
        })
    }

    /// Returns the outcome of one input, if it has one.
    pub(crate) async fn outcome(&self, id: MapId, index: u64) -> Result<Option<Entry>, DurableError> {
        let accepted = self.map(id).await?.header.accepted;
        if index >= accepted {
            return Err(DurableError::NoInput { id, index, accepted });
        }
        let outcomes = self.core.journal.outcomes(id, index).await?;
        Ok(outcomes.and_then(|outcomes| outcomes.entries.into_iter().find(|entry| entry.index == index)))
    }

    /// Returns one input of a map.
    pub(crate) async fn map_input(&self, id: MapId, index: u64) -> Result<Option<Payload>, DurableError> {
        Ok(self.core.journal.map_input(id, index).await?)
    }

    /// Returns the bytes of an output.
    pub(crate) async fn payload(&self, stored: StoredPayload) -> Result<Payload, DurableError> {
        Ok(self.core.journal.payload(stored).await?)
    }
}

impl Results {
    /// Returns the map that they are of.
    pub(crate) fn map(&self) -> MapId {
        self.id
    }

    /// Waits for outcomes; none when there will be no more.
    pub async fn next(&mut self) -> Result<Vec<Entry>, DurableError> {
        match self.order {
            ResultsOrder::Input => self.next_in_order().await,
            ResultsOrder::Completion => self.next_completed().await,
        }
    }

    async fn next_in_order(&mut self) -> Result<Vec<Entry>, DurableError> {
        loop {
            // Seen before the journal is read: what is written after that wakes the wait below.
            let ended = match &mut self.progress {
                Some(progress) => progress.borrow_and_update().progress.ended_ms.is_some(),
                None => true,
            };
            let Some(outcomes) = self.core.journal.outcomes(self.id, self.index).await? else {
                if ended || !self.follows || !self.wait().await {
                    // Outcomes written before the end are found now.
                    if self.core.journal.outcomes(self.id, self.index).await?.is_some() {
                        continue;
                    }
                    return Ok(Vec::new());
                }
                continue;
            };
            let mut taken = Vec::new();
            let from = self.index;
            for entry in outcomes.entries.into_iter().filter(|entry| entry.index >= from) {
                if entry.index != self.index && !ended && self.follows {
                    break;
                }
                self.index = entry.index + 1;
                taken.push(entry);
            }
            if ended || !self.follows {
                // An input without an outcome will have none, or is not waited for.
                self.index = outcomes.until;
            }
            if !taken.is_empty() {
                return Ok(taken);
            }
            if !ended && self.follows {
                self.wait().await;
            }
        }
    }

    /// Waits until more was written; returns whether that can be.
    async fn wait(&mut self) -> bool {
        match &mut self.progress {
            Some(progress) => progress.changed().await.is_ok(),
            None => false,
        }
    }

    async fn next_completed(&mut self) -> Result<Vec<Entry>, DurableError> {
        loop {
            if self.is_behind {
                match self.core.journal.outcomes(self.id, self.index).await? {
                    Some(outcomes) => {
                        self.index = outcomes.until;
                        let fresh = self.fresh(outcomes.entries);
                        if !fresh.is_empty() {
                            return Ok(fresh);
                        }
                        continue;
                    }
                    None => self.is_behind = false,
                }
            }
            let Some(batches) = self.batches.as_mut().filter(|_| self.follows) else { return Ok(Vec::new()) };
            match batches.recv().await {
                Ok(batch) if batch.is_empty() => (self.index, self.is_behind) = (0, true),
                Ok(batch) => {
                    let outcomes = batch.iter().filter(|entry| entry.is_outcome()).cloned().collect();
                    let fresh = self.fresh(outcomes);
                    if !fresh.is_empty() {
                        return Ok(fresh);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => (self.index, self.is_behind) = (0, true),
                Err(broadcast::error::RecvError::Closed) => {
                    // The map has ended; what was missed is on disk.
                    self.batches = None;
                }
            }
            if self.is_ended() && self.batches.as_ref().is_none_or(broadcast::Receiver::is_empty) {
                self.batches = None;
            }
        }
    }

    fn is_ended(&self) -> bool {
        self.progress.as_ref().is_none_or(|progress| progress.borrow().progress.ended_ms.is_some())
    }

    fn fresh(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        entries.into_iter().filter(|entry| self.seen.insert(entry.index)).collect()
    }
}

/// A set of small numbers.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Returns whether it was not there.
    fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}
