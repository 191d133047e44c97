//! Promises of the traits on the engine in memory, and what it alone has: several hosts, and faults.

use super::*;
use crate::storage::conformance::{self, Engine};

/// An engine without faults.
struct Plain(Memory);

fn plain() -> Plain {
    Plain(Memory::new())
}

impl Engine for Plain {
    async fn fresh(&self) -> Storage {
        self.0.host("host")
    }

    async fn restart(&self, _earlier: Storage) -> Storage {
        self.0.host("host")
    }

    async fn overtake(&self, _earlier: &Storage) -> Storage {
        self.0.host("host")
    }
}

conformance::run_all!(plain());
