//! Calls of an engine in memory, and what calls and maps have in common: acceptance, lists, deletion.

use super::super::{
    Accept, Accepted, CallRecord, CallSettle, Claimed, Counts, Idempotency, KeyedRecord, Kind, LeaseToken, ListEntry,
    MapProgress, MapRecord, NewRecord, OpenCall, Query, Settled, State as CallState, StorageError, StoredPayload,
};
use super::state::{Call, Map, Party, StartNumber, State, gone};
use crate::call::Payload;
use crate::ids::{AppName, CallId, FunctionId, MapId, Version};

/// After this long, a call that another host runs is asked for again.
const LEASED_ELSEWHERE_MS: u64 = 1_000;

impl State {
    pub(crate) fn accept(&mut self, me: StartNumber, new: Vec<Accept>) -> Result<Vec<Accepted>, StorageError> {
        self.check(me)?;
        let is_leased =
            |accept: &Accept| matches!(&accept.record, NewRecord::Call(record, _) if record.state == CallState::Leased);
        if new.iter().any(is_leased) {
            self.holder(me)?;
        }
        new.into_iter().map(|accept| self.accept_one(me, accept)).collect()
    }

    fn accept_one(&mut self, me: StartNumber, accept: Accept) -> Result<Accepted, StorageError> {
        let (kind, id, function, parent) = match &accept.record {
            NewRecord::Call(record, _) => (Kind::Call, *record.id.as_bytes(), record.function_id(), record.parent),
            NewRecord::Map(header) => (Kind::Map, *header.id.as_bytes(), header.function_id(), header.parent),
        };
        let is_known = match kind {
            Kind::Call => self.calls.contains_key(&CallId::from_bytes(id)),
            Kind::Map => self.maps.contains_key(&MapId::from_bytes(id)),
        };
        if is_known {
            return Ok(Accepted::New);
        }
        if let Some(Idempotency { key, .. }) = &accept.idempotency
            && let Some(keyed) = self.keyed.get(&(function.clone(), key.clone()))
        {
            return Ok(Accepted::Existing(*keyed));
        }
        let is_parent_cancelled = match (accept.parent_map, parent) {
            (Some(map), _) => self.maps.get(&map).is_some_and(|map| map.record.header.is_cancelled),
            (None, Some(call)) => self.calls.get(&call).is_some_and(|call| call.record.state == CallState::Cancelled),
            (None, None) => false,
        };
        if is_parent_cancelled {
            return Ok(Accepted::ParentCancelled);
        }
        let open = self.open_of(&function.app, kind);
        if open >= accept.open_max {
            return Ok(Accepted::TooMany { open });
        }
        match accept.record {
            NewRecord::Call(record, input) => self.add_call(me, *record, input)?,
            NewRecord::Map(header) => {
                let record = MapRecord { header: *header, progress: MapProgress::default() };
                let map = Map { record, chunks: Default::default(), is_expiring: false };
                self.maps.insert(MapId::from_bytes(id), map);
            }
        }
        if let Some(Idempotency { key, fingerprint }) = accept.idempotency {
            self.keyed.insert((function, key), KeyedRecord { kind, id, fingerprint });
        }
        Ok(Accepted::New)
    }

    /// Adds a new call; its lease is this start's.
    pub(crate) fn add_call(&mut self, me: StartNumber, record: CallRecord, input: Payload) -> Result<(), StorageError> {
        let lease = if record.state == CallState::Leased { Some(self.holder(me)?) } else { None };
        let record = CallRecord { lease, ..record };
        let call = Call { input: StoredPayload::inline(input), output: None, is_expiring: false, record };
        self.calls.entry(call.record.id).or_insert(call);
        Ok(())
    }

    fn open_of(&self, app: &AppName, kind: Kind) -> usize {
        match kind {
            Kind::Call => self.open_calls().filter(|record| record.app == *app).count(),
            Kind::Map => self.open_maps().filter(|map| map.header.app == *app).count(),
        }
    }

    fn open_calls(&self) -> impl Iterator<Item = &CallRecord> {
        self.calls.values().map(|call| &call.record).filter(|record| !record.state.is_terminal())
    }

    fn open_maps(&self) -> impl Iterator<Item = &MapRecord> {
        self.maps.values().map(|map| &map.record).filter(|record| record.progress.ended_ms.is_none())
    }

