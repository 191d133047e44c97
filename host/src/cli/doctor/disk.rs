//! Space on disk: what is free within the database's file, and its return to the disk.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bytesize::ByteSize;
use serde_json::json;

use super::check::Check;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::storage::StorageError;
use crate::store::{FileSpace, OfflineDatabase, file_space};

const NAME: &str = "database";
const COMPACT: &str = "bireme doctor --compact";
/// Free part of the file over which compaction is worth a line: half of it, and this many bytes.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Looks at the free space in the database's file.
pub(crate) fn check(data: &Path) -> Option<Check> {
    match file_space(data) {
        Ok(space) => space.map(report),
        // The check of the journal says why.
        Err(_) => None,
    }
}

fn report(FileSpace { allocated_bytes, free_bytes }: FileSpace) -> Check {
    let (size, free) = (ByteSize::b(allocated_bytes), ByteSize::b(free_bytes));
    let detail = format!("{size} on disk, {free} of it free for new rows");
    match free_bytes >= FREE_BYTES_MIN && free_bytes > allocated_bytes / 2 {
        true => Check::warning(NAME, detail, COMPACT),
        false => Check::ok(NAME, detail),
    }
}

/// Gives the free space in the database's file back to the disk. Refused while a host has the directory.
pub(crate) fn compact(data: &Path, is_json: bool) -> Result<(), Exit> {
    let Some(database) = OfflineDatabase::open(data).map_err(StorageError::from)? else {
        return say(is_json, 0, 0);
    };
    let before = database.allocated_bytes();
    let path = data.to_owned();
    let (done, ended) = mpsc::channel::<()>();
    let progress = std::thread::spawn(move || {
        while ended.recv_timeout(PROGRESS_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
            let size = crate::store::database_bytes(&path).unwrap_or_default();
            output::note(&format!("compacting: {} of {} left", ByteSize::b(size), ByteSize::b(before)));
        }
    });
    let compacted = database.compact();
    drop(done);
    // It prints, and cannot fail.
    let _ = progress.join();
    compacted.map_err(StorageError::from)?;
    say(is_json, before, crate::store::database_bytes(data)?)
}

fn say(is_json: bool, before: u64, after: u64) -> Result<(), Exit> {
    output::line(&match is_json {
        true => json!({ "before_bytes": before, "after_bytes": after }).to_string(),
        false => format!("the database takes {} of the disk; it took {}", ByteSize::b(after), ByteSize::b(before)),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_file_that_is_mostly_free_is_worth_compacting() {
        let status = |allocated_bytes, free_bytes| report(FileSpace { allocated_bytes, free_bytes }).status;
        assert_eq!(status(1 << 30, 600 << 20), Status::Warning);
        assert_eq!(status(1 << 30, 500 << 20), Status::Ok);
        assert_eq!(status(100 << 20, 99 << 20), Status::Ok, "little is won");
    }
}
