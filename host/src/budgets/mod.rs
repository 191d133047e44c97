//! Budgets of resources that all apps of a host share: memory, waiting calls, slots.
//!
//! A quarter of each budget is reserved, in equal shares, for the apps, the host itself and the next app to be
//! deployed; the rest goes to the first that asks. So one app may use idle resources, never the share of another.
//! [`Shares`] decides; [`ByteBudget`] drives it for bytes.

mod byte_budget;
mod memory_plan;
mod shares;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use self::byte_budget::{ByteBudget, Reservation, Scope};
pub(crate) use self::memory_plan::{MEMORY_MIN, MemoryPlan, machine_bytes};
pub(crate) use self::shares::Shares;
use crate::ids::AppName;

/// Holder of a part of a budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// An app: its functions, and their callers.
    App(AppName),
    /// The operator, and clients of the models.
    Host,
}

impl From<&AppName> for Holder {
    fn from(app: &AppName) -> Self {
        Self::App(app.clone())
    }
}

/// Budgets of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    /// Sizes of the budgets.
    pub plan: MemoryPlan,
    pub(crate) holders: HolderCount,
    /// Memories of running calls, and answers that clients have not read.
    pub(crate) sandboxes: ByteBudget,
    /// Request bodies.
    pub(crate) bodies: ByteBudget,
    /// Inputs and outcomes of maps.
    pub(crate) maps: ByteBudget,
}

impl Budgets {
    /// Makes the budgets of a host without apps.
    pub(crate) fn new(plan: MemoryPlan) -> Self {
        let holders = HolderCount::default();
        let budget = |bytes| ByteBudget::new(bytes, holders.clone());
        let (sandboxes, bodies, maps) = (budget(plan.sandboxes), budget(plan.bodies), budget(plan.maps));
        Self { plan, holders, sandboxes, bodies, maps }
    }
}

/// Number of holders, shared by all budgets of a host. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct HolderCount(Arc<AtomicUsize>);

impl HolderCount {
    /// A budget of one holder, without shares.
    #[cfg(test)]
    pub(crate) fn single() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }

    /// Sets the number of deployed apps.
    pub(crate) fn set_apps(&self, apps: usize) {
        self.0.store(apps, Ordering::Relaxed);
    }

    /// Holders to reserve for: the apps, the host, and the next app to be deployed.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed).wrapping_add(2)
    }
}
