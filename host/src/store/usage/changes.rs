//! Changes of the counts within one transaction.

use std::collections::HashMap;

use super::owner::{self, Owner, Weight};
use super::{AppUsage, COUNTED, Usage};
use crate::store::table::Table;

/// Changes since the transaction began. Those of a call or map whose app is not known yet wait until it is.
#[derive(Debug, Default)]
pub(crate) struct UsageChanges {
    by_app: HashMap<Box<str>, Delta>,
    by_record: HashMap<[u8; 16], Delta>,
    apps: HashMap<[u8; 16], Box<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delta {
    bytes: i64,
    large_values: i64,
}

impl Delta {
    fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.large_values = self.large_values.saturating_add(other.large_values);
    }

    fn between(before: Weight, after: Weight) -> Self {
        let minus = |after: u64, before: u64| after.cast_signed().saturating_sub(before.cast_signed());
        Self { bytes: minus(after.bytes, before.bytes), large_values: minus(after.large_values, before.large_values) }
    }

    fn applied_to(self, usage: AppUsage) -> AppUsage {
        AppUsage {
            bytes: usage.bytes.saturating_add_signed(self.bytes),
            large_values: usage.large_values.saturating_add_signed(self.large_values),
        }
    }
}

/// What a row is before or after a change, as far as it is counted.
#[derive(Debug, Default)]
pub(crate) struct CountedRow {
    weight: Weight,
    /// App of a record.
    app: Option<Box<str>>,
}

impl CountedRow {
    pub(crate) fn of(table: Table, key: &[u8], value: &[u8]) -> Self {
        match owner::owner(table, key) {
            Some(_) => {
                let app = owner::is_record(table, key).then(|| owner::app_of_record(value)).flatten();
                Self { weight: owner::weight(table, key, value), app }
            }
            None => Self::default(),
        }
    }

    /// Returns what it counts for.
    pub(crate) fn bytes(&self) -> u64 {
        self.weight.bytes
    }
}

impl UsageChanges {
    /// Counts the change of a row; `None` is no row.
    pub(crate) fn count(&mut self, table: Table, key: &[u8], before: Option<CountedRow>, after: Option<CountedRow>) {
        let Some(owner) = owner::owner(table, key) else { return };
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let delta = Delta::between(before.weight, after.weight);
        match owner {
            Owner::App(app) => self.add(app, delta),
            Owner::Record(id) => {
                if let Some(app) = after.app.or(before.app) {
                    self.learn(*id, app);
                }
                match self.apps.get(id).cloned() {
                    Some(app) => self.add(&app, delta),
                    None => self.by_record.entry(*id).or_default().add(delta),
                }
            }
        }
    }

    fn add(&mut self, app: &str, delta: Delta) {
        match self.by_app.get_mut(app) {
            Some(sum) => sum.add(delta),
            None => drop(self.by_app.insert(app.into(), delta)),
        }
    }

    /// Takes note of the app of a call or map.
    pub(crate) fn learn(&mut self, id: [u8; 16], app: Box<str>) {
        if let Some(delta) = self.by_record.remove(&id) {
            self.add(&app, delta);
        }
        self.apps.insert(id, app);
    }

    /// Returns the calls and maps whose app is needed and not known.
    pub(crate) fn unknown(&self) -> Vec<[u8; 16]> {
        let changed = self.by_record.iter().filter(|(_, delta)| **delta != Delta::default());
        changed.map(|(id, _)| *id).collect()
    }

    /// Returns the bytes of an app with these changes.
    pub(crate) fn bytes(&self, usage: &Usage, app: &str) -> u64 {
        let delta = self.by_app.get(app).copied().unwrap_or_default();
        delta.applied_to(usage.of(app)).bytes
    }

    /// Returns the new counts of the apps that changed.
    pub(crate) fn totals(&self, usage: &Usage) -> Vec<(Box<str>, AppUsage)> {
        let changed = self.by_app.iter().filter(|(_, delta)| **delta != Delta::default());
        changed.map(|(app, delta)| (app.clone(), delta.applied_to(usage.of(app)))).collect()
    }
}

/// Rows that keep counts: `None` deletes.
pub(crate) type UsageRow = (Vec<u8>, Option<Vec<u8>>);

/// Returns the rows of new counts. With `is_exact` false, the mark of exact counts goes.
pub(crate) fn rows(totals: &[(Box<str>, AppUsage)], is_exact: bool) -> Vec<UsageRow> {
    let mark = (!is_exact).then(|| (COUNTED.to_vec(), None));
    let counts = totals.iter().map(|(app, usage)| {
        let row = (*usage != AppUsage::default()).then(|| usage.encode().to_vec());
        (app.as_bytes().to_vec(), row)
    });
    counts.chain(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(table: Table, key: &[u8], value: &[u8]) -> Option<CountedRow> {
        Some(CountedRow::of(table, key, value))
    }

    #[test]
    fn rows_that_come_before_their_record_count_once_it_is_there() {
        let (usage, mut changes, id) = (Usage::default(), UsageChanges::default(), [1; 16]);
        changes.count(Table::CallInputs, &id, None, row(Table::CallInputs, &id, b"1234"));
        assert_eq!(changes.unknown(), [id]);
        let record = br#"{"id":"x","app":"a","function":"f"}"#;
        changes.count(Table::Calls, &id, None, row(Table::Calls, &id, record));
        assert!(changes.unknown().is_empty());
        let bytes = 20 + 16 + record.len() as u64 + super::super::INDEX_BYTES;
        assert_eq!(changes.totals(&usage), [("a".into(), AppUsage { bytes, large_values: 0 })]);
        // The record goes first, and the rest is still known to be its.
        changes.count(Table::Calls, &id, row(Table::Calls, &id, record), None);
        changes.count(Table::CallInputs, &id, row(Table::CallInputs, &id, b"1234"), None);
        assert!(changes.unknown().is_empty() && changes.totals(&usage).is_empty());
    }

    #[test]
    fn a_change_that_nobody_owns_takes_the_mark_away() {
        let mut changes = UsageChanges::default();
        changes.count(Table::CallInputs, &[1; 16], row(Table::CallInputs, &[1; 16], b"1"), None);
        assert_eq!(changes.unknown().len(), 1);
        assert_eq!(rows(&[], false), [(COUNTED.to_vec(), None)]);
        assert!(rows(&[], true).is_empty());
    }
}
