//! Requests on durable maps: create, append, close, cancel, retry failed inputs.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;

use super::live::{LiveMap, Subscription};
use crate::call::Payload;
use crate::dispatch::call::{check, shutting_down};
use crate::dispatch::durable::core::{Core, Options};
use crate::dispatch::durable::error::DurableError;
use crate::dispatch::durable::idempotency::identity;
use crate::dispatch::durable::lifecycle::STORE_RETRY_WAIT;
use crate::dispatch::map::State;
use crate::ids::MapId;
use crate::limits::{MAP_INPUTS_MAX, OPEN_MAPS_PER_APP_MAX};
use crate::sandbox::FunctionRef;
use crate::storage::{
    Accept, Append, Appended, ErrorKind, MapHeader, MapMark, MapProgress, MapRecord, NewRecord, StorageError,
};

/// Looks for a map whose accept had no answer, after which it is taken to be none.
const LOOKS_MAX: u32 = 3;

/// The durable maps of a host.
pub(crate) struct Maps {
    pub core: Arc<Core>,
    /// Maps that have not ended.
    live: DashMap<MapId, Arc<LiveMap>>,
    /// Held while a map that has ended is reopened.
    retrying: tokio::sync::Mutex<()>,
}

impl Maps {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, live: DashMap::new(), retrying: tokio::sync::Mutex::default() }
    }

    /// Begins nothing more.
    pub(crate) fn stop(&self) {
        for map in &self.live {
            map.stop();
        }
    }

    /// Makes a map. Its inputs come with `append`.
    pub(crate) async fn create_map(
        self: &Arc<Self>,
        function: &FunctionRef,
        options: Options,
    ) -> Result<MapRecord, DurableError> {
        let depth = options.depth(&function.name)?;
        check(function, &Payload::json(""))?;
        let idempotency = identity(options.key.as_deref(), &[b"map"])?;
        let header = MapHeader {
            id: MapId::generate(),
            app: function.app().clone(),
            function: function.name.clone(),
            principal: options.principal,
            priority: options.priority,
            created_ms: self.core.now_ms(),
            accepted: 0,
            is_closed: false,
            is_cancelled: false,
            parent: options.parent.map(|(parent, _)| parent),
            depth,
            idempotency_key: options.key,
        };
        let accept = Accept {
            record: NewRecord::Map(Box::new(header.clone())),
            idempotency,
            parent_map: options.parent_map,
            open_max: OPEN_MAPS_PER_APP_MAX,
        };
        match self.core.accept(accept).await {
            Ok(None) => {
                let record = MapRecord { header, progress: MapProgress::default() };
                self.take_up(record.clone());
                Ok(record)
            }
            Ok(Some(first)) => self.map(MapId::from_bytes(first.id)).await,
            Err(error) => {
                if let DurableError::Unanswered { .. } = error {
                    self.core.lifecycle.spawn(self.clone().look_for(header.id));
                }
                Err(error)
            }
        }
    }

    /// Takes a map up that may have been accepted, once it is found.
    async fn look_for(self: Arc<Self>, id: MapId) {
        let mut looks = 0;
        while looks < LOOKS_MAX {
            match self.core.lifecycle.answered(|| self.core.journal.map(id)).await {
                Ok(Some(record)) => return self.take_up(record),
                Ok(None) => looks += 1,
                Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Gone) => return,
                // A look that failed says nothing about the map.
                Err(error) => {
                    tracing::warn!(map = %id, error = &error as &dyn std::error::Error, "a map cannot be read");
                }
            }
            tokio::select! {
                () = self.core.lifecycle.stopped() => return,
                () = tokio::time::sleep(STORE_RETRY_WAIT) => {}
            }
        }
    }

    /// Keeps inputs, of which the first is input `from`; those that are there already are passed over. Without `from`
    /// they come behind what is there, whoever else appends. Returns how many inputs the map has.
    pub(crate) async fn append(
        &self,
        id: MapId,
        from: Option<u64>,
        mut inputs: Vec<Payload>,
    ) -> Result<u64, DurableError> {
        let mut found = 0;
        // A repeated request gets its answer again, also when the map takes nothing new.
        if let Some(from) = from {
            let accepted = self.map(id).await?.header.accepted;
            if from.saturating_add(inputs.len() as u64) <= accepted {
                self.compare(id, from, &inputs).await?;
                return Ok(accepted);
            }
            found = accepted;
        }
        let map = self.open_map(id).await?;
        let _appending = map.appending.lock().await;
        map.change(|state| state.backing.found(found));
        loop {
            let accepted = map.open_header()?.accepted;
            let from = from.unwrap_or(accepted);
            if from > accepted {
                return Err(DurableError::Gap { id, accepted, from });
            }
            let known = inputs.len().min(usize::try_from(accepted - from).unwrap_or(usize::MAX));
            self.compare(id, from, &inputs[..known]).await?;
            let new = &inputs[known..];
            if new.is_empty() {
                return Ok(accepted);
            }
            if accepted + new.len() as u64 > MAP_INPUTS_MAX {
                return Err(DurableError::Closed { id, why: "has as many inputs as a map can have" });
            }
            // Inputs that can run at once are leased with the same write and not read again.
            let reserved = {
                let state = map.engine.lock();
                state.backing.reserve_new(&state.window, new)
            };
            let append = Append { map: id, at: accepted, inputs: new.to_vec(), is_leased: reserved.is_some() };
            match self.core.journal.append(append).await {
                Ok(Appended::Kept { header, chunks }) => {
                    map.fed();
                    map.change(|State { window, backing, .. }| match reserved {
                        Some(reserved) => {
                            backing.header.accepted = backing.header.accepted.max(header.accepted);
                            backing.load_new(window, chunks, inputs.split_off(known), reserved);
                        }
                        None => backing.follow(&header),
                    });
                    return Ok(header.accepted);
                }
                Ok(Appended::Gap { accepted }) => map.change(|state| state.backing.found(accepted)),
                Ok(Appended::Closed(header)) => map.follow(&header),
                Err(source) if source.kind() == ErrorKind::Unknown => {
                    // Chunks that were written are found when more are loaded.
                    map.change(|state| state.backing.has_more = true);
                    return Err(DurableError::Unanswered { what: "append", source });
                }
                Err(error) => return Err(error.into()),
            }
        }
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
    pub(crate) async fn close_map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        self.mark_live(id, MapMark::Close).await.map(|(record, _)| record)
    }

    /// Closes or cancels a map, and lets its tasks know if it runs here.
    async fn mark_live(&self, id: MapId, mark: MapMark) -> Result<(MapRecord, Option<Arc<LiveMap>>), DurableError> {
        let live = || self.live.get(&id).map(|map| map.clone());
        // Found before: one that is found after it may be the same map, reopened since.
        let before = live();
        let record = self.mark(id, mark).await?.ok_or(DurableError::UnknownMap { id })?;
        let map = before.or_else(|| live().filter(|_| record.progress.ended_ms.is_none()));
        if let Some(map) = &map {
            map.follow(&record.header);
        }
        Ok((record, map))
    }

    /// Closes or cancels a map on disk.
    pub(crate) async fn mark(&self, id: MapId, mark: MapMark) -> Result<Option<MapRecord>, StorageError> {
        self.core.lifecycle.answered(|| self.core.journal.mark(id, mark)).await
    }

    /// Cancels what has not ended, and nothing else. One that has ended stays as it was.
    pub(crate) async fn cancel_map_one(&self, id: MapId) -> Result<MapRecord, DurableError> {
        let (record, live) = self.mark_live(id, MapMark::Cancel).await?;
        let Some(map) = live else { return Ok(record) };
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
    pub(crate) async fn map(&self, id: MapId) -> Result<MapRecord, DurableError> {
        self.core.journal.map(id).await?.ok_or(DurableError::UnknownMap { id })
    }

    /// Runs the inputs without a result again, of a map that has ended: those that failed, and those that were
    /// cancelled. Returns how many there are.
    pub(crate) async fn retry_failed(self: &Arc<Self>, id: MapId) -> Result<u64, DurableError> {
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
        let app = &record.header.app;
        let open = self.live.iter().filter(|map| map.app() == app).count();
        if open >= OPEN_MAPS_PER_APP_MAX {
            return Err(DurableError::TooMany { app: app.clone(), open, what: "map" });
        }
        let reset = self.reset_failures(&mut record).await;
        // The map is open again for the inputs that were reset, also when the rest failed.
        if record.progress.ended_ms.is_none() {
            self.take_up(record);
        }
        reset.map(|()| again)
    }

    async fn reset_failures(&self, record: &mut MapRecord) -> Result<(), DurableError> {
        let id = record.header.id;
        let mut index = 0;
        while let Some(outcomes) = self.core.journal.outcomes(id, index).await? {
            index = outcomes.first + outcomes.len;
            // One that is not whole was cancelled. It begins anew too: no host died over the lease that it has.
            if outcomes.counts.are_all_done(outcomes.len) {
                continue;
            }
            let reset = || self.core.journal.reset_failures(id, outcomes.first);
            match self.core.lifecycle.answered(reset).await {
                Ok(reset) => *record = reset,
                Err(error) if error.kind() == ErrorKind::Gone => return Err(DurableError::UnknownMap { id }),
                Err(error) => return Err(error.into()),
            }
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
    pub(crate) fn subscribe(&self, id: MapId) -> Option<Subscription> {
        self.live.get(&id).map(|map| map.subscribe())
    }

    /// Starts the tasks of a map that has not ended.
    pub(crate) fn take_up(self: &Arc<Self>, record: MapRecord) {
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
