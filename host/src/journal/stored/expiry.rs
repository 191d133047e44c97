//! Retention: what has ended is deleted in small steps, the oldest first.

use super::files::forget;
use super::maps::map;
use super::*;

/// Calls that one step deletes, and rows of a map.
const STEP_ROWS: usize = 256;

impl StoreJournal {
    pub(super) async fn apps_with_ended(&self) -> Result<Vec<AppName>, JournalError> {
        self.read(|_, store| {
            let mut apps: Vec<AppName> = Vec::new();
            let (mut from, end) = (b"e".to_vec(), b"f".to_vec());
            loop {
                let between = (Bound::Included(from.as_slice()), Bound::Excluded(end.as_slice()));
                let found = store.range(Table::JournalIndex, between, 1, false)?;
                let Some((found, _)) = found.into_iter().next() else { return Ok(apps) };
                let name = found[1..].split(|byte| *byte == 0).next().unwrap_or_default();
                let Some(app) = std::str::from_utf8(name).ok().and_then(|name| AppName::new(name).ok()) else {
                    return Ok(apps);
                };
                from = key::after(&key::ended_of(&app));
                apps.push(app);
            }
        })
        .await
    }

    pub(super) async fn expire(&self, app: &AppName, until_ms: u64) -> Result<bool, JournalError> {
        let app = app.clone();
        let (ops, digests, more) = self
            .read(move |_, store| {
                let start = key::ended_of(&app);
                let end = [start.as_slice(), &until_ms.to_be_bytes()].concat();
                let between = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
                let found = store.range(Table::JournalIndex, between, STEP_ROWS, false)?;
                let more = found.len() == STEP_ROWS;
                let (mut ops, mut digests) = (Vec::new(), Vec::new());
                for (found, _) in found {
                    let Some(id) = key::id_of(&found) else { continue };
                    let is_map = found.get(start.len() + 8) == Some(&b'm');
                    let is_gone = if is_map {
                        delete_map(store, MapId::from_bytes(id), &mut ops)?
                    } else {
                        delete_call(store, CallId::from_bytes(id), &mut ops)?;
                        true
                    };
                    if !is_gone {
                        return Ok((ops, digests, true));
                    }
                    digests.extend(forget(store, &id, &mut ops)?);
                    ops.push(delete(Table::JournalIndex, found));
                }
                Ok((ops, digests, more))
            })
            .await?;
        if !ops.is_empty() {
            let _alone = self.files.write().await;
            self.write_between(Write::Essential, EXPIRE, ops).await?;
            self.remove_files(digests).await?;
        }
        Ok(more)
    }
}

fn delete_call(store: &Store, id: CallId, ops: &mut Vec<Op>) -> Result<(), JournalError> {
    let bytes = id.as_bytes();
    let Some(found) = store.get(Table::Calls, bytes)? else { return Ok(()) };
    let call: CallRecord = record(&found)?;
    let function = call.function_id();
    ops.extend([Table::Calls, Table::CallInputs, Table::CallOutputs].map(|table| delete(table, bytes.to_vec())));
    let mut index = vec![[key::of_function(&function, Kind::Call).as_slice(), bytes].concat()];
    index.extend(call.parent.map(|parent| key::child(parent, Kind::Call, *bytes)));
    index.extend(call.idempotency_key.map(|name| key::idempotency(&function, &name)));
    let children = rows(store, Table::JournalIndex, &key::children(id), None, usize::MAX)?;
    index.extend(children.into_iter().map(|(child, _)| child));
    ops.extend(index.into_iter().map(|key| delete(Table::JournalIndex, key)));
    Ok(())
}

/// Deletes some of a map; returns whether that was the last of it.
fn delete_map(store: &Store, id: MapId, ops: &mut Vec<Op>) -> Result<bool, JournalError> {
    for table in [Table::MapResults, Table::MapPending, Table::MapInputs] {
        let found = store.keys(table, id.as_bytes(), None, STEP_ROWS)?;
        let is_full = found.len() == STEP_ROWS;
        ops.extend(found.into_iter().map(|key| delete(table, key)));
        if is_full {
            return Ok(false);
        }
    }
    let Some(MapRecord { header, .. }) = map(store, id)? else { return Ok(true) };
    let function = header.function_id();
    let mut index = vec![[key::of_function(&function, Kind::Map).as_slice(), id.as_bytes()].concat()];
    index.extend(header.parent.map(|parent| key::child(parent, Kind::Map, *id.as_bytes())));
    index.extend(header.idempotency_key.map(|name| key::idempotency(&function, &name)));
    ops.extend(index.into_iter().map(|key| delete(Table::JournalIndex, key)));
    ops.extend([key::map_header(id), key::map_progress(id)].map(|key| delete(Table::Maps, key)));
    Ok(true)
}
