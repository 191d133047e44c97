//! Durable calls and maps on disk: rows in quarantine, their export and removal.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::check::Check;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::storage::StorageError;
use crate::store::{Quarantined, QuarantinedRow, StoreDir, StoreJournal, has_database, peek_quarantine};

const NAME: &str = "journal";
const REPAIR: &str = "bireme doctor --repair --export DIR";
const EXPORT: &str = "quarantine.jsonl";

/// Looks for rows in quarantine. A directory that a host has is left to it.
pub(crate) fn check(data: &Path) -> Option<Check> {
    if !has_database(data) {
        return None;
    }
    Some(match peek_quarantine(data) {
        Ok(Quarantined::Rows(rows)) if rows.is_empty() => Check::ok(NAME, "every row that was read is whole"),
        Ok(Quarantined::Rows(rows)) => Check::warning(NAME, summary(&rows), REPAIR),
        Ok(Quarantined::InUse { process }) => {
            let dir = data.display();
            Check::ok(NAME, format!("`{dir}` is in use by process {process}; its /metrics count rows in quarantine"))
        }
        Err(error) => {
            let detail = match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            Check::warning(NAME, detail, "start and stop a host once; it repairs the file")
        }
    })
}

fn summary(rows: &[QuarantinedRow]) -> String {
    let owners: BTreeSet<String> = rows
        .iter()
        .map(|row| row.owner.map_or_else(|| format!("a row of `{}`", row.table), |owner| owner.to_string()))
        .collect();
    let owners = Vec::from_iter(owners).join(", ");
    let reasons: BTreeSet<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
    format!("in quarantine, neither run nor shown: {owners} ({})", Vec::from_iter(reasons).join("; "))
}

/// Writes what is in quarantine to a new file in `export`, then removes it. Refused while a host has the directory.
pub(crate) fn repair(data: &Path, export: &Path, is_json: bool) -> Result<(), Exit> {
    if !has_database(data) {
        return say(is_json, 0, None);
    }
    let dir = Arc::new(StoreDir::new(data));
    dir.open_now().map_err(StorageError::from)?;
    let journal = StoreJournal::new(dir);
    if journal.quarantined_rows()?.is_empty() {
        return say(is_json, 0, None);
    }
    let (count, path) = write_rows(&journal, export)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(journal.clear_quarantine())?;
    say(is_json, count, Some(&path))
}

/// Returns once the rows are on disk: what is removed next must be there.
fn write_rows(journal: &StoreJournal, export: &Path) -> Result<(usize, PathBuf), Exit> {
    fs::create_dir_all(export)?;
    let path = export.join(EXPORT);
    let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Exit::from(error).hint("it holds rows of an earlier repair; give another directory with --export DIR")
        }
        _ => error.into(),
    })?;
    let mut out = BufWriter::new(file);
    let mut count = 0;
    journal.export_quarantine(|row| -> Result<(), Exit> {
        count += 1;
        serde_json::to_writer(&mut out, &line(row)).map_err(io::Error::from)?;
        Ok(out.write_all(b"\n")?)
    })?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    File::open(export)?.sync_all()?;
    Ok((count, path))
}

fn line(row: &QuarantinedRow) -> serde_json::Value {
    json!({
        "owner": row.owner.map(|owner| owner.to_string()),
        "table": row.table,
        "key": hex::encode(&row.key),
        "reason": row.reason,
        "at_ms": row.at_ms,
        "row": BASE64_STANDARD.encode(&row.row),
    })
}

fn say(is_json: bool, rows: usize, path: Option<&Path>) -> Result<(), Exit> {
    output::line(&match path {
        _ if is_json => json!({ "removed": rows, "export": path }).to_string(),
        Some(path) => format!("{} written to {} and removed", output::counted(rows, "row"), path.display()),
        None => "nothing is in quarantine".to_owned(),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_directory_without_a_database_has_nothing_to_look_at_or_to_repair() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert!(check(&data).is_none());
        repair(&data, &dir.path().join("export"), true).unwrap();
        assert!(!data.exists() && !dir.path().join("export").exists());
    }

    #[test]
    fn a_directory_in_use_is_left_to_its_host() {
        let dir = tempfile::tempdir().unwrap();
        let host = StoreDir::new(dir.path());
        host.open_now().unwrap();
        let found = check(dir.path()).unwrap();
        assert_eq!(found.status, Status::Ok);
        assert!(found.detail.contains("in use by process"), "{}", found.detail);
        assert!(repair(dir.path(), &dir.path().join("export"), true).is_err());
        drop(host);
        assert_eq!(check(dir.path()).unwrap().detail, "every row that was read is whole");
    }
}
