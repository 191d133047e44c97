//! Lease: the right of one host to run a call or the inputs of a chunk, and the row of a chunk's lease.

use serde::{Deserialize, Serialize};

use super::codec::{DamagedRow, Reader, put_u64};
use crate::ids::HostId;

/// Layout of a lease without a holder, as formats 1 and 2 of the data directory have it.
const PLAIN: u8 = 1;
/// The same, followed by its holder.
const WITH_HOLDER: u8 = 2;

/// Host that holds a lease. A later host has a higher epoch, and the journal refuses writes of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    pub owner: HostId,
    /// Fencing token: the number of this start among all that took up the journal.
    pub epoch: u64,
}

/// Lease of a chunk of which some input has no outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its inputs may have begun.
    pub is_leased: bool,
    /// Times that the host died while it was leased.
    pub lost: u32,
    pub len: u32,
    /// None if it is not leased, or was by a host of format 1 or 2. The journal fills it in.
    pub holder: Option<LeaseHolder>,
}

impl Lease {
    pub fn encode(self) -> Vec<u8> {
        let mut row = vec![if self.holder.is_some() { WITH_HOLDER } else { PLAIN }, u8::from(self.is_leased)];
        put_u64(&mut row, u64::from(self.lost));
        put_u64(&mut row, u64::from(self.len));
        if let Some(LeaseHolder { owner, epoch }) = self.holder {
            row.extend_from_slice(owner.as_bytes());
            put_u64(&mut row, epoch);
        }
        row
    }

    pub fn decode(row: Vec<u8>) -> Result<Self, DamagedRow> {
        let mut reader = Reader::new(row);
        let has_holder = match reader.byte()? {
            PLAIN => false,
            WITH_HOLDER => true,
            _ => return Err(DamagedRow("a lease is of an unknown format")),
        };
        let mut lease = Self { is_leased: reader.byte()? != 0, lost: reader.u32()?, len: reader.u32()?, holder: None };
        if has_holder {
            let owner = reader.take(16)?.as_ref().try_into().map_err(|_| DamagedRow("the id of a host is short"))?;
            lease.holder = Some(LeaseHolder { owner: HostId::from_bytes(owner), epoch: reader.u64()? });
        }
        if reader.is_empty() { Ok(lease) } else { Err(DamagedRow("a lease is followed by more")) }
    }

    /// Returns it as it is once it is leased by a host that has just found it: a lease from before has been lost.
    pub fn taken(self) -> Self {
        Self { is_leased: true, lost: self.lost + u32::from(self.is_leased), ..self }
    }

    /// Returns it with `holder`, if it is leased at all.
    pub(super) fn held_by(self, holder: Option<LeaseHolder>) -> Self {
        Self { holder: holder.filter(|_| self.is_leased), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_found_has_been_lost() {
        let lease = Lease { is_leased: false, lost: 0, len: 7, holder: None };
        let lease = lease.taken();
        assert_eq!(lease, Lease { is_leased: true, lost: 0, len: 7, holder: None });
        let lost = Lease { is_leased: true, lost: 1, len: 7, holder: None };
        assert_eq!(Lease::decode(lease.taken().encode()), Ok(lost));
    }

    #[test]
    fn a_lease_names_its_holder_and_one_of_format_2_has_none() {
        let holder = LeaseHolder { owner: HostId::generate(), epoch: 1 << 40 };
        let lease = Lease { is_leased: true, lost: 3, len: 1_024, holder: None };
        assert_eq!(lease.encode(), [1, 1, 3, 0x80, 8], "the row of format 2");
        let held = lease.held_by(Some(holder));
        let row = held.encode();
        assert_eq!(Lease::decode(row.clone()), Ok(held));
        for cut in 0..row.len() {
            assert!(Lease::decode(row[..cut].to_vec()).is_err(), "{cut}");
        }
        let free = Lease { is_leased: false, ..lease };
        assert_eq!(free.held_by(Some(holder)), free);
    }
}
