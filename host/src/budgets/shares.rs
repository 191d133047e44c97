//! Division of one budget between holders. A plain decider.

use std::collections::HashMap;
use std::hash::Hash;

/// Part of a budget that is reserved: one in four.
const RESERVE: u64 = 4;

/// One budget and the amounts that holders hold of it.
///
/// Invariant: as long as amounts are only taken where [`has_room`](Self::has_room) allows it and the number of holders
/// stays, each holder can take up to its share, whatever the others did.
#[derive(Debug)]
pub(crate) struct Shares<T> {
    capacity: u64,
    /// Reserved for each holder.
    share: u64,
    holders: usize,
    used: u64,
    /// Of the reserve, the part in use: the sum of `min(held, share)`.
    reserve_used: u64,
    held: HashMap<T, u64>,
}

impl<T: Clone + Eq + Hash> Shares<T> {
    pub(crate) fn new(capacity: u64, holders: usize) -> Self {
        let mut shares = Self { capacity, share: 0, holders: 0, used: 0, reserve_used: 0, held: HashMap::new() };
        shares.set_holders(holders);
        shares
    }

    /// Divides the reserve between another number of holders; amounts that are held stay.
    pub(crate) fn set_holders(&mut self, holders: usize) {
        if holders == self.holders {
            return;
        }
        self.holders = holders;
        self.share = self.capacity / RESERVE / holders.max(1) as u64;
        self.reserve_used = self.held.values().map(|held| held.min(&self.share)).sum();
    }

    /// Whether a holder may take `amount` more: within its share, or of the part that nobody has reserved.
    pub(crate) fn has_room(&self, holder: &T, amount: u64) -> bool {
        amount <= self.room(holder)
    }

    /// Returns the amount that a holder may take now.
    pub(crate) fn room(&self, holder: &T) -> u64 {
        let own_share = self.share.saturating_sub(self.held(holder));
        // Holders beyond the number, such as an app that was just retired, use the reserve up together with the others.
        let reserve_left = (self.share * self.holders as u64).saturating_sub(self.reserve_used);
        let unreserved = self.free().saturating_sub(reserve_left.saturating_sub(own_share));
        // Also where others were let over the budget.
        own_share.min(reserve_left).max(unreserved)
    }

    /// Adds to the amount of a holder, whether there is room or not.
    pub(crate) fn take(&mut self, holder: &T, amount: u64) {
        if amount == 0 {
            return;
        }
        let share = self.share;
        self.used = self.used.saturating_add(amount);
        let held = match self.held.get_mut(holder) {
            Some(held) => held,
            None => self.held.entry(holder.clone()).or_default(),
        };
        let before = (*held).min(share);
        *held = held.saturating_add(amount);
        self.reserve_used += (*held).min(share) - before;
    }

    /// Subtracts from the amount of a holder.
    pub(crate) fn give_back(&mut self, holder: &T, amount: u64) {
        let Some(held) = self.held.get_mut(holder) else { return };
        let amount = amount.min(*held);
        let before = (*held).min(self.share);
        *held -= amount;
        self.reserve_used -= before - (*held).min(self.share);
        self.used -= amount;
        if *held == 0 {
            self.held.remove(holder);
        }
    }

    /// Returns the amount that a holder holds.
    pub(crate) fn held(&self, holder: &T) -> u64 {
        self.held.get(holder).copied().unwrap_or(0)
    }

    /// Returns the amount in use. It exceeds the budget by what was taken without room.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Returns the amount that no holder holds.
    pub(crate) fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    /// Returns the whole budget.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(shares: &mut Shares<u8>, holder: u8, amount: u64) -> bool {
        let has_room = shares.has_room(&holder, amount);
        if has_room {
            shares.take(&holder, amount);
        }
        has_room
    }

    fn most(shares: &mut Shares<u8>, holder: u8) -> u64 {
        (0..).take_while(|_| take(shares, holder, 1)).count() as u64
    }

    #[test]
    fn one_holder_takes_everything_but_the_shares_of_the_others() {
        let mut alone = Shares::new(1_000, 1);
        assert_eq!(most(&mut alone, 0), 1_000);
        let mut shares = Shares::new(1_000, 5);
        assert_eq!(most(&mut shares, 0), 800);
        assert_eq!((1..5).map(|holder| most(&mut shares, holder)).collect::<Vec<_>>(), [50; 4]);
        assert_eq!(shares.free(), 0);
    }

    #[test]
    fn a_holder_that_is_not_counted_takes_no_share_of_another() {
        let mut shares = Shares::new(100, 1);
        assert_eq!(most(&mut shares, 9), 100);
        let mut shares = Shares::new(100, 2);
        most(&mut shares, 0);
        most(&mut shares, 1);
        assert!(!take(&mut shares, 2, 1));
    }

    #[test]
    fn a_new_number_of_holders_divides_the_reserve_anew() {
        let mut shares = Shares::new(1_000, 2);
        assert_eq!(most(&mut shares, 0), 875);
        shares.set_holders(10);
        assert!(!shares.has_room(&0, 1));
        assert_eq!(most(&mut shares, 1), 25);
    }

    proptest! {
        /// Each holder can always take up to its share; amounts add up, and all of them come back.
        #[test]
        fn no_holder_takes_the_share_of_another(
            capacity in 1_u64..2_000,
            holders in 1_u8..12,
            steps in proptest::collection::vec((0_u8..12, 1_u64..300, any::<bool>()), 0..200),
        ) {
            let mut shares = Shares::new(capacity, holders.into());
            let mut model: HashMap<u8, u64> = HashMap::new();
            for (holder, amount, is_taken) in steps {
                let holder = holder % holders;
                let held = model.entry(holder).or_default();
                if is_taken {
                    *held += if take(&mut shares, holder, amount) { amount } else { 0 };
                } else {
                    let amount = amount.min(*held);
                    shares.give_back(&holder, amount);
                    *held -= amount;
                }
                prop_assert_eq!(shares.used(), model.values().sum::<u64>());
                prop_assert!(shares.used() <= capacity);
                let within: u64 = model.values().map(|held| held.min(&shares.share)).sum();
                prop_assert_eq!(shares.reserve_used, within);
                for holder in 0..holders {
                    let left = shares.share.saturating_sub(shares.held(&holder));
                    prop_assert!(shares.has_room(&holder, left), "holder {} of {:?}", holder, shares);
                }
            }
            for (holder, held) in model {
                shares.give_back(&holder, held);
            }
            prop_assert_eq!((shares.used(), shares.reserve_used, shares.held.len()), (0, 0, 0));
        }
    }
}
