//! Requests on durable maps: create, append, close, cancel, retry failed inputs.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;

use super::live::{LiveMap, Subscription};
use crate::call::Payload;
use crate::clock::unix_ms;
use crate::dispatch::call::{check, shutting_down};
use crate::dispatch::durable::core::{Core, Options};
use crate::dispatch::durable::error::DurableError;
use crate::dispatch::durable::idempotency::fingerprint;
use crate::dispatch::map::State;
use crate::ids::MapId;
use crate::limits::MAP_INPUTS_MAX;
use crate::sandbox::FunctionRef;
use crate::storage::{Idempotency, KeyedRecord, Kind, MapHeader, MapProgress, MapRecord, StorageError};

/// The durable maps of a host.
pub struct Maps {
    pub core: Arc<Core>,
    /// Maps that have not ended.
    live: DashMap<MapId, Arc<LiveMap>>,
    /// Held while a map that has ended is reopened.
    retrying: tokio::sync::Mutex<()>,
}

impl Maps {
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, live: DashMap::new(), retrying: tokio::sync::Mutex::default() }
    }

    /// Returns how many maps have not ended.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Begins nothing more.
    pub fn stop(&self) {
        for map in &self.live {
            map.stop();
        }
    }

    /// Makes a map. Its inputs come with `append`.
    pub async fn create_map(
        self: &Arc<Self>,
        function: &FunctionRef,
        options: Options,
    ) -> Result<MapRecord, DurableError> {
        let depth = options.depth(&function.name)?;
        check(function, &Payload::json(""))?;
        let id = function.id();
        let found = async |keyed: KeyedRecord| self.map(MapId::from_bytes(keyed.id)).await;
        let make = async |idempotency: Option<Idempotency>| {
            let reservation = self.core.open.reserve(&id.app, Kind::Map)?;
            let header = MapHeader {
                id: MapId::generate(),
                app: id.app.clone(),
                function: id.function.clone(),
                principal: options.principal,
                priority: options.priority,
                created_ms: unix_ms(),
                accepted: 0,
                is_closed: false,
                is_cancelled: false,
                parent: options.parent.map(|(parent, _)| parent),
                depth,
                idempotency_key: idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
            };
            self.core.journal.create_map(&header, idempotency.as_ref()).await?;
            reservation.keep();
            let record = MapRecord { header, progress: MapProgress::default() };
            self.take_up(record.clone());
            Ok(record)
        };
        let Core { journal, idempotency, .. } = &*self.core;
        idempotency.once(&**journal, &id, options.key.as_deref(), fingerprint(&[b"map"]), found, make).await
    }

    /// Keeps inputs, of which the first is input `from`; those that are there already are passed over. Without `from`
    /// they come behind what is there, whoever else appends. Returns how many inputs the map has.
    pub async fn append(&self, id: MapId, from: Option<u64>, inputs: Vec<Payload>) -> Result<u64, DurableError> {
        // A repeated request gets its answer again, also when the map takes nothing new.
        if let Some(from) = from {
            let accepted = self.map(id).await?.header.accepted;
            if from.saturating_add(inputs.len() as u64) <= accepted {
                self.compare(id, from, &inputs).await?;
                return Ok(accepted);
            }
        }
        let map = self.open_map(id).await?;
        let _header = map.header_lock.lock().await;
        let mut header = map.open_header()?;
        let accepted = header.accepted;
        let from = from.unwrap_or(accepted);
        if from > accepted {
            return Err(DurableError::Gap { id, accepted, from });
        }
        let known = usize::try_from(accepted - from).unwrap_or(usize::MAX);
        self.compare(id, from, &inputs[..known.min(inputs.len())]).await?;
        let new: Vec<Payload> = inputs.into_iter().skip(known).collect();
        if new.is_empty() {
            return Ok(accepted);
        }
        header.accepted += new.len() as u64;
        if header.accepted > MAP_INPUTS_MAX {
            return Err(DurableError::Closed { id, why: "has as many inputs as a map can have" });
        }
        // Inputs that can run at once are leased with the same write and not read again.
        let reserved = {
            let state = map.engine.lock();
            state.backing.reserve_new(&state.window, &new)
        };
        let pending = self.core.journal.append(&header, accepted, new.clone(), reserved.is_some()).await?;
        let accepted = header.accepted;
        map.change(|State { window, backing, .. }| {
            backing.header = header;
            match reserved {
                Some(reserved) => backing.load_new(window, pending, new, reserved),
                None => backing.has_more = true,
            }
        });
        Ok(accepted)
    }

    /// Refuses inputs that are not those that the map has at their place.
    async fn compare(&self, id: MapId, from: u64, inputs: &[Payload]) -> Result<(), DurableError> {
        let mut sent = inputs.iter().zip(from..).peekable();
        while let Some((_, index)) = sent.peek().copied() {
            let Some((first, kept)) = self.core.journal.inputs(id, index).await? else { return Ok(()) };
            for kept in kept.into_iter().skip((index - first) as usize) {
                let Some((sent, index)) = sent.next() else { return Ok(()) };
                if self.core.journal.payload(kept).await? != *sent {
                    return Err(DurableError::Differs { id, index });
                }
            }
        }
        Ok(())
    }

    /// Says that no more inputs will come.
    pub async fn close_map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        let record = self.map(id).await?;
        if record.header.is_closed || record.header.is_cancelled {
            return Ok(record);
        }
        let map = self.open_map(id).await?;
        let _header = map.header_lock.lock().await;
        let header = MapHeader { is_closed: true, ..map.open_header()? };
        self.core.journal.save_map(&header).await?;
        map.set_header(header);
        drop(_header);
        self.map(id).await
    }

    /// Cancels what has not ended, and nothing else. One that has ended stays as it was.
    pub async fn cancel_map_one(&self, id: MapId) -> Result<MapRecord, DurableError> {
        let Some(map) = self.live.get(&id).map(|map| map.clone()) else {
            let record = self.map(id).await?;
            let is_over = record.progress.ended_ms.is_some() || record.header.is_cancelled;
            return if is_over { Ok(record) } else { Err(shutting_down().into()) };
        };
        {
            let _header = map.header_lock.lock().await;
            if map.is_ended() {
                // Its tasks end a moment after it.
                return self.map(id).await;
            }
            let header = MapHeader { is_cancelled: true, ..map.header() };
            self.core.journal.save_map(&header).await?;
            map.set_header(header);
        }
        // Calls under way end before the counts are final; those of a host that ends, with the next one.
        let (_, mut progress) = map.subscribe();
        drop(map);
        tokio::select! {
            _ = progress.wait_for(|record| record.progress.ended_ms.is_some()) => {}
            () = self.core.runner.closing() => {}
        }
        self.map(id).await
    }

    /// Returns a map as it is on disk.
    pub async fn map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        self.core.journal.map(id).await?.ok_or(DurableError::UnknownMap { id })
    }

    /// Runs the inputs without a result again, of a map that has ended: those that failed, and those that were
    /// cancelled. Returns how many there are.
    pub async fn retry_failed(self: &Arc<Self>, id: MapId) -> Result<u64, DurableError> {
        // One at a time: a map is taken up once.
        let _retrying = self.retrying.lock().await;
        let mut record = self.map(id).await?;
        // Its tasks end a moment after the map has.
        for _ in 0..100 {
            if record.progress.ended_ms.is_none() || !self.live.contains_key(&id) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if record.progress.ended_ms.is_none() || self.live.contains_key(&id) {
            return Err(DurableError::NotEnded { id });
        }
        let cancelled = record.cancelled();
        let again = record.progress.failed + record.progress.dead + cancelled;
        if again == 0 {
            return Ok(0);
        }
        let app = record.header.app.clone();
        let reservation = self.core.open.reserve(&app, Kind::Map)?;
        let reset = self.reset_failures(&mut record).await;
        // The map is open again for the inputs that were reset, also when the rest failed.
        if record.progress.ended_ms.is_none() {
            reservation.keep();
            self.take_up(record);
        }
        reset.map(|()| again)
    }

    async fn reset_failures(&self, record: &mut MapRecord) -> Result<(), DurableError> {
        let id = record.header.id;
        let mut index = 0;
        while let Some(outcomes) = self.core.journal.outcomes(id, index).await? {
            index = outcomes.first + outcomes.len;
            let counts = outcomes.counts;
            let is_whole = counts.done + counts.failed + counts.dead == outcomes.len;
            // One that is not whole was cancelled. It begins anew too: no host died over the lease that it has.
            if is_whole && counts.failed + counts.dead == 0 {
                continue;
            }
            let mut after = record.clone();
            after.progress.failed = after.progress.failed.saturating_sub(counts.failed);
            after.progress.dead = after.progress.dead.saturating_sub(counts.dead);
            after.progress.ended_ms = None;
            after.header.is_cancelled = false;
            after.header.is_closed = true;
            match self.core.journal.reset_failures(record, &after, outcomes.first).await {
                Err(StorageError::Expired) => return Err(DurableError::UnknownMap { id }),
                result => result?,
            }
            *record = after;
        }
        Ok(())
    }

    /// Returns a map that has not ended, or says why there is none.
    async fn open_map(&self, id: MapId) -> Result<Arc<LiveMap>, DurableError> {
        if let Some(map) = self.live.get(&id) {
            return Ok(map.clone());
        }
        match self.map(id).await?.header {
            header if header.is_cancelled => Err(DurableError::Closed { id, why: "was cancelled" }),
            header if header.is_closed => Err(DurableError::Closed { id, why: "was closed" }),
            _ => Err(shutting_down().into()),
        }
    }

    /// Returns a place to follow a map's outcomes from, if it has not ended.
    pub fn subscribe(&self, id: MapId) -> Option<Subscription> {
        self.live.get(&id).map(|map| map.subscribe())
    }

    /// Starts the tasks of a map that has not ended.
    pub fn take_up(self: &Arc<Self>, record: MapRecord) {
        let map = LiveMap::new(&self.core, record);
        self.live.insert(map.id, map.clone());
        let this = self.clone();
        self.core.lifecycle.spawn(async move {
            map.run_to_its_end().await;
            // A host on its way down runs nothing more, and still accepts inputs, which the next one runs.
            if !map.is_ended() {
                map.core.lifecycle.stopped().await;
            }
            this.live.remove(&map.id);
        });
    }
}
