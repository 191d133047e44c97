//! Quota of an app: whether changes keep it within what it may keep on disk.

use std::borrow::Cow;

use super::op::Op;
use super::usage::CountedRow;
use super::view::{View, ViewError};
use crate::ids::AppName;
use crate::storage::OverQuota;

/// Returns the refusal of changes that would take an app over its quota. What keeps no more than before is never
/// refused.
pub(crate) fn over_quota(
    view: &View<'_>,
    app: &AppName,
    changes: &[Cow<'_, [Op]>],
) -> Result<Option<OverQuota>, ViewError> {
    let (used_bytes, quota_bytes) = (view.used_bytes(app), view.quota_bytes());
    let added: u64 = changes.iter().flat_map(|ops| ops.iter()).map(|op| op.bytes() as u64).sum();
    // The exact growth takes a look at each row that is replaced, so it is asked for near the quota alone.
    if used_bytes.saturating_add(added) <= quota_bytes {
        return Ok(None);
    }
    let mut growth = 0_i64;
    for op in changes.iter().flat_map(|ops| ops.iter()) {
        growth = growth.saturating_add(growth_of(view, op)?);
    }
    let fits = growth <= 0 || used_bytes.saturating_add_signed(growth) <= quota_bytes;
    Ok((!fits).then(|| OverQuota { app: app.clone(), used_bytes, quota_bytes }))
}

/// Returns how many bytes a change adds to what its app keeps.
fn growth_of(view: &View<'_>, op: &Op) -> Result<i64, ViewError> {
    let before = |table, key: &[u8]| -> Result<i64, ViewError> {
        let row = view.get(table, key)?;
        Ok(row.map_or(0, |row| CountedRow::of(table, key, &row).bytes().cast_signed()))
    };
    Ok(match op {
        Op::Put { table, key, value } => {
            let after = CountedRow::of(*table, key, value).bytes();
            after.cast_signed().saturating_sub(before(*table, key)?)
        }
        Op::Delete { table, key } => -before(*table, key)?,
        Op::Decide(decider) => {
            let mut growth = 0_i64;
            for op in decider.decide(view)?.iter().flat_map(|ops| ops.iter()) {
                growth = growth.saturating_add(growth_of(view, op)?);
            }
            growth
        }
    })
}
