//! Promises of the storage traits on a data directory.

use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::{StoreDir, engine};
use crate::storage::Storage;
use crate::storage::conformance::{self, Engine};
use crate::storage::memory::Memory;

/// Engine of a temporary data directory.
struct Directory {
    path: tempfile::TempDir,
    /// Directory of the latest start.
    open: Mutex<Option<Arc<StoreDir>>>,
}

fn directory() -> Directory {
    Directory { path: tempfile::tempdir().unwrap(), open: Mutex::default() }
}

impl Directory {
    fn start(&self) -> Storage {
        let dir = Arc::new(StoreDir::new(self.path.path()));
        *self.open.lock() = Some(dir.clone());
        engine(dir, None)
    }
}

impl Engine for Directory {
    async fn fresh(&self) -> Storage {
        self.start()
    }

    async fn restart(&self, earlier: Storage) -> Storage {
        // The lock of the directory goes with the last that has it open.
        drop((earlier, self.open.lock().take()));
        self.start()
    }

    async fn overtake(&self, _earlier: &Storage) -> Storage {
        // A directory is locked against another process; within this one, both starts write through one store.
        engine(self.open.lock().clone().expect("the earlier start is open"), None)
    }
}

conformance::run_all!(directory());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_data_directory_answers_as_memory_does(steps in conformance::steps(false)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(conformance::agree(&Memory::new(), &directory(), &steps));
    }
}
