//! Kind of a write, by how much of the disk it may use.

use crate::limits::{STORE_FREE_BYTES_MIN, STORE_RESERVE_BYTES_MIN};

/// How much of the disk a write may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// New work: refused while less than [`STORE_FREE_BYTES_MIN`] is free.
    New,
    /// What work that runs already must leave behind, its results above all: refused below [`STORE_RESERVE_BYTES_MIN`].
    Essential,
    /// What makes room, or ends work: deletes, stops, rollbacks, the epoch of a start. Uses the reserve, and is refused
    /// only where that is not enough.
    Relief,
}

impl Write {
    pub(super) fn has_room(self, free_bytes: u64) -> bool {
        match self {
            Self::New => free_bytes >= STORE_FREE_BYTES_MIN,
            Self::Essential => free_bytes >= STORE_RESERVE_BYTES_MIN,
            Self::Relief => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_may_use_what_new_work_may_not() {
        let cases = [
            (u64::MAX, true, true),
            (STORE_FREE_BYTES_MIN, true, true),
            (STORE_FREE_BYTES_MIN - 1, false, true),
            (STORE_RESERVE_BYTES_MIN, false, true),
            (STORE_RESERVE_BYTES_MIN - 1, false, false),
            (0, false, false),
        ];
        for (free_bytes, new, essential) in cases {
            assert_eq!(Write::New.has_room(free_bytes), new, "{free_bytes}");
            assert_eq!(Write::Essential.has_room(free_bytes), essential, "{free_bytes}");
            assert!(Write::Relief.has_room(free_bytes));
        }
    }
}