    pub(crate) fn open(&self) -> Counts {
        Counts { calls: self.open_calls().count(), maps: self.open_maps().count() }
    }

    pub(crate) fn claim(
        &mut self,
        me: StartNumber,
        id: CallId,
        version: Option<Version>,
    ) -> Result<Claimed, StorageError> {
        self.check(me)?;
        let holder = self.holder(me)?;
        let Some(record) = self.calls.get(&id).map(|call| &call.record) else { return Ok(Claimed::Ended) };
        if record.state.is_terminal() {
            return Ok(Claimed::Ended);
        }
        let is_leased = record.state == CallState::Leased;
        match self.party(me, record.lease) {
            Party::Myself if is_leased => return Ok(Claimed::Leased(Box::new(record.clone()))),
            Party::Another if is_leased => return Ok(Claimed::Later { at_ms: self.now_ms + LEASED_ELSEWHERE_MS }),
            _ => {}
        }
        if let Some(at_ms) = record.next_ms.filter(|at_ms| !is_leased && *at_ms > self.now_ms) {
            return Ok(Claimed::Later { at_ms });
        }
        let record = CallRecord {
            state: CallState::Leased,
            lease: Some(holder),
            attempts: record.attempts + 1,
            lost: record.lost + u32::from(is_leased),
            next_ms: None,
            version,
            ..record.clone()
        };
        self.calls.get_mut(&id).ok_or_else(gone)?.record = record.clone();
        Ok(Claimed::Leased(Box::new(record)))
    }

    pub(crate) fn settle(&mut self, me: StartNumber, settle: CallSettle) -> Result<Settled, StorageError> {
        self.check(me)?;
        let CallSettle { record, lease, output } = settle;
        let present = &self.calls.get(&record.id).ok_or_else(gone)?.record;
        if present.state.is_terminal() {
            return Ok(Settled::Ended(Box::new(present.clone())));
        }
        let is_leased = present.state == CallState::Leased;
        match lease {
            // The same settle was written before.
            Some(_) if !is_leased && *present == CallRecord { lease: None, ..(*record).clone() } => {
                return Ok(Settled::Kept);
            }
            Some(LeaseToken { holder, attempt }) => {
                let is_mine = is_leased && present.lease == Some(holder) && present.attempts == attempt;
                if !is_mine || self.party(me, Some(holder)) != Party::Myself {
                    return Ok(Settled::Fenced);
                }
            }
            None if is_leased && self.party(me, present.lease) == Party::Another => return Ok(Settled::Fenced),
            None => {}
        }
        self.write_call(me, *record, output)?;
        Ok(Settled::Kept)
    }

    /// Writes the state of a call that has not ended; with its end, its run ends.
    pub(crate) fn write_call(
        &mut self,
        me: StartNumber,
        record: CallRecord,
        output: Option<Payload>,
    ) -> Result<(), StorageError> {
        let lease = if record.state == CallState::Leased { Some(self.holder(me)?) } else { None };
        let call = self.calls.get_mut(&record.id).ok_or_else(gone)?;
        call.record = CallRecord { lease, ..record };
        call.output = output.map(StoredPayload::inline).or(call.output.take());
        let record = &call.record;
        if let Some(number) = record.run.filter(|_| record.state.is_terminal())
            && let Some(run) = self.runs.get_mut(&record.function_id()).and_then(|runs| runs.get_mut(&number))
        {
            run.end(record);
        }
        Ok(())
    }

