//! Records of apps: a row for each change, the rows of one app adjacent and in order.

use std::ops::Bound;
use std::sync::Arc;

use super::{Op, StoreDir, StoreError, Table, View, ViewError, Write};
use crate::ids::AppName;
use crate::storage::{Action, Answer, AppRecord, Apps, Pushed};
use crate::tasks::blocking;

/// Records of the apps of a data directory.
pub(super) struct StoreApps {
    dir: Arc<StoreDir>,
}

impl StoreApps {
    pub(super) fn new(dir: Arc<StoreDir>) -> Self {
        Self { dir }
    }

    fn read(&self) -> Result<Vec<(AppName, AppRecord)>, StoreError> {
        let mut records = Vec::new();
        for (key, value) in self.dir.store()?.entries(Table::Deployments)? {
            match (app_of(&key), serde_json::from_slice(&value)) {
                (Some(app), Ok(record)) => records.push((app, record)),
                (app, _) => tracing::warn!(?app, "a record of a deployment cannot be read and is passed over"),
            }
        }
        Ok(records)
    }

    async fn write(&self, app: &AppName, record: &AppRecord, displaced: &[u64]) -> Result<Pushed, StoreError> {
        let value = serde_json::to_vec(record).expect("records have string keys only");
        let bytes = value.len();
        let (app, number, displaced) = (app.clone(), record.number, displaced.to_vec());
        let decide = move |view: &View<'_>| -> Result<_, ViewError> {
            let (first, last) = (key(&app, 0), key(&app, u64::MAX));
            let between = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
            let last = view.last(Table::Deployments, between)?;
            // After an answer that was lost.
            if last.as_ref().is_some_and(|(_, present)| present[..] == value[..]) {
                return Ok((Vec::new(), Pushed::Kept));
            }
            let last = last.and_then(|(key, _)| number_of(&key)).unwrap_or_default();
            if last.checked_add(1) != Some(number) {
                // The same record, pushed again, is there already.
                let there = view.get(Table::Deployments, &key(&app, number))?;
                let is_there = last == number && there.is_some_and(|there| *there == *value);
                return Ok((Vec::new(), if is_there { Pushed::Kept } else { Pushed::Conflict { last } }));
            }
            let put = Op::Put { table: Table::Deployments, key: key(&app, number), value: value.clone() };
            let delete = |number: &u64| Op::Delete { table: Table::Deployments, key: key(&app, *number) };
            Ok((std::iter::once(put).chain(displaced.iter().map(delete)).collect(), Pushed::Kept))
        };
        let write = match record.action {
            Action::Deploy => Write::New,
            Action::Rollback | Action::Stop => Write::Relief,
        };
        self.dir.store()?.transact(None, write, bytes, decide).await
    }
}

impl Apps for StoreApps {
    fn records(&self) -> Answer<'_, Vec<(AppName, AppRecord)>> {
        Box::pin(async move {
            let this = Self::new(self.dir.clone());
            Ok(blocking(move || this.read()).await?)
        })
    }

    fn push<'a>(&'a self, app: &'a AppName, record: &'a AppRecord, displaced: &'a [u64]) -> Answer<'a, Pushed> {
        Box::pin(async move { Ok(self.write(app, record, displaced).await?) })
    }
}

/// Returns the key of a record; the keys of one app are adjacent and in order.
fn key(app: &AppName, number: u64) -> Vec<u8> {
    // Names hold no NUL, so no app's prefix begins another's key.
    [prefix(app).as_slice(), &number.to_be_bytes()].concat()
}

/// Returns the prefix of the keys of an app.
fn prefix(app: &AppName) -> Vec<u8> {
    [app.as_str().as_bytes(), b"\0"].concat()
}

/// Returns the app of a key.
fn app_of(key: &[u8]) -> Option<AppName> {
    let name = key.split(|byte| *byte == 0).next()?;
    AppName::new(std::str::from_utf8(name).ok()?).ok()
}

