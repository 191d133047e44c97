//! History of one app: the live version, and targets of a rollback. Plain data, no disk.

use crate::ids::Version;
use crate::storage::AppRecord as Record;

/// Records kept for each app; older ones, and components named by them alone, are removed.
pub(crate) const RECORDS_MAX: usize = 50;

/// An app's records, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<Record>);

/// A rollback without a target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RollbackError {
    #[error("there is no earlier version")]
    NoEarlier,
    #[error("no kept version begins with `{given}`; kept: {kept}")]
    Unknown { given: String, kept: String },
    #[error("`{given}` is the beginning of several versions: {found}")]
    Ambiguous { given: String, found: String },
    #[error("version {version} is live already")]
    Live { version: Version },
}

impl History {
    /// Returns the records, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().rev()
    }

    /// Returns the newest record.
    pub(crate) fn last(&self) -> Option<&Record> {
        self.0.last()
    }

    /// Returns the record of the live version.
    pub(crate) fn live(&self) -> Option<&Record> {
        self.last().filter(|record| record.is_live())
    }

    /// Returns the number of the next record.
    pub(crate) fn next_number(&self) -> u64 {
        self.last().map_or(1, |last| last.number + 1)
    }

    /// Adds a record; returns the one that it displaces.
    pub(crate) fn push(&mut self, record: Record) -> Option<Record> {
        self.0.push(record);
        (self.0.len() > RECORDS_MAX).then(|| self.0.remove(0))
    }

    /// Returns the target of a rollback: the version with the prefix `to`, or the one that was live before (of a
    /// stopped app, the last that ran).
    pub(crate) fn rollback(&self, to: Option<&str>) -> Result<&Record, RollbackError> {
        let ran = || self.newest_first().filter(|record| record.is_live());
        let live = self.live().map(|record| &record.version);
        let Some(given) = to else {
            return ran().find(|record| Some(&record.version) != live).ok_or(RollbackError::NoEarlier);
        };
        let mut found: Vec<&Record> = Vec::new();
        for record in ran().filter(|record| record.version.as_str().starts_with(given)) {
            if !found.iter().any(|other| other.version == record.version) {
                found.push(record);
            }
        }
        match found.as_slice() {
            [record] if Some(&record.version) == live => Err(RollbackError::Live { version: record.version.clone() }),
            [record] => Ok(record),
            [] => Err(RollbackError::Unknown { given: given.to_owned(), kept: versions(ran()) }),
            several => {
                Err(RollbackError::Ambiguous { given: given.to_owned(), found: versions(several.iter().copied()) })
            }
        }
    }
}

impl FromIterator<Record> for History {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        Self(records.into_iter().collect())
    }
}

fn versions<'a>(records: impl Iterator<Item = &'a Record>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        if !names.contains(&record.version.as_str()) {
            names.push(record.version.as_str());
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Action;

    fn version(text: &str) -> Version {
        Version::try_from(format!("{text:0<12}")).unwrap()
    }

    fn history(actions: &[(Action, &str)]) -> History {
        let mut history = History::default();
        for (action, text) in actions {
            let record = Record {
                number: history.next_number(),
                action: *action,
                version: version(text),
                digest: String::new(),
                at_ms: 0,
                bytes: 0,
                functions: Vec::new(),
                grants: Vec::new(),
                capabilities: Vec::new(),
                added: Vec::new(),
                message: None,
            };
            history.push(record);
        }
        history
    }

    use Action::{Deploy, Rollback, Stop};

    #[test]
    fn one_goes_back_to_the_version_before_this_one() {
        let to = |actions: &[(Action, &str)]| history(actions).rollback(None).map(|record| record.version.clone());
        assert_eq!(to(&[(Deploy, "a")]), Err(RollbackError::NoEarlier));
        assert_eq!(to(&[(Deploy, "a"), (Deploy, "b")]), Ok(version("a")));
        assert_eq!(to(&[(Deploy, "a"), (Deploy, "b"), (Deploy, "b")]), Ok(version("a")));
        // A second rollback is the way forward again.
        assert_eq!(to(&[(Deploy, "a"), (Deploy, "b"), (Rollback, "a")]), Ok(version("b")));
        // A stopped app runs again.
        assert_eq!(to(&[(Deploy, "a"), (Deploy, "b"), (Stop, "b")]), Ok(version("b")));
    }

    #[test]
    fn a_version_is_named_by_its_beginning() {
        let history = history(&[(Deploy, "aa"), (Deploy, "ab"), (Deploy, "c"), (Rollback, "aa"), (Deploy, "c")]);
        assert_eq!(history.rollback(Some("aa")).unwrap().version, version("aa"));
        assert!(matches!(history.rollback(Some("a")), Err(RollbackError::Ambiguous { .. })));
        assert!(matches!(history.rollback(Some("c")), Err(RollbackError::Live { .. })));
        let unknown = history.rollback(Some("ff")).unwrap_err().to_string();
        assert!(unknown.contains("c00000000000, aa0000000000, ab0000000000"), "{unknown}");
    }

    #[test]
    fn old_records_go_and_numbers_go_on() {
        let mut history = history(&[(Deploy, "a"); RECORDS_MAX]);
        let next = Record { number: history.next_number(), ..history.last().unwrap().clone() };
        assert_eq!(history.push(next).unwrap().number, 1);
        assert_eq!(history.next_number(), RECORDS_MAX as u64 + 2);
    }
}