    /// Returns a call that does not count as deleted.
    pub(crate) fn visible_call(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id).filter(|call| !call.is_expiring)
    }

    /// Returns open calls that no other living host runs.
    pub(crate) fn held(&self, me: StartNumber, after: Option<CallId>, limit: usize) -> Vec<OpenCall> {
        let is_held = |record: &&CallRecord| self.party(me, record.lease) != Party::Another;
        let behind = self.open_calls().filter(|record| after.is_none_or(|after| record.id > after));
        let open = |record: &CallRecord| OpenCall {
            id: record.id,
            function: record.function_id(),
            priority: record.priority,
            next_ms: record.next_ms,
            run: record.run,
        };
        behind.filter(is_held).take(limit).map(open).collect()
    }

    pub(crate) fn held_maps(&self, after: Option<MapId>, limit: usize) -> Vec<MapRecord> {
        let behind = self.open_maps().filter(|map| after.is_none_or(|after| map.header.id > after));
        behind.take(limit).cloned().collect()
    }

    pub(crate) fn children(
        &self,
        parent: CallId,
        after: Option<(Kind, [u8; 16])>,
        limit: usize,
    ) -> Vec<(Kind, [u8; 16])> {
        let calls = self.calls.iter().filter(|(_, call)| call.record.parent == Some(parent));
        let maps = self.maps.iter().filter(|(_, map)| map.record.header.parent == Some(parent));
        let calls = calls.map(|(id, _)| (Kind::Call, *id.as_bytes()));
        let maps = maps.map(|(id, _)| (Kind::Map, *id.as_bytes()));
        calls.chain(maps).filter(|child| after.is_none_or(|after| *child > after)).take(limit).collect()
    }

    pub(crate) fn list(&self, query: &Query) -> (Vec<ListEntry>, Option<[u8; 16]>) {
        let is_wanted = |function: FunctionId| {
            let Some(app) = &query.app else { return true };
            function.app == *app && query.function.as_ref().is_none_or(|name| function.function == *name)
        };
        let calls = self.calls.values().filter(|call| is_wanted(call.record.function_id()));
        let maps = self.maps.values().filter(|map| is_wanted(map.record.header.function_id()));
        let calls = calls.map(|call| {
            let entry = (!call.is_expiring).then(|| ListEntry::Call(call.record.clone()));
            (*call.record.id.as_bytes(), entry)
        });
        let maps = maps.map(|map| {
            let entry = (!map.is_expiring).then(|| ListEntry::Map(map.record.clone()));
            (*map.record.header.id.as_bytes(), entry)
        });
        let mut rows: Vec<_> = calls.chain(maps).filter(|(id, _)| query.before.is_none_or(|at| *id < at)).collect();
        rows.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let is_more = rows.len() > query.limit;
        rows.truncate(query.limit);
        let next = rows.last().filter(|_| is_more).map(|(id, _)| *id);
        (rows.into_iter().filter_map(|(_, entry)| entry).collect(), next)
    }

    /// Deletes a marked call or map; where none is marked, marks one.
    pub(crate) fn expire(&mut self, me: StartNumber, app: &AppName, until_ms: u64) -> Result<bool, StorageError> {
        self.check(me)?;
        Ok(self.delete_expiring() || self.mark_expiring(app, until_ms))
    }

    pub(crate) fn sweep(&mut self, me: StartNumber) -> Result<(), StorageError> {
        self.check(me)?;
        while self.delete_expiring() {}
        Ok(())
    }

    fn delete_expiring(&mut self) -> bool {
        let call = self.calls.iter().find(|(_, call)| call.is_expiring).map(|(id, _)| *id);
        let map = self.maps.iter().find(|(_, map)| map.is_expiring).map(|(id, _)| *id);
        call.is_some_and(|id| self.calls.remove(&id).is_some()) || map.is_some_and(|id| self.maps.remove(&id).is_some())
    }

    /// Marks a call or map that ended before `until_ms`. Its idempotency key is free from then on.
    fn mark_expiring(&mut self, app: &AppName, until_ms: u64) -> bool {
        let is_over = |ended_ms: Option<u64>| ended_ms.is_some_and(|ended_ms| ended_ms < until_ms);
        for call in self.calls.values_mut().filter(|call| call.record.app == *app && !call.is_expiring) {
            let record = &call.record;
            if record.state.is_terminal() && is_over(record.ended_ms.or(Some(record.accepted_ms))) {
                call.is_expiring = true;
                if let Some(key) = &record.idempotency_key {
                    self.keyed.remove(&(record.function_id(), key.clone()));
                }
                return true;
            }
        }
        for map in self.maps.values_mut().filter(|map| map.record.header.app == *app && !map.is_expiring) {
            let MapRecord { header, progress } = &map.record;
            if is_over(progress.ended_ms) {
                map.is_expiring = true;
                if let Some(key) = &header.idempotency_key {
                    self.keyed.remove(&(header.function_id(), key.clone()));
                }
                return true;
            }
        }
        false
    }

    pub(crate) fn apps_with_ended(&self) -> Vec<AppName> {
        let calls = self.calls.values().filter(|call| call.record.state.is_terminal() && !call.is_expiring);
        let maps = self.maps.values().filter(|map| map.record.progress.ended_ms.is_some() && !map.is_expiring);
        let apps = calls.map(|call| &call.record.app).chain(maps.map(|map| &map.record.header.app));
        apps.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}