/// Returns the number of a key.
fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(key.len().checked_sub(8)?..)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::ids::Version;

    #[test]
    fn keys_of_one_app_are_in_order_and_apart_from_others() {
        let (a, ab) = (AppName::new("a").unwrap(), AppName::new("ab").unwrap());
        let mut keys = [key(&ab, 1), key(&a, 256), key(&a, 255), key(&a, 1)];
        keys.sort();
        assert_eq!(keys, [key(&a, 1), key(&a, 255), key(&a, 256), key(&ab, 1)]);
        assert_eq!(app_of(&key(&ab, 7)), Some(ab));
        assert_eq!(app_of(b"../x\0"), None);
    }

    fn full(action: Action) -> AppRecord {
        AppRecord {
            number: 7,
            action,
            version: Version::of_digest(&[0xab; 32]),
            digest: "ab".repeat(32),
            at_ms: 1_000,
            bytes: 2_000,
            functions: vec!["f".parse().unwrap(), "g".parse().unwrap()],
            grants: vec!["$site=http://127.0.0.1:1".to_owned()],
            capabilities: ["outbound:$site", "model:m", "secret:S"].map(|text| text.parse().unwrap()).into(),
            added: vec!["secret:S".parse().unwrap()],
            message: Some("a message".to_owned()),
        }
    }

    /// Pins the on-disk format, which users' data directories hold (`docs/decisions/store-format.md`).
    #[test]
    fn a_record_is_on_disk_as_it_was() {
        let check = |record: AppRecord, expected: Expect| {
            let json = serde_json::to_string_pretty(&record).unwrap();
            expected.assert_eq(&json);
            assert_eq!(serde_json::from_str::<AppRecord>(&json).unwrap(), record);
        };
        check(
            full(Action::Deploy),
            expect![[r#"
            {
              "number": 7,
              "action": "deploy",
              "version": "abababababab",
              "digest": "abababababababababababababababababababababababababababababababab",
              "at_ms": 1000,
              "bytes": 2000,
              "functions": [
                "f",
                "g"
              ],
              "grants": [
                "$site=http://127.0.0.1:1"
              ],
              "capabilities": [
                "outbound:$site",
                "model:m",
                "secret:S"
              ],
              "added": [
                "secret:S"
              ],
              "message": "a message"
            }"#]],
        );
        check(
            AppRecord { message: None, ..full(Action::Stop) },
            expect![[r#"
            {
              "number": 7,
              "action": "stop",
              "version": "abababababab",
              "digest": "abababababababababababababababababababababababababababababababab",
              "at_ms": 1000,
              "bytes": 2000,
              "functions": [
                "f",
                "g"
              ],
              "grants": [
                "$site=http://127.0.0.1:1"
              ],
              "capabilities": [
                "outbound:$site",
                "model:m",
                "secret:S"
              ],
              "added": [
                "secret:S"
              ]
            }"#]],
        );
        let names = serde_json::to_string(&[Action::Deploy, Action::Rollback, Action::Stop]).unwrap();
        let key = key(&AppName::new("app").unwrap(), 258);
        expect![[r#"["deploy","rollback","stop"]"#]].assert_eq(&names);
        expect![[r#"app\x00\x00\x00\x00\x00\x00\x00\x01\x02"#]].assert_eq(&key.escape_ascii().to_string());
    }

    #[test]
    fn a_record_of_before_there_were_grants_is_read() {
        let json = serde_json::to_value(full(Action::Deploy)).unwrap();
        let old = ["grants", "capabilities", "added", "message"].iter().fold(json, |mut json, name| {
            json.as_object_mut().unwrap().remove(*name).unwrap();
            json
        });
        let read: AppRecord = serde_json::from_value(old).unwrap();
        let (grants, capabilities, added, message) = Default::default();
        assert_eq!(read, AppRecord { grants, capabilities, added, message, ..full(Action::Deploy) });
    }
}
