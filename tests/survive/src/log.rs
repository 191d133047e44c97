//! The client's log: every acknowledgement, with fsync before its next step.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bireme::ids::{CallId, MapId};
use serde::{Deserialize, Serialize};

use super::function::{Function, Outcome};

/// One line. `kills` is how many there had been when the client first asked for what was acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum Line {
    Map {
        id: MapId,
        function: Function,
    },
    Inputs {
        map: MapId,
        from: u64,
        numbers: Vec<u64>,
        kills: u64,
    },
    Closed {
        map: MapId,
    },
    /// Written before the request: it may take effect without an answer.
    AskedCancelMap {
        map: MapId,
    },
    CancelledMap {
        map: MapId,
        state: String,
    },
    /// Likewise, once for each request.
    AskedRetry {
        map: MapId,
    },
    Retried {
        map: MapId,
    },
    Call {
        id: CallId,
        function: Function,
        n: u64,
        kills: u64,
    },
    AskedCancel {
        call: CallId,
    },
    Cancelled {
        call: CallId,
        outcome: Outcome,
    },
    /// Result read while the map ran.
    SawResult {
        map: MapId,
        index: u64,
        outcome: Outcome,
    },
    SawCall {
        call: CallId,
        outcome: Outcome,
    },
    /// The client got an answer that nothing explains.
    Odd {
        answer: String,
    },
    Killed {
        by: String,
    },
}

/// The file, which the client and the killer share.
pub(crate) struct Log {
    path: PathBuf,
    file: Mutex<File>,
}

impl Log {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    pub(crate) fn write(&self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text)?;
        file.sync_data()
    }

    /// Reads it from the start, as a checker that knows nothing else.
    pub(crate) fn read(&self) -> io::Result<Vec<Line>> {
        let text = std::fs::read_to_string(&self.path)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
