//! Spreads: at each beat the publisher gives every list that has one its next share of entries, in a random order, before it
//! looks for what changed. The store keeps how far each is, so another publisher goes on where this one stopped.

use super::PoolPublisher;
use crate::allocate::Permutation;
use crate::status_list::{Capacity, Index, ListId};
use crate::store::{SPREAD_STEP_MAX, Spread, StoreError};

impl PoolPublisher {
    /// Advances every spread of the pool by one beat, if it is ours to publish.
    pub async fn advance_spreads(&self) {
        if let Err(error) = self.try_advance_spreads().await {
            tracing::error!(pool = %self.pool.shape.id, %error, "cannot advance the spreads; going on at the next beat");
        }
    }

    async fn try_advance_spreads(&self) -> Result<(), StoreError> {
        if self.lease.take(self.clock.now()).await?.is_none() {
            return Ok(());
        }
        for list in self.store.spreading(&self.pool.shape.id).await? {
            if let Some(spread) = list.spread {
                self.advance(list.id, spread).await?;
            }
        }
        Ok(())
    }

    /// One share, in steps between which others are let in.
    async fn advance(&self, list: ListId, mut spread: Spread) -> Result<(), StoreError> {
        let capacity = self.pool.shape.capacity;
        let share = entries(&spread, capacity);
        for step in share.chunks(SPREAD_STEP_MAX) {
            if !self.store.advance_spread(list, &spread, step, self.clock.now()).await? {
                // It was completed or replaced meanwhile, or another instance publishes.
                return Ok(());
            }
            spread = spread.advanced(step);
        }
        let (pool, done, of) = (&self.pool.shape.id, spread.done, capacity.entries());
        tracing::debug!(%pool, list.id = %list, done, of, "advanced the spread of a list");
        Ok(())
    }
}

/// The entries of the next share, in the order of the spread.
fn entries(spread: &Spread, capacity: Capacity) -> Vec<Index> {
    let order = Permutation::new(spread.key, capacity.entries());
    let positions = spread.done..spread.after_beat(capacity);
    positions.filter_map(|position| capacity.index(order.index(position).into()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::status_list::{Bits, Status};

    #[test]
    fn shares_are_of_every_entry_once_and_in_no_visible_order() {
        let capacity = Capacity::new(100_000, Bits::One).unwrap();
        let mut spread = Spread { value: Status::INVALID, beats: 7, key: [3; 16], done: 0 };
        let mut seen = HashSet::new();
        for _ in 0..7 {
            let share = entries(&spread, capacity);
            let half = share.iter().filter(|index| index.get() < 50_000).count();
            assert!(half.abs_diff(share.len() / 2) < 500, "{half} of {} in the first half", share.len());
            spread = spread.advanced(&share);
            seen.extend(share);
        }
        assert_eq!((seen.len(), spread.done), (100_000, 100_000));
        assert!(entries(&spread, capacity).is_empty());
    }
}
