//! Row of a chunk's lease.

use super::codec::{CodecError, Reader, put_u64};
use crate::ids::HostId;
use crate::storage::{Lease, LeaseHolder};

/// Layout of a lease without a holder, as formats 1 and 2 of the data directory have it.
const PLAIN: u8 = 1;
/// The same, followed by its holder.
const WITH_HOLDER: u8 = 2;

pub(crate) fn encode(lease: Lease) -> Vec<u8> {
    let mut row = vec![if lease.holder.is_some() { WITH_HOLDER } else { PLAIN }, u8::from(lease.is_leased)];
    put_u64(&mut row, u64::from(lease.lost));
    put_u64(&mut row, u64::from(lease.len));
    if let Some(LeaseHolder { owner, epoch }) = lease.holder {
        row.extend_from_slice(owner.as_bytes());
        put_u64(&mut row, epoch);
    }
    row
}

pub(crate) fn decode(row: Vec<u8>) -> Result<Lease, CodecError> {
    let mut reader = Reader::new(row);
    let has_holder = match reader.byte()? {
        PLAIN => false,
        WITH_HOLDER => true,
        _ => return Err(CodecError("a lease is of an unknown format")),
    };
    let mut lease = Lease { is_leased: reader.byte()? != 0, lost: reader.u32()?, len: reader.u32()?, holder: None };
    if has_holder {
        let owner = reader.take(16)?.as_ref().try_into().map_err(|_| CodecError("the id of a host is short"))?;
        lease.holder = Some(LeaseHolder { owner: HostId::from_bytes(owner), epoch: reader.u64()? });
    }
    if reader.is_empty() { Ok(lease) } else { Err(CodecError("a lease is followed by more")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_names_its_holder_and_one_of_format_2_has_none() {
        let holder = LeaseHolder { owner: HostId::generate(), epoch: 1 << 40 };
        let lease = Lease { is_leased: true, lost: 3, len: 1_024, holder: None };
        assert_eq!(encode(lease), [1, 1, 3, 0x80, 8], "the row of format 2");
        let held = Lease { holder: Some(holder), ..lease };
        let row = encode(held);
        assert_eq!(decode(row.clone()), Ok(held));
        for cut in 0..row.len() {
            assert!(decode(row[..cut].to_vec()).is_err(), "{cut}");
        }
    }
}
