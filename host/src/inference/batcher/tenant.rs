//! Tenants: their share of a device, and the service that they had so far.

use crate::wire::ModelId;

/// In one of this many turns of a tenant its oldest request goes first, of any priority.
const AGING: u32 = 4;
/// Cost of a token to a tenant of weight 1; a weight divides it.
pub(super) const TOKEN_COST: u64 = 1 << 16;
/// The largest weight.
pub(crate) const WEIGHT_MAX: u32 = 1_000;

/// A tenant, by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TenantId(pub u32);

pub(super) struct Tenant {
    weight: u32,
    /// Tokens served, times [`TOKEN_COST`], over the weight.
    pub served: u64,
    /// Sub-requests that wait.
    pub waiting: usize,
    /// Models that it has a queue for.
    pub models: Vec<ModelId>,
    turns: u32,
}

impl Tenant {
    pub(crate) fn new(weight: u32) -> Self {
        Self { weight: weight.clamp(1, WEIGHT_MAX), served: 0, waiting: 0, models: Vec::new(), turns: 0 }
    }

    /// Whether its oldest request has the next turn, of any priority.
    pub(crate) fn is_oldest_first(&self) -> bool {
        self.turns % AGING == AGING - 1
    }

    /// Counts a turn in which it was served this many tokens.
    pub(crate) fn charge(&mut self, tokens: usize) {
        self.turns = self.turns.wrapping_add(1);
        self.served = self.served.saturating_add(tokens as u64 * TOKEN_COST / u64::from(self.weight));
    }
}
