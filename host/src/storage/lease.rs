//! Lease: the right of one host to run a call or the inputs of a chunk.

use serde::{Deserialize, Serialize};

use crate::ids::HostId;

/// Host that holds a lease. A later start has a higher epoch, and an engine refuses writes of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    pub owner: HostId,
    /// Fencing token: the number of this start among all that joined the engine.
    pub epoch: u64,
}

/// Lease of a pending chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Its inputs may have begun.
    pub is_leased: bool,
    /// Times that the host died while it was leased.
    pub lost: u32,
    pub len: u32,
    /// None if it is not leased, or was by a host of format 1 or 2. The engine fills it in.
    pub holder: Option<LeaseHolder>,
}

/// Pending chunk: at least one input has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingChunk {
    pub first: u64,
    pub lease: Lease,
}

impl Lease {
    /// Returns it as `holder` takes it: a lease of another host has been lost, its own is kept.
    pub(crate) fn taken_by(self, holder: LeaseHolder) -> Self {
        let is_lost = self.is_leased && self.holder != Some(holder);
        Self { is_leased: true, lost: self.lost + u32::from(is_lost), holder: Some(holder), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_another_host_held_has_been_lost() {
        let [one, other] = [1, 2].map(|epoch| LeaseHolder { owner: HostId::generate(), epoch });
        let free = Lease { len: 7, ..Lease::default() };
        let held = free.taken_by(one);
        assert_eq!(held, Lease { is_leased: true, lost: 0, len: 7, holder: Some(one) });
        assert_eq!(held.taken_by(one), held, "an answer that was lost");
        assert_eq!(held.taken_by(other), Lease { lost: 1, holder: Some(other), ..held });
        let of_format_2 = Lease { is_leased: true, ..free };
        assert_eq!(of_format_2.taken_by(one).lost, 1);
    }
}
